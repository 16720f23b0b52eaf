"""The command line of comparing runs: `compare` tells, `check` judges, `baseline` keeps.

Imports stay light, as in `cli`.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lstm_harness.model.errors import Exit, NoReportLibraries, NotComparable, UserError

if TYPE_CHECKING:
    from lstm_harness.judge.comparison import Comparison

app = typer.Typer()
baselines = typer.Typer(help="Keep a run's records under a name, to check later runs against.")
app.add_typer(baselines, name="baseline", no_args_is_help=True)


def _share(margin: str | float) -> float:
    try:
        share = float(margin)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise UserError(
            f"--margin {str(margin)[:60]}; expected a share from 0 to below 1, like 0.05 for 5%"
        )
    return share


Place = Annotated[Path, typer.Argument(help="a run's folder, or a baseline's name or file")]
Margin = Annotated[
    float,
    typer.Option(
        "--margin", parser=_share, metavar="SHARE", help="how much slower is no matter: 0.05 is 5%"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="one JSON document on stdout")]
Explain = Annotated[
    str | None,
    typer.Option(
        "--explain",
        metavar="CASE",
        help="the numbers behind verdicts, by words of their names: 'aten T128 forward'",
    ),
]
JUnit = Annotated[
    Path | None, typer.Option("--junit", metavar="FILE", help="JUnit XML, for a CI to list")
]
Markdown = Annotated[
    Path | None,
    typer.Option("--markdown", metavar="FILE", help="a pull request's comment, under 60 lines"),
]
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="a page")]
FailOn = Annotated[
    str,
    typer.Option(
        "--fail-on",
        metavar="LIST",
        help="all that fails: regression, missing, inconclusive, incomparable, improvement",
    ),
]
Into = Annotated[
    Path | None, typer.Option("--into", metavar="DIR", help="default: results/baselines")
]


@dataclass(frozen=True)
class Outputs:
    """Where a comparison is told, beside the table or instead of it.

    Raises:
        UserError: it cannot be told there; better now than when all is measured.
    """

    as_json: bool = False
    explain: str | None = None
    junit: Path | None = None
    markdown: Path | None = None
    html: Path | None = None

    def __post_init__(self) -> None:
        from lstm_harness.store.files import refuse_unwritable

        if self.as_json and self.explain is not None:
            raise UserError("--json with --explain: the document holds the numbers; leave one out")
        files = [file for file in (self.junit, self.markdown, self.html) if file is not None]
        for file in files:
            refuse_unwritable(file)
            if files.count(file) > 1:
                raise UserError(f"{file} is given for two outputs; give each a file of its own")


@app.command()
def compare(
    base: Place,
    new: Place,
    margin: Margin = 0.05,
    as_json: Json = False,
    junit: JUnit = None,
    markdown: Markdown = None,
    html: Html = None,
    explain: Explain = None,
) -> int:
    """The difference between two runs, told; exit code 0."""
    from lstm_harness.judge.comparison import side_of

    outputs = Outputs(as_json, explain, junit, markdown, html)
    tell(_compared(side_of(base), side_of(new), margin), outputs)
    return Exit.DONE


@app.command()
def check(
    new: Place,
    base: Annotated[
        str, typer.Option("--baseline", metavar="B", help="its name or file; or a run")
    ],
    fail_on: FailOn = "regression,missing",
    margin: Margin = 0.05,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="measure once more what is in doubt, on this machine")
    ] = False,
    as_json: Json = False,
    junit: JUnit = None,
    markdown: Markdown = None,
    html: Html = None,
    explain: Explain = None,
) -> int:
    """The difference to a baseline, judged; the exit code says what came of it."""
    from lstm_harness.judge.comparison import kinds_named, side_of

    fails, outputs = kinds_named(fail_on), Outputs(as_json, explain, junit, markdown, html)
    judged = side_of(new)
    try:
        kept = side_of(Path(base))
    except UserError as error:
        raise NotComparable(str(error)) from None
    comparison = _compared(kept, judged, margin, fail_on=fails)
    if rerun:
        comparison = _again(new, comparison)
    tell(comparison, outputs)
    return comparison.exit_code


@baselines.command("save")
def save_baseline(
    run: Annotated[Path, typer.Argument(metavar="RUN")],
    name: Annotated[str, typer.Argument(metavar="NAME")],
    into: Into = None,
    force: Annotated[bool, typer.Option("--force", help="replace one of that name")] = False,
) -> int:
    """Keep a run's records as a baseline."""
    from lstm_harness.console import output
    from lstm_harness.judge import baseline
    from lstm_harness.store import run_folder

    loaded = run_folder.load(run)
    output.torn(loaded)
    planned = loaded.manifest["plan"]["planned_records"]
    if len(loaded.records) < planned:
        found = f"{len(loaded.records):,} of {planned:,} records"
        output.warning(f"{run} is not whole: {found}; what is missing will not be checked")
    untimed = Counter(record.status for record in loaded.records if record.status != "ok")
    if untimed:
        told = ", ".join(f"{count} {status}" for status, count in untimed.items())
        output.warning(
            f"{run} has records without a time ({told}); their cases will not be checked"
        )
    output.path(baseline.save(loaded, name, into or baseline.FOLDER, force))
    return Exit.DONE


