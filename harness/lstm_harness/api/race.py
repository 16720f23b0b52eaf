"""`run` measures and `load` reads; both give a `Run`."""

from dataclasses import replace
from pathlib import Path

from lstm_harness.api import arguments
from lstm_harness.api.arguments import Files, Flags, Names, Shares, Sizes
from lstm_harness.api.results import Run
from lstm_harness.console import output
from lstm_harness.console.keeping import keep_for_auto
from lstm_harness.console.progress import LiveProgress
from lstm_harness.model.errors import Interrupted, UserError
from lstm_harness.race import runs
from lstm_harness.store import remote, run_folder


def run(
    suite: str | None = None,
    *,
    spec: str | Path | None = None,
    backend: Names | None = None,
    plugin: Files | None = None,
    cell: Names | None = None,
    seq_len: Sizes | None = None,
    batch: Sizes | None = None,
    input: Sizes | None = None,
    hidden: Sizes | None = None,
    layers: Sizes | None = None,
    bidirectional: Flags | None = None,
    bias: Flags | None = None,
    proj_size: Sizes | None = None,
    heads: Sizes | None = None,
    dtype: Names | None = None,
    precision: Names | None = None,
    lengths: Names | None = None,
    passes: Names | None = None,
    launch: Names | None = None,
    cache: Names | None = None,
    batch_first: Flags | None = None,
    autocast: Names | None = None,
    dropout: Shares | None = None,
    device: str | None = None,
    threads: int | None = None,
    blocks: int | None = None,
    min_samples: int | None = None,
    rel_ci: float | None = None,
    cell_timeout: float | None = None,
    time_budget: float | None = None,
    seed: int | None = None,
    label: str | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    wait: bool = False,
    quiet: bool = False,
) -> Run:
    """Verify and measure, in worker processes of their own, and keep the records on disk.

    Defaults are those of `lstm-bench run`; with no suite and no axis at all it is `quick`.
    An axis takes one value, several, or a text as on the command line: `16`, `[16, 32]`,
    `"16:64:x2"`.

    Args:
        suite: a named suite; `spec` is a file of one of your own, in TOML.
        backend: names; every backend that runs here if none is given.
        plugin: files with BACKENDS or CELLS; only the workers import them.
        cell, dtype, precision, lengths, launch, cache, autocast: see `lstm-bench run --help`.
        seq_len, batch, input, hidden, layers: T, B, I, H, L; I is H if it is not given.
        bidirectional, bias, batch_first: True, False, or both.
        proj_size: P, 0 for none; heads: N, dividing H; dropout: between layers in training.
        passes: inference, forward, backward, train (the axis `--pass`).
        device: auto, cpu or cuda.
        threads: CPU threads.
        blocks: rounds of fresh worker processes, the unit of replication.
        min_samples, rel_ci: the fewest samples in a block, and the precision that is enough.
        cell_timeout, time_budget: seconds for one cell, and for the whole run.
        seed, label: the seed of the order and the inputs; a name for the run.
        out: the run's folder, new or empty; by default a new one below results/runs.
        resume: a run that was interrupted, to be finished as planned.
        wait: whether to wait for the end of another run that holds the device.
        quiet: whether to show no progress.
    Returns:
        The run. What failed in it is a record with a reason; see `Run.notes`.
    Raises:
        UserError: before anything ran, with what to change.
        MeasuringFailed: something other than a backend failed; the records so far are stored.
        KeyboardInterrupt: with the command that continues; the records so far are stored.

    Processes that other threads of this process start during the run are ended with it.
    """
    axes = {
        "cell": cell,
        "seq-len": seq_len,
        "batch": batch,
        "input": input,
        "hidden": hidden,
        "layers": layers,
        "bidirectional": bidirectional,
        "bias": bias,
        "proj": proj_size,
        "heads": heads,
        "dtype": dtype,
        "precision": precision,
        "lengths": lengths,
        "pass": passes,
        "launch": launch,
        "cache": cache,
        "batch-first": batch_first,
        "autocast": autocast,
        "dropout": dropout,
    }
    settings = {
        "device": device,
        "threads": threads,
        "blocks": blocks,
        "min_samples": min_samples,
        "rel_ci": rel_ci,
        "cell_timeout": cell_timeout,
        "time_budget": time_budget,
        "seed": seed,
        "label": label,
    }
    wanted = arguments.spec_of(suite, spec, backend, plugin, axes, settings)
    if resume is not None:
        _refuse_changes(resume, out, wanted)
    command = arguments.command_of(suite, spec, backend, plugin, axes | settings | {"out": out})
    try:
        with LiveProgress(quiet) as watch:
            if wait:
                watch = replace(watch, waiting=lambda who: output.warning(f"{who}; waiting for it"))
            if resume is not None:
                folder = runs.resume(Path(resume), watch)
            else:
                folder = runs.run(wanted, None if out is None else Path(out), watch, command)
    except Interrupted as cut:
        raise KeyboardInterrupt(str(cut)) from None
    keep_for_auto(run_folder.load(folder))
    return Run(folder)


def load(path: str | Path) -> Run:
    """Read a run that `run` or the command line left on disk.

    Raises:
        UserError: there is no run, or it cannot be read.
    """
    return Run(remote.here(path))


def _refuse_changes(resume: str | Path, out: str | Path | None, wanted: object) -> None:
    if out is not None:
        raise UserError(
            f"out={str(out)!r} with resume={str(resume)!r}: a resumed run keeps its folder; "
            "leave out= out"
        )
    if wanted != arguments.spec_of(None, None, None, None, {}, {}):
        raise UserError(
            f"resume={str(resume)!r} continues the run as it was planned; "
            "leave out all other settings"
        )
