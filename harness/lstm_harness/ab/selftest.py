"""A against A: the false alarms, each case's own noise, and the slowdown that can be told from it.

Both sides are the same kernels, measured and judged as `ab` does, but by no noise that an earlier
selftest kept: what it finds must not hang on what it found. Whatever it flags is false.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.special import nctdtrinc, stdtrit

import lstm_kernels
from lstm_harness.ab.revisions import Revision
from lstm_harness.analysis.statistics import half_width
from lstm_harness.judge.confirm import FLAGGED
from lstm_harness.judge.verdict import Rules, Verdict

# How surely a slowdown that is called resolvable is found.
POWER = 0.95


@dataclass(frozen=True)
class CaseNoise:
    """One case's: `difference` of A from A, and `resolvable`, both as ratios less one."""

    verdict: Verdict
    difference: float
    resolvable: float


def same_kernels() -> tuple[Revision, Revision]:
    """The kernels that are installed here, twice."""
    root = Path(lstm_kernels.__path__[0]).resolve().parent
    installed = Revision("these kernels", None, root)
    return installed, installed


def false_alarms(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """What was called slower or faster, in time or in memory, and cannot be."""
    return [verdict for verdict in verdicts if verdict.kind in FLAGGED]


def noise_of(verdicts: Sequence[Verdict], rules: Rules) -> list[CaseNoise]:
    """The noise of every case whose times could be compared, noisiest first."""
    tested = [v for v in verdicts if v.measure == "time" and math.isfinite(v.q)]
    cases = [
        CaseNoise(v, math.expm1(abs(math.log(v.ratio))), _resolvable(v, rules, len(tested)))
        for v in tested
    ]
    return sorted(cases, key=lambda noise: -noise.resolvable)


def document(verdicts: Sequence[Verdict], cases: Sequence[CaseNoise], file: Path) -> dict[str, Any]:
    """What `selftest --json` prints."""
    kinds = Counter(verdict.kind.value for verdict in verdicts)
    alarms = [(verdict.backend, verdict.label) for verdict in false_alarms(verdicts)]
    return {
        "verdicts": dict(kinds),
        "false_alarms": [{"backend": backend, "case": label} for backend, label in alarms],
        "noise": [
            {
                "backend": noise.verdict.backend,
                "case": noise.verdict.label,
                "difference": noise.difference,
                "resolvable": noise.resolvable,
                "blocks": noise.verdict.new_blocks,
            }
            for noise in cases
        ],
        "kept": str(file),
    }


def _resolvable(verdict: Verdict, rules: Rules, cases: int) -> float:
    """The slowdown that is found with 95% power at the spread that was seen, in as many blocks.

    By the noncentral t distribution. For the correction over the whole grid its hardest step is
    taken: the case is the only one.
    """
    df = min(verdict.base_blocks, verdict.new_blocks) - 1
    se = math.log(verdict.high / verdict.low) / 2 / float(half_width(1.0, df))
    threshold = float(stdtrit(df, 1 - rules.q / cases))
    distance = float(nctdtrinc(df, 1 - POWER, threshold))
    return math.expm1(math.log1p(verdict.margin) + distance * se)
