"""`run --watch`: the author of a kernel saves the file, and sees if it is right and faster.

An edit is kept unless it is wrong, or slower than the last one that was kept. The best is the one
that no later edit was faster than.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lstm_harness.model.errors import Exit, UserError
from lstm_harness.model.spec import Spec

if TYPE_CHECKING:
    from lstm_harness.race.edits import Edit

POLL_S = 0.3


@dataclass
class _Progress:
    """How far a watch has come."""

    edits: int = 0
    failed: int = 0
    kept: int = 0
    last: "Edit | None" = None
    best: "Edit | None" = None


def watch_edits(spec: Spec, out: Path | None, quiet: bool) -> int:
    """Measure every state of the plugins that is saved, until Ctrl-C.

    Raises:
        UserError: there is no file to watch, or the folder is in use.
    """
    from lstm_harness.console import output, watching
    from lstm_harness.race import runs
    from lstm_harness.store.run_folder import refuse_used

    if not spec.plugins:
        raise UserError("--watch needs a file that is edited; type --plugin mine.py")
    files = [Path(plugin) for plugin in spec.plugins]
    if len({file.name for file in files}) < len(files):
        raise UserError("--watch with two plugins of one name; rename one of them")
    folder = out or runs.default_folder(replace(spec, suite="watch"))
    refuse_used(folder)
    so_far = _Progress()
    names = ", ".join(file.name for file in files)
    try:
        for _ in saves(files):
            so_far.edits += 1
            try:
                _one_edit(spec, so_far, folder, quiet)
            except UserError as error:
                so_far.failed += 1
                output.warning(str(error))
            output.line(f"waiting until {names} or a module of its folder is saved; Ctrl-C ends")
    except KeyboardInterrupt:
        best = so_far.best
        told = f"edit {best.number}: {folder / best.name}" if best else None
        watching.summary(so_far.edits, so_far.failed, so_far.kept, told)
    return Exit.DONE


def saves(files: list[Path]) -> Iterator[None]:
    """Yield now, and again when the content of a plugin, or of its modules, is another.

    A plugin that is gone is awaited.
    """
    from lstm_harness.model.sources import files_of

    seen: dict[Path, bytes] | None = None
    while True:
        try:
            # Not their dates, which two saves within a few milliseconds share.
            content = {each: each.read_bytes() for file in files for each in files_of(file)}
            if content != seen:
                seen = content
                yield
        except FileNotFoundError:  # an editor may replace the old file by the new one
            pass
        time.sleep(POLL_S)  # files tell nobody that they were saved


def _one_edit(spec: Spec, so_far: _Progress, folder: Path, quiet: bool) -> None:
    """Prove an edit right, then measure it in turn with the last that was kept and the best."""
    from lstm_harness.console import output, verification, watching
    from lstm_harness.console.progress import LiveProgress
    from lstm_harness.race import edits

    output.line(f"edit {so_far.edits}, {time.strftime('%H:%M:%S')}")
    edit = edits.taken(spec, so_far.edits, folder)
    with LiveProgress(quiet) as watch:
        outcomes = edits.proved(edit, watch)
    verification.table(outcomes)
    statuses = {outcome.status for outcome in outcomes}
    if "ok" not in statuses or statuses - {"ok", "unsupported"}:
        raise UserError(
            f"edit {edit.number} is not measured, because it is not right: save it again"
        )
    others = [each for each in (so_far.last, so_far.best) if each]
    others = list({each.number: each for each in others}.values())
    with LiveProgress(quiet) as watch:
        patient = replace(watch, waiting=lambda who: output.warning(f"{who}; waiting for it"))
        *olds, new = edits.measured([*others, edit], folder, patient)
    by_number = {each.number: old for each, old in zip(others, olds, strict=True)}
    watching.times(new, by_number)
    ratios = {number: watching.against(new, old) for number, old in by_number.items()}
    roles = [(each.number, _role(each, so_far)) for each in others]
    watching.verdict(edit.number, roles, list(ratios.values()))
    if so_far.last is None or watching.meaning(ratios[so_far.last.number]) != "slower":
        so_far.last, so_far.kept = edit, so_far.kept + 1
        output.line(f"edit {edit.number} is kept: {folder / edit.name}")
    if so_far.best is None or watching.meaning(ratios[so_far.best.number]) == "faster":
        so_far.best = edit


def _role(edit: "Edit", so_far: _Progress) -> str:
    roles = {"the last one kept": so_far.last, "the best": so_far.best}
    return " and ".join(role for role, each in roles.items() if each is edit)
