"""The command line of a run over many devices.

Imports stay light, as in `app`.
"""

import sys
from typing import Annotated

import typer

from lstm_harness.cli.engines import (
    AcceleratorType,
    Address,
    CasesPerTask,
    Gpus,
    Sbatch,
    of_engine,
    settings_of,
)
from lstm_harness.cli.flags import Json, Quiet
from lstm_harness.cli.measure import Against, Out, conclude
from lstm_harness.cli.options import spec_of, takes_spec
from lstm_harness.cli.places import Place, place
from lstm_harness.cli.publishing import begun_in, folder_for, publish_if_asked
from lstm_harness.model.errors import UserError
from lstm_harness.model.spec import Spec
from lstm_harness.model.text import without_secrets

app = typer.Typer()


@app.command()
@takes_spec
def fleet(
    spec: Spec,
    engine: Annotated[
        str | None,
        of_engine("--engine", "local (the default: the GPUs of this host), ray, slurm", "NAME"),
    ] = None,
    gpus: Gpus = None,
    address: Address = None,
    accelerator_type: AcceleratorType = None,
    sbatch: Sbatch = None,
    cases_per_task: CasesPerTask = None,
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            metavar="SHARE",
            help="add blocks until the half-width of each case's 95% interval is this: 1%",
        ),
    ] = None,
    budget_s: Annotated[
        float | None,
        typer.Option(
            "--budget", metavar="SECONDS", help="with --until: device time in all, at most"
        ),
    ] = None,
    out: Out = None,
    resume: Annotated[
        Place | None,
        typer.Option(
            "--resume",
            metavar="RUN",
            parser=place,
            help="go on with a fleet whose coordinator ended",
        ),
    ] = None,
    against: Against = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Measure a suite on many devices, in parts that become one run."""
    from lstm_harness.console import output
    from lstm_harness.console.progress import Counting
    from lstm_harness.fleet import coordinator
    from lstm_harness.fleet.coordinator import FleetWatch
    from lstm_harness.fleet.engines import made
    from lstm_harness.fleet.ledger import State

    chosen = engine or "local"
    settings = settings_of(chosen, gpus, address, accelerator_type, sbatch, cases_per_task)
    assert settings, "an engine was chosen"
    command = ("lstm-bench", *map(without_secrets, sys.argv[1:]))
    planned = State(spec.to_dict(), command, settings, cases_per_task, _share(until), budget_s)
    of_plan = (out, cases_per_task, until, budget_s)
    if resume and (any(of_plan) or spec != spec_of(None, None, None, None)):
        raise UserError(f"--resume {resume} goes on as planned; leave out what to run, and how")
    if budget_s is not None and (until is None or budget_s <= 0):
        raise UserError(f"--budget {budget_s:g}; expected seconds above 0, together with --until")
    begun = begun_in(resume) if resume else (folder_for(out) if out else None)
    with Counting(quiet) as counted:
        watch = FleetWatch(counted, output.warning)
        if resume and begun:
            folder = coordinator.resume(begun, settings if engine else None, made, watch)
        else:
            folder = coordinator.run(planned, begun, made, watch)
    code = conclude(folder, against, as_json)
    publish_if_asked(folder)
    return code


def _share(until: str | None) -> float | None:
    """A share, which may be in percent."""
    if until is None:
        return None
    number, percent = until.strip().removesuffix("%"), until.strip().endswith("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise UserError(f"--until {until[:60]}; expected a share above 0 and below 100%, like 1%")
    return share
