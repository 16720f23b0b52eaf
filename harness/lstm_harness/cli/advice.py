"""The command line of a program of one's own: `capture` notes its layers, `recommend` advises.

Imports stay light, as in `app`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lstm_harness.cli.flags import Json, Quiet
from lstm_harness.cli.measure import Out, Resume, Wait, measured, write_page
from lstm_harness.cli.options import spec_of, takes_shapes
from lstm_harness.cli.places import Place, place
from lstm_harness.cli.publishing import publish_if_asked
from lstm_harness.model.errors import Exit, Interrupted, UserError
from lstm_harness.model.spec import Spec

if TYPE_CHECKING:
    from lstm_harness.interop.captured_suite import Captured
    from lstm_harness.interop.watched_program import Notes

app = typer.Typer()

SUITE = "captured.toml"


@app.command(context_settings={"allow_interspersed_args": False})
def capture(
    program: Annotated[
        list[str], typer.Argument(metavar="-- PROGRAM", help="like: -- python train.py --lr 0.1")
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="SUITE.toml", help="the suite to write")
    ] = Path(SUITE),
) -> int:
    """Run a program unchanged and write a suite of its recurrent layers; exits as it does."""
    from lstm_harness.interop import captured_suite, watched_program
    from lstm_harness.race.scratch import scratch_folder
    from lstm_harness.store.files import refuse_unwritable, write_file

    refuse_unwritable(out)
    with scratch_folder() as scratch:
        code = watched_program.run(program, scratch)
        notes = watched_program.read(scratch)
    made = captured_suite.captured(notes, program)
    if made.text:
        write_file(out, made.text.encode())
    _tell(made, notes, out)
    if code == Exit.INTERRUPTED:
        raise Interrupted("the program was interrupted; what it had called until then counts")
    return code


@app.command()
@takes_shapes(SUITE)
def recommend(
    spec: Spec | None,
    run: Annotated[
        Place | None,
        typer.Option(
            "--run", metavar="RUN", parser=place, help="use a run that was measured before"
        ),
    ] = None,
    out: Out = None,
    resume: Resume = None,
    wait: Wait = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Recommend a backend for these shapes, and say what it saves over torch.nn's own choice."""
    from lstm_harness.analysis.recommendation import recommended
    from lstm_harness.console import output
    from lstm_harness.console import recommendation as shown
    from lstm_harness.console.keeping import keep_for_auto
    from lstm_harness.model.plan import Plan
    from lstm_harness.race import runs
    from lstm_harness.store import run_folder

    _refuse_contradiction(spec, run, out, resume)
    folder = run.here() if run else measured(spec or _captured(), out, resume, wait, quiet)
    with runs.resumable(folder):
        finished = run_folder.load(folder)
        output.damaged(finished)
        page = None if run else write_page(finished)
        asked, plan = (finished.manifest[name] for name in ("spec", "plan"))
        advice = recommended(Spec.from_dict(asked), Plan.from_dict(plan), finished.records)
        kept = keep_for_auto(finished)
        if kept:
            output.warning(f'backend="auto" goes by this run from now on: {kept}')
        if as_json:
            output.as_json(shown.document(finished, page, advice))
        else:
            shown.write(finished, page, advice)
        publish_if_asked(folder)
    statuses = [record.standing[0] for record in finished.records]
    code = runs.exit_code(statuses)
    return code if advice.backend or code == Exit.INCORRECT else Exit.MEASURING_FAILED


def _tell(made: "Captured", notes: "Notes", out: Path) -> None:
    """Say on stderr what came of it: stdout is the program's own."""
    from lstm_harness.console import output
    from lstm_harness.console import recommendation as shown

    for said in made.said:
        output.warning(said)
    output.warning(shown.came_of(made, notes, out))


def _captured() -> Spec:
    """What `capture` wrote here.

    Raises:
        UserError: it is not there.
    """
    if not Path(SUITE).exists():
        raise UserError(
            f"no {SUITE} here; make one with lstm-bench capture -- python train.py, or give a "
            "suite (see lstm-bench suites) or axes, like --hidden 256"
        )
    return spec_of(SUITE, None, None, None)


def _refuse_contradiction(
    spec: Spec | None, run: Place | None, out: Place | None, resume: Place | None
) -> None:
    if run and resume:
        raise UserError(f"--run {run} with --resume {resume}; leave one out")
    there = run or resume
    if there and (spec or out):
        flag = "--run" if run else "--resume"
        raise UserError(f"{flag} {there} is as it was planned; leave out what to run, and how")
    # Without torch.nn's own choice there is nothing to save against.
    if spec and spec.backends and not {"aten", "cudnn"} & set(spec.backends):
        named = ",".join(spec.backends)
        raise UserError(
            f"--backend {named} leaves out torch.nn's own choice, the base of the comparison; "
            f"type --backend {named},aten,cudnn"
        )
