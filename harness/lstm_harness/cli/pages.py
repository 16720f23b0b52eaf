"""The command line of pages: `report` writes them, `view` serves them.

Imports stay light, as in `app`.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lstm_harness.cli.flags import Quiet
from lstm_harness.cli.places import Place, place
from lstm_harness.console.guards import libraries
from lstm_harness.model.errors import Exit, UserError
from lstm_harness.model.workloads import WORKLOADS

if TYPE_CHECKING:
    from lstm_harness.store.run_folder import Run
    from lstm_harness.store.training_folder import Training

app = typer.Typer()

RUNS = Place("results/runs")


@app.command()
def report(
    runs: Annotated[
        list[Place],
        typer.Argument(metavar="RUN", parser=place, help="runs, a training, or stores for --site"),
    ],
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
            "--site",
            metavar="DIR",
            help="write the board and all pages of the given stores, or bring them up to date",
        ),
    ] = None,
    quiet: Quiet = False,
) -> int:
    """Write the page of a run again, of several runs side by side, or a site of whole folders."""
    from lstm_harness.console import output
    from lstm_harness.console.progress import Counting
    from lstm_harness.store import run_folder, training_folder
    from lstm_harness.store.files import refuse_url

    if site and (out or verdicts):
        raise UserError(f"--site {site} stands alone; leave out {'-o' if out else '--verdicts'}")
    if verdicts and len(runs) != 2:
        raise UserError(f"--verdicts judges two runs, BASE and NEW; got {len(runs)}")
    if site:
        refuse_url(site)
        with libraries("no report", instead=_elsewhere(f"--site {site} STORE")):
            from lstm_harness.site.static_site import write
        with Counting(quiet) as tell:
            index = write([each.here(tell) for each in runs], site, tell)
        output.path(index)
        return Exit.DONE
    folders = [each.here() for each in runs]
    if any(map(training_folder.is_one, folders)):
        return _training_report(folders, out, verdicts)
    loaded = [run_folder.load(folder) for folder in folders]
    for read in loaded:
        output.damaged(read)
    # A run's own report stays its own: `view` serves it as such.
    named = run_folder.REPORT if len(runs) == 1 else run_folder.COMPARISON
    output.path(write_report_of(loaded, out or folders[0] / named, verdicts))
    return Exit.DONE


def _training_report(folders: list[Path], out: Path | None, verdicts: bool) -> int:
    from lstm_harness.console import output
    from lstm_harness.store import training_folder

    if len(folders) != 1 or verdicts:
        raise UserError("a training has a page of its own; give one, without --verdicts")
    output.path(write_training_page(training_folder.load(folders[0]), out))
    return Exit.DONE


def write_training_page(training: "Training", out: Path | None = None) -> Path:
    """Make the page of a training, in its folder where no other place is named.

    Raises:
        NoReportLibraries: a library that a page needs is not installed.
        UserError: it cannot be written.
    """
    from lstm_harness.console import output
    from lstm_harness.store.files import write_file
    from lstm_harness.store.run_folder import REPORT

    with libraries("no report", instead=_elsewhere(str(training.folder))):
        from lstm_harness.report.training import render
    place = out or training.folder / REPORT
    if training.edited:
        output.warning(
            f"{training.folder}: curves.jsonl is not what the training wrote; its SHA-256 differs"
        )
    manifest = training.manifest
    page = render(WORKLOADS[manifest.spec.workload], training.curves, asdict(manifest))
    write_file(place, page.encode())
    return place


@app.command()
def view(
    what: Annotated[Place, typer.Argument(metavar="RUN|STORE", parser=place)] = RUNS,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port")] = 0,
    browser: Annotated[bool, typer.Option(help="open the page in a browser")] = True,
    quiet: Quiet = False,
) -> int:
    """Serve the reports of a run or of a folder of runs, to this machine only."""
    from lstm_harness.console.progress import Counting

    with libraries("no report", instead=_elsewhere(f"{what}")):
        from lstm_harness.site.pages import Pages
        from lstm_harness.site.server import serve

    with Counting(quiet) as tell:
        pages = Pages(what.here(tell), tell)
    serve(pages, port, browser, _announce)
    return Exit.DONE


def write_report_of(runs: "Sequence[Run]", out: Path, judged: bool = False) -> Path:
    """Make the page; `judged` puts the verdicts of two runs, base and new, at its top.

    Raises:
        NoReportLibraries: a library that a page needs is not installed.
        UserError: `out` cannot be written.
    """
    with libraries("no report", instead=_elsewhere("RUN")):
        from lstm_harness.report import verdicts
        from lstm_harness.report.write import write_report
    if not judged:
        return write_report(runs, out)
    from lstm_harness.judge.comparison import compare_runs

    return write_report(runs, out, verdicts.section(compare_runs(*runs)))


def _elsewhere(what: str) -> str:
    return f"copy the run to a machine that has them, then lstm-bench report {what}"


def _announce(address: str, forwarding: str) -> None:
    """Say where the pages are, and how another machine reaches them over SSH."""
    from lstm_harness.console import output

    if forwarding:
        output.warning(f"over SSH: on your own machine type {forwarding}, then open the address")
    output.path(address)
