"""What a fleet's coordinator needs for a task, when devices cost nothing: a made-up engine.

PYTHONPATH=kernels:harness:tests/support python tests/perf/coordinator_cost.py

Prints a line for each size of plan: CPU time for each task, until its part is on disk; CPU time for
merging the parts; and the most memory held. The engine's own time is taken out. CPU time leaves out
waiting for the disk. Two backends, 5 blocks, 10 cases a task, 30 samples a record.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

import synthetic_runs
from made_up_fleet import measured

from lstm_harness.fleet import coordinator, ledger
from lstm_harness.fleet.coordinator import PLANNING, FleetWatch
from lstm_harness.fleet.ledger import Settings, State
from lstm_harness.fleet.task import Ended
from lstm_harness.model.spec import Spec

BACKENDS, BLOCKS, SAMPLES, A_TASK = ("naive", "aten"), 5, 30, 10
SIZES = (100, 1000, 4000)


class Instant:
    """An engine whose tasks have ended when they are asked for; it knows its own time."""

    def __init__(self, cases: int) -> None:
        self.cases, self.waiting, self.seconds, self.tasks = cases, [], 0.0, 0

    def submit(self, tasks, avoiding=()) -> None:
        """Keep these."""
        self.waiting += tasks

    def poll(self) -> list[Ended]:
        """One that ended."""
        began = time.process_time()
        task = self.waiting.pop()
        files = self._plan(task) if task.name == PLANNING else _with_samples(measured(task, "h", 1))
        self.tasks += task.name != PLANNING
        self.seconds += time.process_time() - began
        return [Ended(task.name, files, place="h")]

    def cancel(self) -> None:
        """Nothing runs."""

    def _plan(self, task) -> dict[str, bytes]:
        records = [
            synthetic_runs.record(backend, block=block, of=synthetic_runs.case(seq_len=steps))
            for block in range(BLOCKS)
            for steps in range(2, 2 + self.cases)
            for backend in BACKENDS
        ]
        own = {"id": task.order["id"], "spec": task.order["spec"], "end": None}
        return {"run.json": json.dumps(synthetic_runs.manifest(records, **own)).encode()}


def _with_samples(files: dict[str, bytes]) -> dict[str, bytes]:
    """The same records, with as many samples as a real one."""
    records = [json.loads(line) for line in files["records.jsonl"].splitlines()]
    made = [record | {"samples_ns": [1000] * SAMPLES} for record in records]
    lines = "".join(json.dumps(record) + "\n" for record in made).encode()
    run = json.loads(files["run.json"]) | {"records_sha256": sha256(lines).hexdigest()}
    return {"run.json": json.dumps(run).encode(), "records.jsonl": lines}


def run(cases: int) -> None:
    """Have a plan of this many cases measured by nobody, and print what that took."""
    spec = Spec(grids=({"seq-len": tuple(range(2, 2 + cases))},), suite="made-up", blocks=BLOCKS)
    state = State(spec.to_dict(), ("fleet",), Settings("local"), cases_per_task=A_TASK)
    engine, merging = Instant(cases), []
    merge = ledger.Ledger.merge

    def timed(self):
        began = time.process_time()
        merge(self)
        merging.append(time.process_time() - began)

    ledger.Ledger.merge = timed
    with tempfile.TemporaryDirectory() as scratch:
        began = time.process_time()
        coordinator.run(state, Path(scratch) / "run", lambda *_: engine, FleetWatch())
        seconds = time.process_time() - began - engine.seconds - sum(merging)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    a_task_ms = 1000 * seconds / engine.tasks
    print(
        f"{cases:,} cases, {engine.tasks:,} tasks: {a_task_ms:.1f} ms of CPU time a task, "
        f"{sum(merging):.1f} s to merge, {peak / 1e9:.2f} GB",
        flush=True,
    )


def main() -> None:
    """Each size in a process of its own, for its memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int)
    options = parser.parse_args()
    if options.cases:
        run(options.cases)
        return
    for cases in SIZES:
        subprocess.run([sys.executable, __file__, "--cases", str(cases)], check=True)


if __name__ == "__main__":
    main()
