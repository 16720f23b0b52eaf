"""The command line of making one run out of several.

Imports stay light, as in `app`.
"""

from pathlib import Path
from typing import Annotated

import typer

from lstm_harness.model.errors import Exit

app = typer.Typer()


@app.command()
def merge(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="parts of one plan")],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DIR", help="the run's folder, which must be new")
    ],
) -> int:
    """Merge runs of parts of one plan into one run; a part may come from another machine."""
    from lstm_harness.console import merging, output
    from lstm_harness.store import run_folder
    from lstm_harness.store.merging import merged

    folder = merged(runs, out)
    for said in merging.told(run_folder.load(folder)):
        output.warning(said)
    output.path(folder)
    return Exit.DONE