@baselines.command("list")
def list_baselines(into: Into = None, as_json: Json = False) -> int:
    """The baselines here, and what they are of."""
    from lstm_harness.console import output
    from lstm_harness.judge import baseline

    folder = into or baseline.FOLDER
    rows, broken = baseline.listed(folder)
    for said in broken:
        output.warning(said)
    if as_json:
        output.as_json(rows)
    elif rows:
        output.baselines(rows)
    else:
        output.line(f"no baseline in {folder}; lstm-bench baseline save RUN NAME makes one")
    return Exit.DONE


def _compared(base: Any, new: Any, margin: float, **how: Any) -> "Comparison":
    from lstm_harness.judge import noise
    from lstm_harness.judge.comparison import compare_sides, is_paired
    from lstm_harness.judge.verdict import Rules

    margins = noise.kept(new.manifest["environment"]).margins
    rules = Rules(margin=margin, paired=is_paired(base, new))
    return compare_sides(base, new, rules, margins, **how)


def _again(run: Path, first: "Comparison") -> "Comparison":
    from lstm_harness.ab.rerun import recurring
    from lstm_harness.console.progress import LiveProgress
    from lstm_harness.judge import noise

    margins = noise.kept(first.new.manifest["environment"]).margins
    with LiveProgress(quiet=False) as watch:
        return recurring(run, first, margins, watch)


def tell(comparison: "Comparison", outputs: Outputs) -> None:
    """Write what was asked for: files first, so that a pipe that breaks loses none.

    Raises:
        UserError: a file cannot be written, or `--explain` names no case.
    """
    from lstm_harness.console import comparison as table
    from lstm_harness.console import output
    from lstm_harness.judge.exporters import document, explain

    explained = (
        None if outputs.explain is None else list(explain.lines(comparison, outputs.explain))
    )
    _write_files(comparison, outputs)
    if outputs.as_json:
        output.as_json(document.document(comparison))
    elif explained is not None:
        for line in explained:
            output.line(line)
    else:
        table.write(comparison)


def _write_files(comparison: "Comparison", outputs: Outputs) -> None:
    from lstm_harness.judge.exporters import markdown
    from lstm_harness.store.files import write_file

    try:
        if outputs.junit:
            from lstm_harness.judge.exporters import junit

            write_file(outputs.junit, junit.xml(comparison))
        if outputs.html:
            from lstm_harness.report import verdicts

            write_file(outputs.html, verdicts.render(comparison).encode())
    except ModuleNotFoundError as error:
        if error.name not in ("junitparser", "jinja2", "markupsafe", "plotly"):
            raise
        raise NoReportLibraries(
            f"{error.name} is not installed here; pip install junitparser jinja2 plotly, or leave "
            "out --junit and --html"
        ) from None
    if outputs.markdown:
        write_file(outputs.markdown, markdown.text(comparison).encode())
