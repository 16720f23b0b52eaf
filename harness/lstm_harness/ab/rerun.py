"""`check --rerun`: what a baseline makes a run look slower by is measured once more before belief.

The second measurement is next to the run, in `<run>-again`.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from lstm_harness.analysis.summary import summarise
from lstm_harness.judge.comparison import Comparison
from lstm_harness.judge.confirm import confirmed, doubtful, in_doubt, pooled
from lstm_harness.judge.verdict import Key, judge
from lstm_harness.model.errors import UserError
from lstm_harness.race import runs
from lstm_harness.race.runs import Watch
from lstm_harness.store import run_folder


def recurring(
    folder: Path, first: Comparison, noise: Mapping[Key, float], watch: Watch
) -> Comparison:
    """The comparison of a run with a baseline after what is in doubt was measured again here.

    Args:
        folder: the new side, which must be a run of this machine and of these sources.
        first: what was found without.
    Raises:
        UserError: it cannot be measured again.
    """
    doubt = doubtful(first.verdicts)
    if not doubt or first.differences:
        return first
    if not (folder / run_folder.MANIFEST).exists():
        raise UserError(f"--rerun: {folder} is not a run's folder; a baseline cannot be run again")
    again = folder.with_name(f"{folder.resolve().name}-again")
    runs.run_again(folder, again, partial(in_doubt, doubt=doubt), watch)
    run, more = run_folder.load(folder), run_folder.load(again)
    both = pooled(run.records, more.records, run.manifest["plan"]["blocks"])
    new = replace(first.new, summary=summarise(both))
    second, together = (
        judge(first.base.summary, summary, first.rules, noise)
        for summary in (summarise(more.records), new.summary)
    )
    verdicts = tuple(confirmed(first.verdicts, second, together))
    note = f"measured again, in {again}: {len(doubt)} figures"
    return replace(first, new=new, verdicts=verdicts, notes=(*first.notes, note))
