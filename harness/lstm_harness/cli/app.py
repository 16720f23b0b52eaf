"""The command line put together: a module a group of commands, in the order of `--help`.

Imports stay light, so that `--help` needs neither torch nor pandas: a command imports what it
needs when it runs.
"""

from typing import Annotated

import typer

from lstm_harness import __version__
from lstm_harness.cli import (
    ab,
    advice,
    exchange,
    fleet,
    gradients,
    history,
    judge,
    kernels,
    measure,
    merge,
    pages,
    publishing,
    query,
    train,
)
from lstm_harness.cli.commands import Group, dress

app = typer.Typer(
    help="Race LSTM implementations: prove each one right, then time it, then report.",
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
for group in (
    measure,
    fleet,
    advice,
    kernels,
    train,
    gradients,
    pages,
    judge,
    ab,
    history,
    query,
    merge,
    publishing,
    exchange,
):
    app.add_typer(group.app)
dress(app)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"lstm-bench {__version__}")
        raise typer.Exit


@app.callback()
def _before_any_command(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_tell_version, is_eager=True
        ),
    ] = False,
) -> None:
    """What may stand before a command."""
