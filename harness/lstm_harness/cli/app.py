"""The command line: one function a command; the work is done elsewhere.

Imports stay light, so that `--help` needs neither torch nor pandas: a command imports what it
needs when it runs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lstm_harness.cli import ab, history, judge
from lstm_harness.cli.options import spec_of, takes_problems, takes_spec
from lstm_harness.model.errors import Exit, MeasuringFailed, NoReportLibraries, UserError
from lstm_harness.model.spec import Spec, named_suite, suite_names
from lstm_harness.tune.inspection import DEFAULT_AXES as INSPECTED
from lstm_harness.tune.search import DEFAULT_AXES as TUNED
from lstm_harness.tune.search import DEFAULT_BUDGET_S as DEFAULT_TUNING_BUDGET_S
from lstm_harness.tune.search import SETTINGS as TUNING_SETTINGS

if TYPE_CHECKING:
    from lstm_harness.model.record import Record
    from lstm_harness.store.run_folder import Run

app = typer.Typer(
    help="Race LSTM implementations: each proved right first, then timed, then reported.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(judge.app)
app.add_typer(ab.app)
app.add_typer(history.app)

# The problems whose floors `limits` tells where nobody gives an axis.
FLOOR_AXES = {
    "axis_hidden": "128,256,512,1024",
    "axis_batch": "1,16",
    "axis_seq_len": "128",
}

Json = Annotated[bool, typer.Option("--json", help="one JSON document on stdout")]
Quiet = Annotated[bool, typer.Option("--quiet", help="no progress")]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="the run's folder, new or empty")
]
Resume = Annotated[
    Path | None, typer.Option("--resume", metavar="RUN", help="finish an interrupted run")
]
Plugins = Annotated[
    list[str] | None, typer.Option("--plugin", metavar="FILE.py", help="a file with BACKENDS")
]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda")]


@app.command()
def backends(plugin: Plugins = None, device: Device = None, as_json: Json = False) -> int:
    """Who can run here, who cannot and why."""
    from lstm_harness.console import output
    from lstm_harness.race import runs as session

    spec = spec_of(None, None, None, plugin, device=device)
    survey = session.look_around(spec)
    if as_json:
        output.as_json(output.backend_rows(survey))
    else:
        output.backends(survey)
    return Exit.DONE


@app.command()
def suites(name: Annotated[str | None, typer.Argument()] = None, as_json: Json = False) -> int:
    """The named workloads, their shapes and their source."""
    from lstm_harness.console import output

    found = [named_suite(each) for each in ([name] if name else suite_names())]
    if as_json:
        output.as_json([output.suite_row(suite) for suite in found])
    elif name:
        output.suite(found[0])
    else:
        output.suites(found)
    return Exit.DONE


@app.command()
@takes_spec
def plan(spec: Spec, as_json: Json = False) -> int:
    """What would run, what is skipped and why, how long."""
    from lstm_harness.console import output
    from lstm_harness.race import runs as session

    _, found = session.make(spec)
    if as_json:
        output.as_json(found.to_dict())
    else:
        output.plan(found)
    return Exit.DONE


@app.command()
@takes_spec
def run(
    spec: Spec, out: Out = None, resume: Resume = None, as_json: Json = False, quiet: Quiet = False
) -> int:
    """The main job: verify, measure, store, report."""
    from lstm_harness.console.progress import LiveProgress
    from lstm_harness.race import runs as session

    if out and resume:
        raise UserError(f"--out {out} with --resume {resume}: a resumed run keeps its folder")
    if resume and spec != spec_of(None, None, None, None):
        raise UserError(f"--resume {resume} goes on as planned; leave out what to run, and how")
    with LiveProgress(quiet) as watch:
        folder = session.resume(resume, watch) if resume else session.run(spec, out, watch)
    with session.resumable(folder):
        return _conclude(folder, as_json)


@app.command()
@takes_spec
def verify(spec: Spec, as_json: Json = False, quiet: Quiet = False) -> int:
    """Correctness alone, against float64."""
    from dataclasses import replace

    from lstm_harness.console import output
    from lstm_harness.console.progress import LiveProgress
    from lstm_harness.race import runs as session

    with LiveProgress(quiet) as watch:
        plan, outcomes = session.verify(replace(spec, blocks=1), watch)
    statuses = [outcome.status for outcome in outcomes]
    broken = [source for source in plan.absent if source in spec.plugins]
    if as_json:
        output.as_json([output.outcome_row(outcome) for outcome in outcomes])
    else:
        output.verified(outcomes)
        output.failures((o.cell.backend, o.status, o.reason) for o in outcomes if o.reason)
    for source in broken:
        output.warning(f"{source} {plan.absent[source]}")
    if not {"ok", "incorrect"} & set(statuses):
        output.warning("nothing was checked")
    elif not broken or "incorrect" in statuses:
        return session.exit_code(statuses)
    return Exit.MEASURING_FAILED


@app.command()
@takes_problems(INSPECTED, ("plugin",))
def inspect(
    spec: Spec,
    name: Annotated[str, typer.Argument(metavar="BACKEND", help="one that has kernels of its own")],
    arch: Annotated[str, typer.Option("--arch", metavar="LIST", help="sm_80, sm_90, sm_100")] = (
        "sm_90"
    ),
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Registers, memory, spills and matrix instructions of each kernel; no GPU needed."""
    from lstm_harness.console import kernels, output
    from lstm_harness.console.progress import Counting
    from lstm_harness.tune.inspection import kernel_rows

    with Counting(quiet) as tell:
        rows = kernel_rows(name, spec, arch, tell)
    if as_json:
        output.as_json(rows)
    else:
        kernels.kernels(rows)
    failed = any(row["status"] == "error" for row in rows)
    return Exit.MEASURING_FAILED if failed else Exit.DONE


