"""The command line of a shared store: `publish`, and what `--out URL` does.

Imports stay light, as in `app`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lstm_harness.cli.places import Place, place
from lstm_harness.model.errors import Exit, UserError

if TYPE_CHECKING:
    from lstm_harness.store.run_folder import Kind

app = typer.Typer()


@app.command()
def publish(
    run: Annotated[Place, typer.Argument(metavar="RUN", parser=place, help="a run's folder")],
    url: Annotated[
        Place, typer.Argument(metavar="URL", parser=place, help="like s3://lab/store/x")
    ],
) -> int:
    """Write a finished run to a store at a URL, whole or not at all."""
    from lstm_harness.console import output
    from lstm_harness.store import remote

    if url.url is None:
        raise UserError(f"{url} is not a URL; expected one like s3://bucket/store/run")
    remote.publish(run.here(), url.url)
    output.path(str(url))
    return Exit.DONE


def folder_for(out: Place | None, kind: "Kind | None" = None) -> Path | None:
    """The folder in which to measure what `--out` names; for a URL, a new one of this machine.

    Args:
        kind: of which it will be; a run's where none is given.
    Raises:
        UserError: the URL, or the folder for it, is in use, or can only be read.
    """
    from lstm_harness.console import output
    from lstm_harness.store import remote
    from lstm_harness.store.run_folder import RUN

    if out is None or out.url is None:
        return None if out is None else out.here()
    folder = remote.begin(out.url, kind or RUN)
    output.warning(f"measures in {folder}, and publishes to {out} at the end")
    return folder


def begun_in(resume: Place) -> Path:
    """The folder of what `--resume` names: for a URL, that in which the run for it was begun."""
    from lstm_harness.store import remote

    return resume.here() if resume.url is None else remote.begun(resume.url)


def publish_if_asked(folder: Path) -> None:
    """Publish a finished run if it was begun with a URL."""
    from lstm_harness.console import output
    from lstm_harness.store import remote

    url = remote.publish_if_asked(folder)
    if url is not None:
        output.warning(f"published: {url}")
