"""How much another program disturbs each backend: `numba_cpu` beside its peers.

    python tests/perf/busy_cores.py [--neighbour NAME] [--seconds 20] [--backend LIST]

The neighbour is `bursts` on every core (`burner.py`), `one` program that is always busy, on
whichever core it gets, or `idle`: the same with the lowest priority. Every backend runs a pass for
some seconds, alone and then beside it, in a process of its own. Prints the median of each, and the
one over the other.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from burner import burning

import lstm_kernels as lk

SHAPES = ((128, 1), (128, 16), (256, 64))
STEPS = 128
BACKENDS = "numba_cpu,aten,onnxruntime,openvino,jax"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--neighbour", choices=("bursts", "one", "idle"), default="bursts")
    parser.add_argument("--burner", type=int, default=1, metavar="SEED", help="of the bursts")
    parser.add_argument("--seconds", type=float, default=20.0, help="of a case")
    parser.add_argument("--backend", default=BACKENDS)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        backend, pass_name, hidden, batch = given.one
        print(median_ms(backend, pass_name, int(hidden), int(batch), given.seconds))
        return 0
    print(f"{'':28} {'backend':12} {'alone, ms':>10} {'beside, ms':>11} {'times':>7}")
    for hidden, batch in SHAPES:
        for pass_name in ("inference", "train"):
            for backend in given.backend.split(","):
                case = (backend, pass_name, str(hidden), str(batch))
                alone = told(case, given.seconds)
                with neighbour(given.neighbour, given.burner):
                    beside = told(case, given.seconds)
                if alone is None or beside is None:
                    continue
                name = f"{pass_name}, H={hidden}, B={batch}"
                print(
                    f"{name:28} {backend:12} {alone:10.2f} {beside:11.2f} {beside / alone:7.1f}",
                    flush=True,
                )
    return 0


@contextmanager
def neighbour(kind: str, seed: int) -> Iterator[None]:
    """Keep cores busy while the block lasts."""
    if kind == "bursts":
        with burning(seed):
            yield
        return
    polite = ["nice", "-n", "19"] if kind == "idle" else []
    busy = subprocess.Popen([*polite, sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


def told(case: tuple[str, ...], seconds: float) -> float | None:
    """A case's median in ms, from a process of its own; None where the backend cannot run it."""
    command = [sys.executable, __file__, "--seconds", str(seconds), "--one", *case]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "Unsupported" in done.stderr:
        return None
    if done.returncode:
        raise RuntimeError(f"{case}: {done.stderr[-500:]}")
    return float(done.stdout)


def median_ms(backend: str, pass_name: str, hidden: int, batch: int, seconds: float) -> float:
    """Of one LSTM layer over random inputs."""
    layer = lk.LSTM(hidden, hidden, backend=backend)
    x = torch.randn(STEPS, batch, hidden)
    layer.requires_grad_(pass_name == "train")

    def once() -> None:
        y, _ = layer(x)
        if pass_name == "train":
            y.sum().backward()

    for _ in range(3):
        once()
    times, ends = [], time.perf_counter() + seconds
    while time.perf_counter() < ends:
        began = time.perf_counter()
        once()
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