@app.command()
@takes_problems(FLOOR_AXES, ("device", "threads"))
def limits(spec: Spec, as_json: Json = False, quiet: Quiet = False) -> int:
    """The measured ceilings of this device, and the floor they imply."""
    from lstm_harness.analysis.floors.floor import floor_rows
    from lstm_harness.console import limits as show_limits
    from lstm_harness.console import output
    from lstm_harness.console.progress import Counting
    from lstm_harness.race import runs as session

    with Counting(quiet) as tell:
        ceilings, kept = session.limits(spec, tell)
    rows = floor_rows(ceilings, spec)
    if as_json:
        output.as_json(ceilings.to_dict() | {"kept": str(kept), "floors": rows})
    else:
        show_limits.ceilings(ceilings)
        show_limits.floors(rows)
        output.path(kept)
    return Exit.DONE


@app.command()
@takes_problems(
    TUNED, ("plugin", *TUNING_SETTINGS), presets={"time_budget_s": DEFAULT_TUNING_BUDGET_S}
)
def tune(
    spec: Spec,
    name: Annotated[str, typer.Argument(metavar="BACKEND", help="one that has the hooks for it")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="default: where the backend looks")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="what the file has already, too")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Find launch parameters for this device, prove them, and keep them in a file."""
    from lstm_harness.console import output, tuning
    from lstm_harness.console.progress import Counting
    from lstm_harness.tune.tuner import exit_code, tune

    with Counting(quiet) as tell:
        found = tune(name, spec, out, again, tell)
    if found["replaced"]:
        output.warning(f"replaced: {found['replaced']}")
    if as_json:
        output.as_json(found)
    else:
        tuning.tuning(found)
    return exit_code(found)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...")],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help="default: report.html in the run; of several, comparison.html in the first",
        ),
    ] = None,
    verdicts: Annotated[
        bool, typer.Option("--verdicts", help="judge two runs, BASE and NEW, at the top")
    ] = False,
    site: Annotated[
        Path | None,
        typer.Option(
            "--site", metavar="DIR", help="a site of all runs of STORE..., for any web host"
        ),
    ] = None,
    quiet: Quiet = False,
) -> int:
    """The HTML page again, one run or several side by side; or a site of whole stores."""
    from lstm_harness.console import output
    from lstm_harness.console.progress import Counting
    from lstm_harness.store import run_folder

    if site and (out or verdicts):
        raise UserError(f"--site {site} stands alone; leave out {'-o' if out else '--verdicts'}")
    if verdicts and len(runs) != 2:
        raise UserError(f"--verdicts judges two runs, BASE and NEW; got {len(runs)}")
    if site:
        with _report_libraries(f"--site {site} STORE"):
            from lstm_harness.site.static_site import write
        with Counting(quiet) as tell:
            index = write(runs, site, tell)
        output.path(index)
        return Exit.DONE
    loaded = [run_folder.load(folder) for folder in runs]
    for read in loaded:
        output.torn(read)
    # A run's own report stays its own: `view` serves it as such.
    named = run_folder.REPORT if len(runs) == 1 else run_folder.COMPARISON
    output.path(_write_report(loaded, out or runs[0] / named, verdicts))
    return Exit.DONE


@app.command()
def view(
    place: Annotated[Path, typer.Argument(metavar="[RUN|STORE]")] = Path("results/runs"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 0,
    browser: Annotated[bool, typer.Option(help="open the page in a browser")] = True,
    quiet: Quiet = False,
) -> int:
    """Serve the reports of a run or of a folder of runs, to this machine alone."""
    from lstm_harness.console import output
    from lstm_harness.console.progress import Counting

    with _report_libraries(f"{place}"):
        from lstm_harness.site.pages import Pages
        from lstm_harness.site.server import serve

    def announce(address: str, forwarding: str) -> None:
        if forwarding:
            output.warning(
                f"over SSH: on your own machine type {forwarding}, then open the address"
            )
        output.path(address)

    with Counting(quiet) as tell:
        pages = Pages(place, tell)
    serve(pages, port, browser, announce)
    return Exit.DONE


def _as_planned(run: "Run") -> "list[Record]":
    """A run's records in the order of its plan's cases, which is a reader's order."""
    from lstm_harness.model.plan import Plan

    place = {case: number for number, case in enumerate(Plan.from_dict(run.manifest["plan"]).cases)}
    return sorted(run.records, key=lambda record: place[record.case])


