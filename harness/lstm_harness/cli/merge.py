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
        list[Place], typer.Argument(metavar="RUN...", parser=place, help="parts of one plan")
    ],
    out: Annotated[
        Place,
        typer.Option(
            "-o",
            "--out",
            metavar="DIR|URL",
            parser=place,
            help="the run's folder, which must be new",
        ),
    ],
) -> int:
    """Merge runs of parts of one plan into one run; a part may come from another machine."""
    from lstm_harness.console import merging, output
    from lstm_harness.store import run_folder
    from lstm_harness.store.merging import merged

    parts = [each.here() for each in runs]
    folder = merged(parts, folder_for(out))
    for said in merging.told(run_folder.load(folder)):
        output.warning(said)
    publish_if_asked(folder)
    output.path(folder)
    return Exit.DONE
