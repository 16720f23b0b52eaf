"""The command line of kernels and the device under them: `inspect`, `phases`, `limits`, `tune`.

Imports stay light, as in `app`.
"""

from pathlib import Path
from typing import Annotated

import typer

from lstm_harness.cli.flags import Json, Quiet
from lstm_harness.cli.options import takes_problems
from lstm_harness.model.errors import Exit
from lstm_harness.model.spec import Spec
from lstm_harness.tune.inspection import DEFAULT_AXES as INSPECTED
from lstm_harness.tune.phases import DEFAULT_AXES as PHASED
from lstm_harness.tune.phases import SETTINGS as PHASES_SETTINGS
from lstm_harness.tune.search import DEFAULT_AXES as TUNED
from lstm_harness.tune.search import DEFAULT_BUDGET_S as DEFAULT_TUNING_BUDGET_S
from lstm_harness.tune.search import SETTINGS as TUNING_SETTINGS

app = typer.Typer()

# The problems whose floors `limits` tells where nobody gives an axis.
FLOOR_AXES = {
    "axis_hidden": "128,256,512,1024",
    "axis_batch": "1,16",
    "axis_seq_len": "128",
}


@app.command()
@takes_problems(INSPECTED, ("plugin",))
def inspect(
    spec: Spec,
    name: Annotated[
        str, typer.Argument(metavar="BACKEND", help="a backend with kernels of its own")
    ],
    arch: Annotated[str, typer.Option("--arch", metavar="LIST", help="sm_80, sm_90, sm_100")] = (
        "sm_90"
    ),
    source: Annotated[
        bool, typer.Option("--source", help="print its code for --cell, and nothing else")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Show registers, memory, spills and matrix instructions of each kernel; needs no GPU."""
    from lstm_harness.console import kernels, output
    from lstm_harness.console.progress import Counting
    from lstm_harness.tune.inspection import cell_sources, kernel_rows

    if source:
        sources = cell_sources(name, spec)
        if as_json:
            output.as_json(sources)
        else:
            kernels.sources(sources)
        return Exit.DONE
    with Counting(quiet) as tell:
        rows = kernel_rows(name, spec, arch, tell)
    if as_json:
        output.as_json(rows)
    else:
        kernels.kernels(rows)
    failed = any(row["status"] == "error" for row in rows)
    return Exit.MEASURING_FAILED if failed else Exit.DONE


@app.command()
@takes_problems(PHASED, PHASES_SETTINGS, measured=("pass",))
def phases(
    spec: Spec,
    name: Annotated[str, typer.Argument(metavar="BACKEND", help="a backend that tells its phases")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Show what each phase of a pass takes, such as packing or a product, and what is left.

    The default is inference and train, with T 128, B 1 and 16, H 256.
    """
    from lstm_harness.console import output
    from lstm_harness.console import phases as shown
    from lstm_harness.console.progress import Counting
    from lstm_harness.race import runs
    from lstm_harness.tune.phases import phases

    with Counting(quiet) as tell:
        found = phases(name, spec, tell)
    if as_json:
        output.as_json(found)
    else:
        shown.phases(found)
    statuses = [row["status"] for row in found["cases"]]
    code = runs.exit_code(statuses)
    return Exit.MEASURING_FAILED if "ok" not in statuses and code == Exit.DONE else code


@app.command()
@takes_problems(FLOOR_AXES, ("device", "threads"))
def limits(spec: Spec, as_json: Json = False, quiet: Quiet = False) -> int:
    """Measure the ceilings of this device, and tell the least time that they allow."""
    from lstm_harness.analysis.floors.floor import floor_rows
    from lstm_harness.console import limits as shown
    from lstm_harness.console import output
    from lstm_harness.console.progress import Counting
    from lstm_harness.race import runs

    with Counting(quiet) as tell:
        ceilings, kept = runs.limits(spec, tell)
    rows = floor_rows(ceilings, spec)
    if as_json:
        output.as_json(ceilings.to_dict() | {"kept": str(kept), "floors": rows})
    else:
        shown.ceilings(ceilings)
        shown.floors(rows)
        output.path(kept)
    return Exit.DONE


@app.command()
@takes_problems(
    TUNED, ("plugin", *TUNING_SETTINGS), presets={"time_budget_s": DEFAULT_TUNING_BUDGET_S}
)
def tune(
    spec: Spec,
    name: Annotated[
        str, typer.Argument(metavar="BACKEND", help="a backend that can be tuned, like triton")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="default: where the backend looks")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="also tune what the file already has")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Find launch parameters for this device, check them, and keep them in a file."""
    from lstm_harness.console import output, tuning
    from lstm_harness.console.progress import Counting
    from lstm_harness.tune.tuner import exit_code, tune

    with Counting(quiet) as tell:
        tuned = tune(name, spec, out, again, tell)
    if tuned["replaced"]:
        output.warning(f"replaced: {tuned['replaced']}")
    if as_json:
        output.as_json(tuned)
    else:
        tuning.tuning(tuned)
    return exit_code(tuned)
