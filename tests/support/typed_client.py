"""A program that uses the harness from Python, as a strict type checker reads it; never run."""

from pathlib import Path

import lstm_harness as lb
import lstm_kernels as lk


def fastest_backend(folder: Path) -> str:
    """Race two backends, and name the one that wins most cases."""
    race: lb.Run = lb.run(
        backend=["naive", "aten"],
        cell="lstm",
        seq_len="16:64:x2",
        batch=(1, 8),
        hidden=range(32, 65, 32),
        bidirectional=[True, False],
        heads=[1, 2],
        passes=["forward", "backward"],
        time_budget=10,
        out=folder,
        quiet=True,
    )
    winners = [str(name) for name in race.fastest["backend"]]
    return max(winners, key=winners.count)


def slower_cases(base: str, new: Path) -> list[str]:
    """The cases that became slower; the report beside the new run."""
    run = lb.load(new)
    page: lb.Report = run.report()
    verdicts = run.compare(base, margin=0.1)
    slow = verdicts[verdicts["verdict"] == "REGRESSION"]
    return [str(page.path), *map(str, slow["label"]), *run.notes]


def told(wrong: str) -> str:
    """What is wrong with a mistaken call, in one line."""
    try:
        lb.run(wrong)
    except lb.UserError as error:
        return str(error)
    return ", ".join(lk.backends())
