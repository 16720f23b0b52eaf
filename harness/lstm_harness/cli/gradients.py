"""The command line of the vanishing gradient.

Imports stay light, as in `app`.
"""

from typing import Annotated

import typer

from lstm_harness.cli.flags import Html, Json, Quiet
from lstm_harness.cli.options import takes_problems
from lstm_harness.console.guards import libraries
from lstm_harness.model.errors import Exit
from lstm_harness.model.spec import Spec
from lstm_harness.race.gradients import DEFAULT_AXES, DEFAULT_BACKEND, SETTINGS

app = typer.Typer()

MOST_SEEDS = 1000


@app.command()
@takes_problems(
    DEFAULT_AXES,
    SETTINGS,
    presets={"backend": DEFAULT_BACKEND},
    helps={"backend": f"names; default: {DEFAULT_BACKEND}"},
)
def gradients(
    spec: Spec,
    seeds: Annotated[
        int,
        typer.Option(
            min=1, max=MOST_SEEDS, help="how many draws of weights and inputs, from --seed on"
        ),
    ] = 5,
    html: Html = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Show how much of a loss's gradient is left at each step back: whether it vanishes.

    The default is rnn_tanh, lstm and gru, in float64, with T 100, B 16, H 64.
    """
    from lstm_harness.console import gradients as shown
    from lstm_harness.console import output
    from lstm_harness.console.progress import Counting
    from lstm_harness.race import runs
    from lstm_harness.race.gradients import follow
    from lstm_harness.store.files import refuse_unwritable, write_file

    if html:
        refuse_unwritable(html)
        with libraries("no page", instead="leave out --html"):
            from lstm_harness.report.gradients import render
    with Counting(quiet) as tell:
        found = follow(spec, seeds, tell)
    if html:
        write_file(html, render(found).encode())
    if as_json:
        output.as_json(shown.document(found))
    else:
        shown.write(found)
        if html:
            output.path(html)
    for source, reason in found.absent.items():
        output.warning(f"{source} {reason}")
    statuses = [one.status for one in found.followed]
    code = runs.exit_code(statuses)
    lacking = found.absent or "ok" not in statuses
    return Exit.MEASURING_FAILED if lacking and code == Exit.DONE else code
