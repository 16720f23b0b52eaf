"""Two sides that a fleet measured, judged as `ab` judges those of this machine.

Devices are a random effect (`judge.machines`). The noise that a selftest kept is that of one
machine, so it is not a margin here.
"""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from lstm_harness.ab.two_sides import same_on_both
from lstm_harness.judge.comparison import Comparison, Side, side_of_run, told
from lstm_harness.judge.confirm import judged
from lstm_harness.judge.verdict import Kind, Rules
from lstm_harness.race.pairs import NAMES
from lstm_harness.store import run_folder


def compared(folder: Path, rules: Rules, fail_on: Collection[Kind]) -> Comparison:
    """Judge both whole runs in a folder, of which the later blocks are a second measurement.

    Raises:
        UserError: they are not there, or cannot be read.
    """
    runs = [run_folder.load(folder / name) for name in NAMES]
    blocks = runs[0].manifest["spec"]["blocks"]
    _, verdicts = judged([run.records for run in runs], blocks, rules, {})
    base, new = (_titled(side_of_run(run), name) for run, name in zip(runs, NAMES, strict=True))
    return told(base, new, rules, verdicts, (), frozenset(fail_on), same_on_both(base, new))


def _titled(side: Side, name: str) -> Side:
    """A side by the title of its revision alone, as the label has it."""
    return replace(side, name=side.name.removeprefix(f"{name}: "))
