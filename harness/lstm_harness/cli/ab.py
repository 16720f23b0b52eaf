"""The command line of measuring two sides here: `ab` compares revisions, `selftest` A with A.

Imports stay light, as in `app`.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from lstm_harness.cli.flags import (
    Explain,
    FailOn,
    Html,
    Json,
    JUnit,
    Margin,
    Markdown,
    MemoryMargin,
    Quiet,
)
from lstm_harness.cli.options import PAIRED_BLOCKS, spec_of, takes_paired_spec
from lstm_harness.cli.outputs import Outputs, tell
from lstm_harness.model.errors import Exit, UserError
from lstm_harness.model.spec import Spec
from lstm_harness.model.text import without_secrets

if TYPE_CHECKING:
    from collections.abc import Collection

    from lstm_harness.ab.two_sides import Result
    from lstm_harness.fleet.ledger import Pair, Settings
    from lstm_harness.judge.comparison import Comparison
    from lstm_harness.judge.verdict import Kind, Rules
    from lstm_harness.model.revision import Revision

app = typer.Typer()

Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="a folder for both runs, new or empty")
]


# What decides verdicts, where it is not given.
_FAIL_ON, _MARGIN, _MEMORY_MARGIN = "regression,missing", 0.05, 0.01


@app.command()
@takes_paired_spec
def ab(
    spec: Spec,
    base_ref: Annotated[
        str | None,
        typer.Argument(
            metavar="BASE_REF",
            help="the commit, branch or tag whose kernels, or plugin, to compare with; not with "
            "--resume",
        ),
    ] = None,
    new_ref: Annotated[
        str | None, typer.Argument(metavar="NEW_REF", help="default: the working tree")
    ] = None,
    fail_on: FailOn = _FAIL_ON,
    margin: Margin = _MARGIN,
    memory_margin: MemoryMargin = _MEMORY_MARGIN,
    engine: Annotated[
        str | None,
        of_engine("--engine", "on many devices: local (the GPUs of this host), ray, slurm", "NAME"),
    ] = None,
    gpus: Gpus = None,
    address: Address = None,
    accelerator_type: AcceleratorType = None,
    sbatch: Sbatch = None,
    cases_per_task: CasesPerTask = None,
    out: Out = None,
    resume: Annotated[
        Path | None,
        of_engine("--resume", "go on with an ab --engine whose coordinator ended", "DIR"),
    ] = None,
    as_json: Json = False,
    junit: JUnit = None,
    markdown: Markdown = None,
    html: Html = None,
    explain: Explain = None,
    quiet: Quiet = False,
) -> int:
    """Measure two revisions' kernels in turn on this machine, and judge the newer one.

    With --engine on many devices, each pair on one of them. Ends as `check` does.

    In a repository of your own it compares two revisions of a --plugin, by default of the backends
    that the plugin brings; the kernels are those that are installed.
    """
    from lstm_harness.console import output
    from lstm_harness.judge.comparison import kinds_named
    from lstm_harness.judge.verdict import Rules

    fails, outputs = kinds_named(fail_on), Outputs(as_json, explain, junit, markdown, html)
    settings = settings_of(engine, gpus, address, accelerator_type, sbatch, cases_per_task)
    rules = Rules(margin=margin, memory_margin=memory_margin, paired=True)
    if resume:
        preset = (spec_of(None, None, None, None, blocks=PAIRED_BLOCKS), _MARGIN, _MEMORY_MARGIN)
        is_preset = (spec, margin, memory_margin) == preset and fails == kinds_named(_FAIL_ON)
        if base_ref or out or cases_per_task or not is_preset:
            raise UserError(f"--resume {resume} goes on as planned; leave out what to run, and how")
        folder, comparison = resume, _resumed(resume, settings, quiet)
    elif base_ref is None:
        raise UserError("no BASE_REF; expected a commit, branch or tag, as in lstm-bench ab main")
    else:
        fleet = settings, cases_per_task
        folder, comparison = _compared(spec, (base_ref, new_ref), rules, fails, fleet, out, quiet)
    tell(comparison, outputs)
    output.warning(f"records: {folder / 'base'} and {folder / 'new'}")
    return comparison.exit_code


def _compared(
    spec: Spec,
    refs: tuple[str, str | None],
    rules: "Rules",
    fails: "frozenset[Kind]",
    fleet: "tuple[Settings | None, int | None]",
    out: Path | None,
    quiet: bool,
) -> "tuple[Path, Comparison]":
    """Measure two revisions of the repository here, on a fleet's devices or on this one.

    Args:
        fleet: the engine and how many cases a task has; no engine for this device.
    """
    from lstm_harness.race.scratch import scratch_folder

    with scratch_folder() as scratch:
        settings, cases_per_task = fleet
        both = _revisions(spec, refs, scratch, bool(settings))
        if settings:
            pair = _pair(both, rules, fails)
            return _on_fleet(spec, both, pair, settings, cases_per_task, out, quiet)
        measured = _measured(spec, both, rules, fails, out, quiet)
    return measured.folder, measured.comparison


def _revisions(
    spec: Spec, refs: tuple[str, str | None], scratch: Path, on_fleet: bool
) -> "tuple[Revision, Revision]":
    """Two revisions of the kernels, or of plugins where there is no checkout of lstm-bench."""
    from functools import partial

    from lstm_harness.ab import plugins, revisions

    at, on_disk = revisions.checked_out, revisions.working_tree
    if spec.plugins and not revisions.is_checkout(Path.cwd()):
        if on_fleet:
            raise UserError("--engine compares kernels alone; leave it out to compare a plugin")
        repo = plugins.repository(spec.plugins)
        at, on_disk = (
            partial(plugins.checked_out, spec.plugins),
            partial(plugins.working_tree, spec.plugins),
        )
    else:
        repo = revisions.repository(Path.cwd())
    base = at(refs[0], repo, scratch / "base")
    new = at(refs[1], repo, scratch / "new") if refs[1] else on_disk(repo, scratch / "new")
    return base, new


def _pair(
    revisions: "tuple[Revision, Revision]", rules: "Rules", fails: "Collection[Kind]"
) -> "Pair":
    import lstm_kernels
    from lstm_harness.fleet.ledger import Pair
    from lstm_harness.model.sources import sources_digest

    facts = [{"name": each.name, "commit": each.commit, "git": each.git} for each in revisions]
    installed = sources_digest(Path(lstm_kernels.__path__[0]).parent, ())
    kinds = tuple(sorted(fails))
    return Pair(tuple(facts), rules.margin, rules.memory_margin, kinds, installed)


def _on_fleet(
    spec: Spec,
    revisions: "tuple[Revision, Revision]",
    pair: "Pair",
    settings: "Settings",
    cases_per_task: int | None,
    out: Path | None,
    quiet: bool,
) -> "tuple[Path, Comparison]":
    from lstm_harness.ab.two_sides import refuse_few_blocks
    from lstm_harness.console import output
    from lstm_harness.console.progress import Counting
    from lstm_harness.fleet import coordinator
    from lstm_harness.fleet.coordinator import FleetWatch
    from lstm_harness.fleet.engines import made
    from lstm_harness.fleet.ledger import State

    refuse_few_blocks(spec)
    command = ("lstm-bench", *map(without_secrets, sys.argv[1:]))
    state = State(spec.to_dict(), command, settings, cases_per_task, pair=pair)
    roots = [revision.root for revision in revisions]
    with Counting(quiet) as counted:
        watch = FleetWatch(counted, output.warning)
        folder = coordinator.run(state, out, made, watch, roots)
    return folder, _judged(folder, pair)


def _resumed(folder: Path, settings: "Settings | None", quiet: bool) -> "Comparison":
    from lstm_harness.console import output
    from lstm_harness.console.progress import Counting
    from lstm_harness.fleet import coordinator
    from lstm_harness.fleet.coordinator import FleetWatch
    from lstm_harness.fleet.engines import made
    from lstm_harness.fleet.ledger import AB, state_of

    with Counting(quiet) as counted:
        watch = FleetWatch(counted, output.warning)
        coordinator.resume(folder, settings, made, watch, AB)
    pair = state_of(folder, AB).pair
    assert pair, "a state of this kind has one"
    return _judged(folder, pair)


def _judged(folder: Path, pair: "Pair") -> "Comparison":
    from lstm_harness.ab.over_machines import compared
    from lstm_harness.judge.verdict import Kind

    return compared(folder, pair.rules, frozenset(map(Kind, pair.fail_on)))


@app.command()
@takes_paired_spec
def selftest(
    spec: Spec,
    margin: Margin = _MARGIN,
    out: Out = None,
    as_json: Json = False,
    quiet: Quiet = False,
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
