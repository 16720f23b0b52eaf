"""A plugin while it is written: each edit is copied, checked and measured in turn with others.

    <out>/003/mine.py            the third edit, as it was saved, with the modules that it imports
    <out>/003/runs/002, 003      that edit and those it is compared with: ordinary runs

What a file reads from its folder in another way is not there.
"""

import shutil
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from lstm_harness.analysis.summary import summarise
from lstm_harness.model.errors import UserError
from lstm_harness.model.plan import Plan
from lstm_harness.model.sources import files_of
from lstm_harness.model.spec import Spec
from lstm_harness.race import runs
from lstm_harness.race.lock import device_lock
from lstm_harness.race.runs import RunSide, Watch
from lstm_harness.race.scratch import scratch_folder
from lstm_harness.race.survey import Survey, SurveyWorker, make_plan, refuse_elsewhere
from lstm_harness.race.visit import Outcome
from lstm_harness.store import run_folder

# With fewer, an interval is too wide to tell edits apart by.
LEAST_BLOCKS = 5


@dataclass(frozen=True)
class Edit:
    """One state of the files: its number, from 1, and who is in it on this machine."""

    number: int
    spec: Spec
    survey: Survey
    plan: Plan

    @property
    def name(self) -> str:
        """Its folder's name."""
        return f"{self.number:03}"


def taken(spec: Spec, number: int, out: Path) -> Edit:
    """Copy the plugins as they are now, and plan what they can run.

    Raises:
        UserError: they bring no backend that was asked for, or cannot be imported;
            `MeasuringFailed` where they import modules of elsewhere.
    """
    folder = out / f"{number:03}"
    folder.mkdir(parents=True)
    copies = _copied([Path(file) for file in spec.plugins], folder)
    own = replace(spec, plugins=copies)
    with scratch_folder() as scratch, SurveyWorker(own, scratch) as worker:
        survey = worker.survey()
        broken = [f"{file}: {why}" for file, why in survey.unavailable.items() if file in copies]
        refuse_elsewhere(survey, f"edit {number}")
        names = tuple(
            name for name in survey.plugin_of if not spec.backends or name in spec.backends
        )
        if broken or not names:
            raise UserError("; ".join(broken) or "the plugin brings no backend that was asked for")
        named = replace(own, backends=names, blocks=max(spec.blocks, LEAST_BLOCKS))
        return Edit(number, named, survey, make_plan(named, survey, worker))


def _copied(plugins: Sequence[Path], folder: Path) -> tuple[str, ...]:
    """Copy the plugins with their modules, and return the path of each plugin's copy."""
    sources: dict[Path, Path] = {}
    for plugin in plugins:
        for file in files_of(plugin):
            place = folder / file.relative_to(plugin.absolute().parent)
            if sources.setdefault(place, file) != file:
                raise UserError(f"--watch with {sources[place]} and {file}; rename one of them")
    for place, file in sources.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    return tuple(str((folder / plugin.name).resolve()) for plugin in plugins)


def proved(edit: Edit, watch: Watch) -> list[Outcome]:
    """What became of every cell of an edit, checked against float64 alone."""
    return runs.verify(replace(edit.spec, blocks=1), watch)[1]


def measured(edits: Sequence[Edit], out: Path, watch: Watch) -> list[pd.DataFrame]:
    """The Summary of each edit, all measured in turn.

    Args:
        edits: the newest last; its folder takes the runs.
    """
    newest = edits[-1]
    pair = uuid.uuid4().hex
    with device_lock(newest.survey.identity, watch.waiting), ExitStack() as stack:
        scratch = stack.enter_context(scratch_folder())
        sides = [_side(edit, out / newest.name / "runs" / edit.name, pair) for edit in edits]
        return list(map(summarise, runs.measure(sides, newest.spec, scratch, watch)))


def _side(edit: Edit, folder: Path, pair: str) -> RunSide:
    run_folder.create(folder)
    spec = replace(edit.spec, label=f"edit {edit.number}")
    manifest = runs.manifest_of(folder, spec, edit.plan, edit.survey)
    return RunSide(folder, manifest | {"pair": pair}, edit.plan, edit.survey, name=edit.name)
