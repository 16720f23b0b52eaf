"""What `backend="auto"` reads of the published runs: the files in kernels/lstm_kernels/shipped.

    python tests/support/shipped_results.py kernels/lstm_kernels/shipped

`tests/harness/test_shipped_results.py` holds the files there to what results/ gives.
"""

import sys
from pathlib import Path

from places import ROOT

from lstm_harness.analysis.for_auto import measured_of
from lstm_harness.analysis.summary import summarise
from lstm_harness.store import run_folder
from lstm_harness.store.run_folder import Run
from lstm_kernels.measured import DeviceClass, Measured, merged, text_of


def published() -> list[Run]:
    """The runs that are committed: results/<machine>/<name>, but for runs that nobody published."""
    folders = sorted(path.parent for path in (ROOT / "results").glob("*/*/run.json"))
    return [run_folder.load(folder) for folder in folders if folder.parent.name != "runs"]


def files_of(runs: list[Run]) -> dict[str, str]:
    """The name and the content of each file, one a class of devices."""
    by_device: dict[DeviceClass, list[Measured]] = {}
    for run in runs:
        # Known by where it is published, for whoever wants to see it.
        named = run.manifest | {"id": f"{run.folder.parent.name}/{run.folder.name}"}
        measured = measured_of(named, summarise(run.records))
        if measured is not None and not run.edited:
            by_device.setdefault(measured.device, []).append(measured)
    return {device.file_name(): text_of(merged(found)) for device, found in by_device.items()}


def main() -> None:
    """Write the files to the folder given, and take away those that are no longer made."""
    folder = Path(sys.argv[1])
    made = files_of(published())
    for old in folder.glob("*.json"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
