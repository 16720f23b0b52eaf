"""The time of a whole epoch with each backend that `recommend` ranked, and whether its advice held.

    python tests/perf/epoch_times.py RUN [--rounds 5] [--epochs 4]

RUN is what `lstm-bench recommend` made of tests/support/packed_program.py, captured with --large.
A round runs the program once with torch.nn and once with each backend, in a seeded random order,
each in a process of its own; what counts is the median epoch of each but the first.
"""

import argparse
import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path

SUPPORT = Path(__file__).parents[1] / "support"
PROGRAM = SUPPORT / "packed_program.py"


def advice_of(run: Path) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "lstm_harness", "recommend", "--run", str(run), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def epoch_s(backend: str | None, epochs: int) -> float:
    """The median epoch of one process; torch.nn's own modules where no backend is named."""
    named = ["--backend", backend] if backend else []
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--large", "--epochs", str(epochs), *named],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    return float(done.stdout)


def main() -> None:
    from lstm_harness.analysis.statistics import mean_interval

    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4)
    asked = parser.parse_args()
    advice, rng = advice_of(asked.run), random.Random(0)
    totals = {each["backend"]: each["total_ns"] for each in advice["standings"]}
    sides = [None, *totals]
    times: dict[str | None, list[float]] = {side: [] for side in sides}
    for _ in range(asked.rounds):
        for side in rng.sample(sides, len(sides)):
            times[side].append(epoch_s(side, asked.epochs))
    print(advice["sentence"])
    print(f"{asked.rounds} rounds of {asked.epochs} epochs, against torch.nn.LSTM and GRU:")
    means = {}
    for side in sorted(sides, key=lambda each: math.fsum(map(math.log, times[each]))):
        logs = [math.log(each) for each in times[side]]
        means[side] = math.exp(mean_interval(logs)[0])
        pairs = zip(times[None], times[side], strict=True)
        ratio = [math.exp(end) for end in mean_interval([math.log(a / b) for a, b in pairs])]
        shown = f"torch.nn takes {ratio[0]:.3f}x ({ratio[1]:.3f} to {ratio[2]:.3f})"
        print(f"{side or 'torch.nn':>12}  {1e3 * means[side]:8.1f} ms an epoch  {shown}")
    best = min(means, key=means.__getitem__) or advice["own"]
    said = "the best epoch of all" if best == advice["backend"] else f"not the best, {best} is"
    print(f"{advice['backend']}, which was recommended, has {said}")


if __name__ == "__main__":
    main()
