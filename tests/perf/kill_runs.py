"""Kill runs at any moment, and hold what is left to what was promised.

    python tests/perf/kill_runs.py [--kills 100] [--seed FIRST]

Every third command is an `ab`, the others are a `run`. At a moment of chance the whole process
group, the program alone, or one worker gets SIGTERM, SIGHUP, SIGKILL, or SIGINT twice. Then no
process may be left after two seconds; a run that was begun is resumed, to exactly the planned
records; and no scratch may be left that the next command does not sweep. Ends with 1 where
anything was not so.
"""

import argparse
import collections
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / part) for part in ("kernels", "harness", "tests/support")]

from bench import bench, environment, manifest_of, records_of, start, workers_of  # noqa: E402 - found on the path above

GRID = "--backend naive,aten --seq-len 2,4 --batch 2 --hidden 8 --pass inference,backward"
RUN = f"run {GRID} --blocks 3 --threads 1 --min-samples 3 --time-budget 4 --quiet"
AB = f"ab HEAD HEAD {GRID} --blocks 5 --threads 1 --time-budget 4 --quiet"
SIGNALS: Sequence[Sequence[int]] = (
    [signal.SIGTERM],
    [signal.SIGHUP],
    [signal.SIGKILL],
    [signal.SIGINT, signal.SIGINT],
)
VICTIMS = ("group", "program", "worker")
ORPHANS_S = 2.0


def main() -> int:
    """Kill so many, and tell of each what it left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, metavar="FIRST")
    given = parser.parse_args()
    ends: collections.Counter[str] = collections.Counter()
    wrong = 0
    for seed in range(given.seed, given.seed + given.kills):
        chance = random.Random(seed)
        with tempfile.TemporaryDirectory() as name:
            told, faults = killed(seed % 3 == 2, chance, Path(name))
        ends[told] += 1
        wrong += bool(faults)
        for said in faults or ["as promised"]:
            print(f"seed {seed}: {told}: {said}", flush=True)
    for told, times in sorted(ends.items()):
        print(f"{times:3} {told}")
    print(f"{given.kills} kills, {wrong} of which left what they must not")
    return 1 if wrong else 0


def killed(is_ab: bool, chance: random.Random, folder: Path) -> tuple[str, list[str]]:
    """Start one, kill it, and find what is wrong with what it left."""
    victim, signals = chance.choice(VICTIMS), chance.choice(SIGNALS)
    options: dict[str, Any] = {"env": environment(folder), "start_new_session": True}
    command = f"{AB} --out {folder / 'out'}" if is_ab else f"{RUN} --out out"
    process = start(command, ROOT if is_ab else folder, **options)
    time.sleep(chance.uniform(0.3, 6.0))
    for number in signals:
        _send(victim, number, process, folder, chance)
    faults = []
    _, err = process.communicate(timeout=120)
    if "Traceback" in err:
        faults.append(f"a traceback: {err[-300:]}")
    deadline = time.monotonic() + ORPHANS_S
    while workers_of(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    if workers_of(folder):
        faults.append(f"processes are left: {workers_of(folder)}")
    for left in (folder / "tmp").glob("lstm-bench-scratch-*"):
        os.utime(left, (0, 0))
    if not is_ab:
        faults += _resumed(folder)
    elif bench("verify --backend naive --hidden 4 --quiet", folder).returncode:
        faults.append("the next command fails")
    faults += [f"scratch is left: {p.name}" for p in (folder / "tmp").glob("lstm-bench-scratch-*")]
    how = " ".join(signal.Signals(number).name for number in signals)
    return f"{'ab' if is_ab else 'run'}, {victim}, {how}, exit {process.returncode}", faults


def _send(victim: str, number: int, process: Any, folder: Path, chance: random.Random) -> None:
    try:
        if victim == "group":
            os.killpg(process.pid, number)
        elif victim == "program":
            process.send_signal(number)
        elif workers := workers_of(folder):
            os.kill(chance.choice(workers), number)
    except ProcessLookupError:
        return


def _resumed(folder: Path) -> list[str]:
    """Go on with a run; what is wrong with it then."""
    run = folder / "out"
    if not (run / "run.json").exists():
        again = bench(f"{RUN} --out out", folder)
        return [] if again.returncode == 0 else [f"a new run fails: {again.stderr[-300:]}"]
    done = bench("run --resume out --quiet", folder)
    records = records_of(run)
    statuses = {record["status"] for record in records}
    expected = 6 if statuses & {"crashed", "error"} else 0
    faults = []
    if done.returncode != expected:
        faults.append(f"resumed, it ends with {done.returncode}: {done.stderr[-300:]}")
    cells = {(r["block"], r["backend"], r["pass"], json.dumps(r["problem"])) for r in records}
    planned = manifest_of(run)["plan"]["planned_records"]
    if not len(records) == len(cells) == planned:
        faults.append(f"{len(records)} records, {len(cells)} cells, {planned} planned")
    here = {path.name for path in run.iterdir()}
    if here != {"run.json", "records.jsonl", "report.html"}:
        faults.append(f"the run's folder holds {sorted(here)}")
    return faults


if __name__ == "__main__":
    sys.exit(main())
