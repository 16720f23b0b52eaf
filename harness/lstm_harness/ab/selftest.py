"""A against A: the false alarms, each case's own noise, and the slowdown that can be seen above it.

Both sides are the same kernels, measured and judged as `ab` does, but without the noise that
earlier selftests kept: what is found now must not depend on it. Whatever is flagged is false.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lstm_harness.ab.revisions import installed_kernels
from lstm_harness.judge.confirm import FLAGGED
from lstm_harness.judge.resolution import slowdown_seen
from lstm_harness.judge.verdict import Rules, Verdict
from lstm_harness.model.revision import Revision


@dataclass(frozen=True)
class CaseNoise:
    """One case's: `difference` of A from A, and `resolvable`, both as ratios less one."""

    verdict: Verdict
    difference: float
    resolvable: float


def same_kernels() -> tuple[Revision, Revision]:
    """The kernels that are installed here, twice."""
    installed = Revision("these kernels", None, installed_kernels())
    return installed, installed


def false_alarms(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """What was called slower or faster, in time or in memory, and cannot be."""
    return [verdict for verdict in verdicts if verdict.kind in FLAGGED]


def noise_of(verdicts: Sequence[Verdict], rules: Rules) -> list[CaseNoise]:
    """The noise of every case whose times could be compared, noisiest first."""
    tested = [v for v in verdicts if v.measure == "time" and math.isfinite(v.q)]
    cases = [
        CaseNoise(v, math.expm1(abs(math.log(v.ratio))), slowdown_seen(v, rules, len(tested)))
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
