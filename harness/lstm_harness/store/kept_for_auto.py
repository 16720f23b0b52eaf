"""What this user's runs measured, kept where `backend="auto"` of `lstm_kernels` reads it."""

from contextlib import suppress
from pathlib import Path

from lstm_harness.analysis.for_auto import measured_of
from lstm_harness.analysis.summary import summarise
from lstm_harness.store import cache_folder
from lstm_harness.store.run_folder import Run
from lstm_kernels.measured import Measured, kernels_digest, merged, read, text_of


def keep_for_auto(run: Run) -> Path | None:
    """Add the results of a run that count (`analysis.for_auto`) to those of other runs.

    There is one file for each class of devices. If an older run measured the same problem, this row
    replaces its row. Rows of other sources of the kernels are removed, and so is a file that
    is broken. A run of other sources than these adds nothing. A process that has read the file
    already reads it again after `lstm_kernels.preference.forget()`.

    Returns:
        The file; None if nothing in the run counts, and nothing was written.
    Raises:
        MeasuringFailed: it cannot be written.
    """
    is_ours = not run.edited and run.manifest["kernels_digest"] == kernels_digest()
    new = measured_of(run.manifest, summarise(run.records)) if is_ours else None
    if new is None:
        return None
    path = cache_folder.folder("measured") / new.device.file_name()
    kept = merged([_still_true(path, new), new])
    cache_folder.keep(path, text_of(kept).encode(), "what was measured for auto")
    return path


def _still_true(path: Path, new: Measured) -> Measured:
    """The rows of an older file that are still valid with the sources of the new ones."""
    old = Measured(new.device, ())
    with suppress(OSError, ValueError):
        found = read(path)
        old = found if found.device == new.device else old
    return Measured(new.device, tuple(r for r in old.rows if r.run.kernels == kernels_digest()))