def _conclude(folder: Path, as_json: bool) -> int:
    """Write the report, print the fastest backend a case and, last, the report's path."""
    from lstm_harness.analysis.ranking import fastest_by_case
    from lstm_harness.analysis.summary import summarise
    from lstm_harness.console import output, tuning
    from lstm_harness.race import runs as session
    from lstm_harness.store import run_folder

    finished = run_folder.load(folder)
    summary = summarise(_as_planned(finished))
    page: Path | None = None
    try:
        page = _write_report([finished], folder / run_folder.REPORT)
    except NoReportLibraries as error:
        output.warning(f"{error}; the records are in {folder}")
    except UserError as error:
        again = f"the records are safe: lstm-bench report {folder} makes the page again"
        raise MeasuringFailed(f"{error}; {again}") from None
    failed = [(r.backend, r.status, r.reason) for r in finished.records if r.status != "ok"]
    tuning.untuned(finished)
    if as_json:
        output.as_json(output.run_document(finished, fastest_by_case(summary), page))
    else:
        output.absent(finished)
        output.no_limits(finished)
        output.failures(failed)
        output.warnings(finished)
        output.unfinished(finished)
        output.winners(fastest_by_case(summary))
        output.path(page or folder)
    return session.exit_code([status for _, status, _ in failed])


def _write_report(runs: "list[Run]", out: Path, judged: bool = False) -> Path:
    """Make the page; `judged` puts the verdicts of two runs, base and new, at its top."""
    with _report_libraries("RUN"):
        from lstm_harness.report import verdicts
        from lstm_harness.report.write import write_report
    if not judged:
        return write_report(runs, out)
    from lstm_harness.judge.comparison import compare_runs

    return write_report(runs, out, verdicts.section(compare_runs(*runs)))


@contextmanager
def _report_libraries(what: str) -> Iterator[None]:
    """Say which library a page lacks: a machine that only measures may have none of them."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("jinja2", "markupsafe", "plotly"):
            raise
        raise NoReportLibraries(
            f"no report: {error.name} is not installed here; pip install jinja2 plotly, or copy "
            f"the run to a machine that has them, then lstm-bench report {what}"
        ) from None
