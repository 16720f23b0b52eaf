"""The command line of measuring two sides here: `ab` compares revisions, `selftest` A with A.

Imports stay light, as in `app`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lstm_harness.cli.flags import Explain, FailOn, Html, Json, JUnit, Margin, Markdown, Quiet
from lstm_harness.cli.margins import MemoryMargin
from lstm_harness.cli.options import takes_paired_spec
from lstm_harness.cli.outputs import Outputs, tell
from lstm_harness.model.errors import Exit
from lstm_harness.model.spec import Spec

if TYPE_CHECKING:
    from lstm_harness.ab.revisions import Revision
    from lstm_harness.ab.two_sides import Result
    from lstm_harness.judge.verdict import Kind, Rules

app = typer.Typer()

Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="new or empty")]


@app.command()
@takes_paired_spec
def ab(
    spec: Spec,
    base_ref: Annotated[str, typer.Argument(help="a commit, branch or tag: whose kernels to beat")],
    new_ref: Annotated[str | None, typer.Argument(help="default: the working tree")] = None,
    fail_on: FailOn = "regression,missing",
    margin: Margin = 0.05,
    memory_margin: MemoryMargin = 0.01,
    out: Out = None,
    as_json: Json = False,
    junit: JUnit = None,
    markdown: Markdown = None,
    html: Html = None,
    explain: Explain = None,
    quiet: Quiet = False,
) -> int:
    """Measure two revisions' kernels in turn on this machine, and judge the newer one.

    Ends as `check` does.
    """
    from lstm_harness.ab.revisions import checked_out, repository, working_tree
    from lstm_harness.console import output
    from lstm_harness.judge.comparison import kinds_named
    from lstm_harness.judge.verdict import Rules
    from lstm_harness.race.scratch import scratch_folder

    fails, outputs = kinds_named(fail_on), Outputs(as_json, explain, junit, markdown, html)
    repo = repository(Path.cwd())
    with scratch_folder() as scratch:
        base = checked_out(base_ref, repo, scratch / "base")
        if new_ref:
            new = checked_out(new_ref, repo, scratch / "new")
        else:
            new = working_tree(repo, scratch / "new")
        rules = Rules(margin=margin, memory_margin=memory_margin, paired=True)
        measured = _measured(spec, (base, new), rules, fails, out, quiet)
    tell(measured.comparison, outputs)
    output.warning(f"records: {measured.folder / 'base'} and {measured.folder / 'new'}")
    return measured.comparison.exit_code


@app.command()
@takes_paired_spec
def selftest(
    spec: Spec, margin: Margin = 0.05, out: Out = None, as_json: Json = False, quiet: Quiet = False
) -> int:
    """Measure A against A: this machine's own noise, and the slowdown that it can see."""
    from lstm_harness.ab import selftest
    from lstm_harness.console import output
    from lstm_harness.console import selftest as shown
    from lstm_harness.judge import noise
    from lstm_harness.judge.comparison import FAILS
    from lstm_harness.judge.verdict import Rules

    kernels, rules = selftest.same_kernels(), Rules(margin=margin, paired=True)
    measured = _measured(spec, kernels, rules, FAILS, out, quiet, by_noise=False)
    comparison = measured.comparison
    alarms = selftest.false_alarms(comparison.verdicts)
    cases = selftest.noise_of(comparison.verdicts, rules)
    spreads = noise.spreads_of(comparison.base.summary, comparison.new.summary)
    kept = noise.keep(measured.environment, comparison.verdicts, spreads)
    if as_json:
        output.as_json(selftest.document(comparison.verdicts, cases, kept.file))
    else:
        shown.noise(cases, alarms)
        output.line("A case's noise is a margin of later verdicts here; to forget it, remove")
        output.path(kept.file)
    outcome = comparison.exit_code
    if alarms and outcome not in (Exit.INCORRECT, Exit.MEASURING_FAILED):
        return Exit.REGRESSION
    # What cannot be told here is what it was asked to find out.
    return Exit.DONE if outcome == Exit.INCONCLUSIVE else outcome


def _measured(
    spec: Spec,
    revisions: "tuple[Revision, Revision]",
    rules: "Rules",
    fails: "frozenset[Kind]",
    out: Path | None,
    quiet: bool,
    by_noise: bool = True,
) -> "Result":
    from lstm_harness.ab.two_sides import compare
    from lstm_harness.console.progress import LiveProgress

    with LiveProgress(quiet) as watch:
        return compare(spec, revisions, rules, fails, out, watch, by_noise)
