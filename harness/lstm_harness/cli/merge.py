"""The command line of making one run out of several.

Imports stay light, as in `app`.
"""

from typing import Annotated

import typer

from lstm_harness.cli.places import Place, place
from lstm_harness.cli.publishing import folder_for, publish_if_asked
from lstm_harness.model.errors import Exit

app = typer.Typer()


@app.command()
def merge(
    runs: Annotated[
        list[Place], typer.Argument(metavar="RUN", parser=place, help="parts of one plan")
    ],
    out: Annotated[
        Place,
        typer.Option(
            "-o",
            "--out",
            metavar="DIR|URL",
            parser=place,
            help="the run's folder, or a URL for it, which must be new",
        ),
    ],
) -> int:
    """Merge runs of parts of one plan into one run; a part may come from another machine."""
    from lstm_harness.console import merging, output
    from lstm_harness.store import run_folder
    from lstm_harness.store.merging import merged

    parts = [run.here() for run in runs]
    command = ("lstm-bench", "merge", *map(str, runs), "--out", str(out))
    run = run_folder.load(merged(parts, folder_for(out), command))
    for said in merging.told(run):
        output.warning(said)
    output.path(run.folder)
    if run.manifest["end"]:
        publish_if_asked(run.folder)
    return Exit.DONE
