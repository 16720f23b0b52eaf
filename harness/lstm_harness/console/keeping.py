"""What a run leaves behind for `backend="auto"`: kept, or said why not."""

from pathlib import Path

from lstm_harness.console import output
from lstm_harness.model.errors import MeasuringFailed
from lstm_harness.store import kept_for_auto
from lstm_harness.store.run_folder import Run


def keep_for_auto(finished: Run) -> Path | None:
    """Keep what `auto` reads of a run: the file; None, with a warning where it cannot be kept."""
    try:
        return kept_for_auto.keep_for_auto(finished)
    except MeasuringFailed as error:  # the run is whole without
        output.warning(str(error))
        return None
