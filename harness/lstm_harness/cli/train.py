"""The command line of training: workloads that learn, on every backend.

Imports stay light, as in `app`.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lstm_harness.cli.flags import Json, Quiet
from lstm_harness.cli.measure import Device, Out, Plugins
from lstm_harness.cli.options import names_in
from lstm_harness.cli.places import Place, place
from lstm_harness.cli.publishing import begun_in, folder_for, publish_if_asked
from lstm_harness.model.errors import Exit, NoReportLibraries, UserError
from lstm_harness.model.training import TrainingSpec, refuse_unfit
from lstm_harness.model.workloads import WORKLOADS

app = typer.Typer()

MOST_SEEDS = 100
DEFAULT_SECONDS = 600.0


@app.command()
def train(
    workload: Annotated[str | None, typer.Argument(metavar="WORKLOAD", help="see --list")] = None,
    listed: Annotated[
        bool, typer.Option("--list", help="list the workloads: data, size, source, licence, goal")
    ] = False,
    backend: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="default: one of ours, PyTorch's own, and naive"),
    ] = None,
    cell: Annotated[str, typer.Option(metavar="LIST", help="lstm, gru, rnn_tanh, ...")] = "lstm",
    seeds: Annotated[
        int, typer.Option(min=1, max=MOST_SEEDS, help="how many seeds, from --seed on")
    ] = 3,
    seed: Annotated[int, typer.Option(min=0, help="the first seed")] = 0,
    budget: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="the longest that one curve trains")
    ] = DEFAULT_SECONDS,
    steps: Annotated[
        int | None, typer.Option(min=1, help="the most steps that one curve trains")
    ] = None,
    past_goal: Annotated[
        bool, typer.Option("--past-goal", help="go on after the goal is reached")
    ] = False,
    bptt: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="gradients go back through K steps")
    ] = None,
    padding: Annotated[
        str, typer.Option(help="packed: skip the steps past a sequence's end; masked: compute them")
    ] = "packed",
    forget: Annotated[
        bool, typer.Option("--forget", help="start each batch of char-lm with zero states")
    ] = False,
    text: Annotated[
        Path | None, typer.Option(metavar="FILE", help="what char-lm learns from")
    ] = None,
    device: Device = None,
    threads: Annotated[int | None, typer.Option(min=1, help="default: all physical cores")] = None,
    plugin: Plugins = None,
    out: Out = None,
    resume: Annotated[
        Place | None,
        typer.Option(
            "--resume", metavar="DIR", parser=place, help="finish an interrupted training"
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Train a small real task from the same seeds on each backend: who learns, and how fast."""
    from lstm_harness.console import output, workloads

    if listed:
        if as_json:
            output.as_json(workloads.listed())
        else:
            workloads.list_workloads()
        return Exit.DONE
    if resume:
        if workload or out:
            given = workload or f"--out {out}"
            raise UserError(f"--resume {resume} goes on as begun; leave out {given}")
        return _trained(None, None, resume, as_json, quiet)
    if workload is None:
        raise UserError(
            "no workload was named; expected one of those that lstm-bench train --list shows"
        )
    if padding not in ("packed", "masked"):
        raise UserError(f"--padding {padding}; expected packed or masked")
    spec = TrainingSpec(
        workload=workload,
        backends=names_in(backend) if backend is not None else (),
        cells=names_in(cell),
        seeds=tuple(range(seed, seed + seeds)),
        seconds=budget,
        steps=steps,
        to_goal=not past_goal,
        bptt=bptt,
        packed=padding == "packed",
        remember=not forget,
        text=str(text.resolve()) if text else None,
        device=device or "auto",
        threads=threads,
        plugins=tuple(plugin or ()),
    )
    if text and not text.is_file():
        raise UserError(f"--text {text}: no such file; give a text file in UTF-8")
    refuse_unfit(spec)
    return _trained(spec, out, None, as_json, quiet)


def _trained(
    spec: TrainingSpec | None, out: Place | None, resume: Place | None, as_json: bool, quiet: bool
) -> int:
    """Train what a spec asks for, or what is left of a training; then tell what was learnt."""
    from lstm_harness.cli.pages import write_training_page
    from lstm_harness.console import output
    from lstm_harness.console import training as shown
    from lstm_harness.console.progress import TrainingProgress
    from lstm_harness.race import runs, training
    from lstm_harness.store import training_folder
    from lstm_harness.store.training_folder import TRAINING

    place = begun_in(resume) if resume else (folder_for(out, TRAINING) if out else None)
    with TrainingProgress(quiet) as tell:
        if spec is None:
            assert place is not None
            folder = training.resume(place, tell)
        else:
            folder = training.train(spec, place, tell)
    finished = training_folder.load(folder)
    workload, manifest = WORKLOADS[finished.manifest.spec.workload], asdict(finished.manifest)
    page = None
    try:
        page = write_training_page(finished)
    except NoReportLibraries as error:
        output.warning(f"{error}; the curves are in {folder}")
    if as_json:
        output.as_json(shown.document(workload, finished.curves, manifest))
    else:
        shown.write(workload, finished.curves)
        output.path(page or folder)
    publish_if_asked(folder)
    return runs.exit_code([each.end.status for each in finished.curves if each.end])
