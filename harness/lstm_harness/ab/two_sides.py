"""Two sets of kernels on this machine, measured in turn and judged: `ab`, and A against A.

What is flagged or not settled is measured once more, in new blocks, before it is believed
(`judge.confirm`).

    <out>/base, <out>/new          ordinary runs, as `report` and `compare` read them
    <out>/again/base, .../new      the second measurement, of what was in doubt
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lstm_harness.analysis.summary import summarise
from lstm_harness.judge.comparison import Comparison, Side, told
from lstm_harness.judge.confirm import doubtful, in_doubt, judged, pooled
from lstm_harness.judge.noise import kept
from lstm_harness.judge.verdict import Kind, Rules, Verdict
from lstm_harness.model.errors import Interrupted, UserError
from lstm_harness.model.revision import Revision
from lstm_harness.model.spec import Spec
from lstm_harness.race import runs
from lstm_harness.race.lock import device_lock
from lstm_harness.race.pairs import MEMORY_BLOCKS, NAMES, Contestant, measure, planned
from lstm_harness.race.runs import Watch
from lstm_harness.race.scratch import scratch_folder
from lstm_harness.store import run_folder

LEAST_BLOCKS = 5


@dataclass(frozen=True)
class Result:
    """What was found. `first` are the verdicts before anything was measured again."""

    folder: Path
    comparison: Comparison
    first: list[Verdict]
    environment: Mapping[str, Any]


def compare(
    spec: Spec,
    revisions: tuple[Revision, Revision],
    rules: Rules,
    fail_on: frozenset[Kind],
    out: Path | None,
    watch: Watch,
    by_noise: bool = True,
) -> Result:
    """Measure both sides in turn and judge the second by the first.

    Args:
        spec: its `time_budget_s` is for the first measurement of both sides together.
        by_noise: this machine's own noise, where a selftest kept it, is a margin.
    Raises:
        UserError: nothing can be compared; `Interrupted` where records are left in `out`.
    """
    refuse_few_blocks(spec)
    folder = out or runs.default_folder(replace(spec, suite="ab"))
    run_folder.refuse_used(folder)
    with scratch_folder() as scratch:
        sides = planned(spec, revisions, scratch)
        survey = sides[1].survey
        noise = kept(survey.environment).margins if by_noise else {}
        with device_lock(survey.identity):
            run_folder.create(folder)
            with _interruptible(folder):
                measured = measure(spec, sides, folder, scratch, watch, MEMORY_BLOCKS)
                doubt = doubtful(judged(measured, spec.blocks, rules, noise)[0])
                if doubt:
                    parts = _in_doubt(sides[0], doubt), _in_doubt(sides[1], doubt)
                    in_memory = any(verdict.measure != "time" for verdict in doubt)
                    memory_blocks = MEMORY_BLOCKS if in_memory else 0
                    anew = replace(spec, seed=spec.seed + 1)
                    again = measure(anew, parts, folder / "again", scratch, watch, memory_blocks)
                    measured = [
                        pooled(side, more, spec.blocks)
                        for side, more in zip(measured, again, strict=True)
                    ]
    first, verdicts = judged(measured, spec.blocks, rules, noise)
    base, new = (
        Side(
            side.revision.title,
            run_folder.read_manifest(folder / side.name),
            summarise(records),
            absent=side.plan.absent,
        )
        for side, records in zip(sides, measured, strict=True)
    )
    comparison = told(base, new, rules, verdicts, (), fail_on, same_on_both(base, new))
    return Result(folder, comparison, first, survey.environment)


def refuse_few_blocks(spec: Spec) -> None:
    """Refuse to compare by too few blocks.

    Raises:
        UserError: there are.
    """
    if spec.blocks < LEAST_BLOCKS:
        raise UserError(f"--blocks {spec.blocks}: expected at least {LEAST_BLOCKS}, to tell noise")


def same_on_both(base: Side, new: Side) -> list[str]:
    """What a reader must know to be the same on both sides."""
    there, here = (
        {(each["file"], each["sha256"]) for each in side.manifest.get("plugins") or ()}
        for side in (base, new)
    )
    same = [f"{file} is the same on both sides" for file, _ in sorted(there & here)]
    if base.manifest["kernels_digest"] == new.manifest["kernels_digest"]:
        same.append("the kernels' sources are the same on both sides")
    return same


@contextmanager
def _interruptible(folder: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        tell = shlex.join(["lstm-bench", "compare", *(str(folder / name) for name in NAMES)])
        raise Interrupted(f"interrupted; to measure, start again; results so far: {tell}") from None


def _in_doubt(side: Contestant, doubt: Sequence[Verdict]) -> Contestant:
    return replace(side, plan=in_doubt(side.plan, doubt))
