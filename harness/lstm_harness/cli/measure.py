"""The command line of measuring: which backends can run, what would run, then `run`, `verify`.

Imports stay light, as in `app`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lstm_harness.cli.flags import Json, Quiet
from lstm_harness.cli.options import spec_of, suites_like, takes_spec
from lstm_harness.cli.pages import write_report_of
from lstm_harness.cli.places import Place, place
from lstm_harness.cli.publishing import begun_in, folder_for, publish_if_asked
from lstm_harness.cli.watch import watch_edits
from lstm_harness.model.errors import Exit, MeasuringFailed, NoReportLibraries, UserError
from lstm_harness.model.spec import Spec, named_suite, suite_names

if TYPE_CHECKING:
    from lstm_harness.store.run_folder import Run

app = typer.Typer()

Out = Annotated[
    Place | None,
    typer.Option(
        "--out",
        metavar="DIR|URL",
        parser=place,
        help="a folder for the run, new or empty; or its URL in a store, like s3://lab/store/x",
    ),
]
Resume = Annotated[
    Place | None,
    typer.Option("--resume", metavar="RUN", parser=place, help="finish an interrupted run"),
]
Wait = Annotated[
    bool, typer.Option("--wait", help="if another run uses the device, wait until it ends")
]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="FILE.py", help="a file with BACKENDS or CELLS"),
]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda")]
Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="BACKEND",
        help="give every time as a ratio to this backend's; default: to the fastest of each case. "
        "To compare two runs, see lstm-bench compare",
    ),
]


@app.command()
def backends(plugin: Plugins = None, device: Device = None, as_json: Json = False) -> int:
    """List the backends: which can run here, which cannot, and why."""
    from lstm_harness.console import output, planning
    from lstm_harness.race import runs

    spec = spec_of(None, None, None, plugin, device=device)
    survey = runs.look_around(spec)
    if as_json:
        output.as_json(planning.backend_rows(survey))
    else:
        planning.backends(survey)
    return Exit.DONE


@app.command()
def suites(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="SUITE", help="show the cases of this one", autocompletion=suites_like
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """List the named suites, with their shapes and their source."""
    from lstm_harness.console import output, planning

    named = [named_suite(each) for each in ([name] if name else suite_names())]
    if as_json:
        output.as_json([planning.suite_row(suite) for suite in named])
    elif name:
        planning.suite(named[0])
    else:
        planning.suites(named)
    return Exit.DONE


@app.command()
@takes_spec
def plan(spec: Spec, as_json: Json = False) -> int:
    """Show what would run, what is skipped and why, and about how long it takes."""
    from lstm_harness.console import output, planning
    from lstm_harness.race import runs

    _, planned = runs.make(spec)
    if as_json:
        output.as_json(planned.to_dict())
    else:
        planning.plan(planned)
    return Exit.DONE


@app.command()
@takes_spec
def run(
    spec: Spec,
    out: Out = None,
    resume: Resume = None,
    wait: Wait = False,
    against: Against = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="measure the --plugin file again whenever it is saved: this edit against the last "
            "one kept and against the best, in 5 blocks or more",
        ),
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Check each backend against float64, time it, keep the records and write a report."""
    from lstm_harness.race import runs

    if watch:
        others = {"--resume": resume, "--against": against, "--json": as_json}
        given = [flag for flag, value in others.items() if value]
        if given:
            raise UserError(f"--watch with {given[0]}; leave one out")
        return watch_edits(spec, Path(out.typed) if out else None, quiet)

    if against and spec.backends and against not in spec.backends:
        named = ",".join(spec.backends)
        raise UserError(f"--against {against} is not raced; type --backend {named},{against}")
    if resume and spec != spec_of(None, None, None, None):
        raise UserError(f"--resume {resume} goes on as planned; leave out what to run, and how")
    folder = measured(spec, out, resume, wait, quiet)
    with runs.resumable(folder):
        code = conclude(folder, against, as_json)
        publish_if_asked(folder)
    return code


def measured(spec: Spec, out: Place | None, resume: Place | None, wait: bool, quiet: bool) -> Path:
    """The folder of a run that is made, or gone on with."""
    from dataclasses import replace

    from lstm_harness.console import output
    from lstm_harness.console.progress import LiveProgress
    from lstm_harness.race import runs

    if out and resume:
        raise UserError(f"--out {out} with --resume {resume}: a resumed run keeps its folder")
    folder = begun_in(resume) if resume else (folder_for(out) if out else None)
    with LiveProgress(quiet) as watch:
        if wait:
            watch = replace(watch, waiting=lambda who: output.warning(f"{who}; waiting for it"))
        if resume and folder:
            return runs.resume(folder, watch)
        return runs.run(spec, folder, watch)


@app.command()
@takes_spec
def verify(spec: Spec, as_json: Json = False, quiet: Quiet = False) -> int:
    """Check correctness alone, against float64."""
    from dataclasses import replace

    from lstm_harness.console import output, verification
    from lstm_harness.console.progress import LiveProgress
    from lstm_harness.race import runs

    with LiveProgress(quiet) as watch:
        plan, outcomes = runs.verify(replace(spec, blocks=1), watch)
    if as_json:
        output.as_json([verification.outcome_row(outcome) for outcome in outcomes])
    else:
        verification.table(outcomes)
    broken = plan.broken(spec.plugins)
    for source in broken:
        output.warning(f"{source} {plan.absent[source]}")
    statuses = [outcome.status for outcome in outcomes]
    if not {"ok", "incorrect"} & set(statuses):
        output.warning("nothing was checked")
        return Exit.MEASURING_FAILED
    return runs.exit_code(statuses, broken)


def conclude(folder: Path, against: str | None, as_json: bool) -> int:
    """Write the report, print who is how fast and, last, the report's path."""
    from lstm_harness.console import output, run_table, tuning
    from lstm_harness.console.keeping import keep_for_auto
    from lstm_harness.model.plan import Plan
    from lstm_harness.race import runs
    from lstm_harness.store import run_folder

    finished = run_folder.load(folder)
    keep_for_auto(finished)
    page = write_page(finished)
    tuning.untuned(finished)
    if as_json:
        for said in run_table.noise(finished):
            output.warning(said)
        output.as_json(run_table.document(finished, page, against))
    else:
        run_table.write(finished, page, against)
    broken = Plan.from_dict(finished.manifest["plan"]).broken(finished.manifest["spec"]["plugins"])
    return runs.exit_code([record.standing[0] for record in finished.records], broken)


def write_page(finished: "Run") -> Path | None:
    """Write a run's report; None, with a warning, where a library for it is not installed.

    Raises:
        MeasuringFailed: it cannot be written.
    """
    from lstm_harness.console import output
    from lstm_harness.store import run_folder

    folder = finished.folder
    try:
        return write_report_of([finished], folder / run_folder.REPORT)
    except NoReportLibraries as error:
        output.warning(f"{error}; the records are in {folder}")
        return None
    except UserError as error:
        again = f"the records are safe: lstm-bench report {folder} makes the page again"
        raise MeasuringFailed(f"{error}; {again}") from None
