"""The command line put together: a module a group of commands, in the order of `--help`.

Imports stay light, so that `--help` needs neither torch nor pandas: a command imports what it
needs when it runs.
"""

import typer

from lstm_harness.cli import (
    ab,
    advice,
    exchange,
    gradients,
    history,
    judge,
    kernels,
    measure,
    pages,
    train,
)

app = typer.Typer(
    help="Race LSTM implementations: each proved right first, then timed, then reported.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for group in (measure, advice, kernels, train, gradients, pages, judge, ab, history, exchange):
    app.add_typer(group.app)
