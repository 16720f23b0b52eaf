"""The command line of comparing runs: `compare` tells, `check` judges, `baseline` keeps.

Imports stay light, as in `app`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lstm_harness.cli.flags import (
    Explain,
    FailOn,
    Html,
    Json,
    JUnit,
    Margin,
    Markdown,
    MemoryMargin,
)
from lstm_harness.cli.outputs import Outputs, tell
from lstm_harness.cli.places import Place, place
from lstm_harness.model.errors import Exit, MeasuringFailed, NotComparable, UserError

if TYPE_CHECKING:
    from lstm_harness.judge.comparison import Comparison

app = typer.Typer()
baseline = typer.Typer(help="Keep a run's records under a name, to check later runs against.")
app.add_typer(baseline, name="baseline", no_args_is_help=True)

_SIDE = "a run's folder or URL, or a baseline's name or file"
Base = Annotated[Place, typer.Argument(metavar="BASE", parser=place, help=_SIDE)]
New = Annotated[Place, typer.Argument(metavar="NEW", parser=place, help=_SIDE)]
Into = Annotated[
    Path | None, typer.Option("--into", metavar="DIR", help="default: results/baselines")
]


@app.command()
def compare(
    base: Base,
    new: New,
    margin: Margin = 0.05,
    memory_margin: MemoryMargin = 0.01,
    as_json: Json = False,
    junit: JUnit = None,
    markdown: Markdown = None,
    html: Html = None,
    explain: Explain = None,
) -> int:
    """Show what changed between two runs; ends with 0 whatever changed (`check` is the gate)."""
    from lstm_harness.judge.comparison import compared, side_of

    outputs = Outputs(as_json, explain, junit, markdown, html)
    comparison = compared(
        side_of(base.here()), side_of(new.here()), margin, memory_margin=memory_margin
    )
    tell(comparison, outputs)
    return Exit.DONE


@app.command()
def check(
    new: New,
    base: Annotated[
        Place,
        typer.Option(
            "--baseline",
            metavar="B",
            parser=place,
            help="a baseline's name or file, or a run's folder",
        ),
    ],
    fail_on: FailOn = "regression,missing",
    margin: Margin = 0.05,
    memory_margin: MemoryMargin = 0.01,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="measure once more what is in doubt, on this machine")
    ] = False,
    as_json: Json = False,
    junit: JUnit = None,
    markdown: Markdown = None,
    html: Html = None,
    explain: Explain = None,
) -> int:
    """Judge a run against a baseline.

    Ends with 0 where nothing got worse, 1 for a regression or a missing case, 3 where no time was
    conclusive, 4 for a wrong result, 5 where nothing is comparable, 6 where measuring failed.
    """
    from lstm_harness.judge.comparison import compared, kinds_named, side_of

    fails, outputs = kinds_named(fail_on), Outputs(as_json, explain, junit, markdown, html)
    if rerun and new.url:
        raise UserError(f"--rerun {new}: it measures next to the run; give the run's folder")
    judged = side_of(new.here())
    try:
        kept = side_of(base.here())
    except MeasuringFailed:
        raise
    except UserError as error:
        raise NotComparable(str(error)) from None
    comparison = compared(kept, judged, margin, fails, memory_margin)
    if rerun:
        comparison = _again(new.here(), comparison)
    tell(comparison, outputs)
    return comparison.exit_code


@baseline.command("save")
def save_baseline(
    run: Annotated[
        Place, typer.Argument(metavar="RUN", parser=place, help="a run's folder or URL")
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="a name for it, like main")],
    into: Into = None,
    force: Annotated[bool, typer.Option("--force", help="replace one of that name")] = False,
) -> int:
    """Keep a run's records as a baseline."""
    from lstm_harness.console import baselines, output
    from lstm_harness.judge import baseline
    from lstm_harness.store import run_folder

    loaded = run_folder.load(run.here())
    output.damaged(loaded)
    baselines.unchecked(loaded)
    output.path(baseline.save(loaded, name, into or baseline.FOLDER, force))
    return Exit.DONE


@baseline.command("list")
def list_baselines(into: Into = None, as_json: Json = False) -> int:
    """List the baselines here, and the run that each was made from."""
    from lstm_harness.console import baselines, output
    from lstm_harness.judge import baseline

    folder = into or baseline.FOLDER
    rows, broken = baseline.listed(folder)
    for said in broken:
        output.warning(said)
    if as_json:
        output.as_json(rows)
    elif rows:
        baselines.table(rows)
    else:
        output.line(f"no baseline in {folder}; lstm-bench baseline save RUN NAME makes one")
    return Exit.DONE


def _again(run: Path, first: "Comparison") -> "Comparison":
    from lstm_harness.ab.rerun import recurring
    from lstm_harness.console.progress import LiveProgress
    from lstm_harness.judge import noise

    margins = noise.kept(first.new.manifest["environment"]).margins
    with LiveProgress(quiet=False) as watch:
        return recurring(run, first, margins, watch)
