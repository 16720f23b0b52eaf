"""The modules of two revisions of the kernels in turn, where `ab` cannot: interfaces may differ.

    python tests/perf/modules_in_turn.py REVISION [--backend numba_cpu] [--pairs 5] [--threads N]

`ab` needs kernels that today's harness can run. This needs only `lk.LSTM(I, H, backend=...)`. One
process for each side holds its kernels. For every case they take their samples in turn; which side
is first alternates. Prints how many times as long the working tree's modules take, for each case
and over all: the geometric mean of the pairs' ratios of medians, with its 95% interval.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from math import exp, log
from pathlib import Path

from lstm_harness.ab.revisions import checked_out, repository, working_tree
from lstm_harness.analysis.statistics import mean_interval

PASSES = ("inference", "forward", "backward")
# What one sample of a sequence may need: 0.2 s at 100 GFLOP/s.
MOST_OPERATIONS = 2e10


def cases() -> Iterator[dict]:
    """The part of `sweep` that a small machine can run: LSTM, float32, I = H."""
    for hidden in (128, 256, 512, 1024):
        for steps in (32, 128):
            for batch in (1, 8, 32, 64, 128):
                if 2 * 8 * hidden**2 * batch * steps <= MOST_OPERATIONS:
                    for pass_name in PASSES:
                        yield {"H": hidden, "T": steps, "B": batch, "pass": pass_name}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("revision")
    parser.add_argument("--backend", default="numba_cpu")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    repo = repository(Path(__file__).parent)
    logs = {name: [] for name in PASSES}
    with tempfile.TemporaryDirectory() as folder:
        sides = [
            Side(checked_out(given.revision, repo, Path(folder, "base")).root, given),
            Side(working_tree(repo, Path(folder, "new")).root, given),
        ]
        for case in cases():
            ratios = [pair(sides, case, number) for number in range(given.pairs + 1)][1:]
            logs[case["pass"]] += ratios
            tell(" ".join(f"{key}{value}" for key, value in case.items()), ratios)
        for side in sides:
            side.close()
    for name in PASSES:
        tell(f"all {name}", logs[name])
    tell("all", [ratio for ratios in logs.values() for ratio in ratios])
    return 0


def pair(sides: list["Side"], case: dict, number: int) -> float:
    """The logarithm of the new side's median over the base's."""
    order = (0, 1) if number % 2 == 0 else (1, 0)
    taken = {which: sides[which].ask(case) for which in order}
    return log(taken[1] / taken[0])


def tell(what: str, logs: list[float]) -> None:
    """Print the geometric mean of ratios and its interval."""
    mean, low, high = (exp(value) for value in mean_interval(logs))
    print(f"{what:28} {mean:.3f}  [{low:.3f}, {high:.3f}]  {len(logs)} pairs", flush=True)


class Side:
    """A process that holds the kernels of one revision."""

    def __init__(self, root: Path, given: argparse.Namespace) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable,
                Path(__file__).parent / "module_side.py",
                given.backend,
                str(given.threads),
            ],
            env=os.environ | {"PYTHONPATH": str(root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, case: dict) -> float:
        """The median of a turn's samples, in ns."""
        print(json.dumps(case), file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.stdin.close()
        self._process.wait()


if __name__ == "__main__":
    sys.exit(main())
