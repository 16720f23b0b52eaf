"""What 1,000 GPUs and a million runs cost, simulated: the tables of docs/scale-simulated.md.

    PYTHONPATH=tests/support python tests/perf/fleet_simulation.py docs/scale-simulated.md

Replaces what is between the page's two marks; without a page it prints the tables. `--json` prints
the numbers instead. tests/support/queued_fleet.py is the model, and
tests/harness/test_queued_fleet.py holds it to theory.
"""

import argparse
import json
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from places import ROOT
from queued_fleet import Fleet, Outcome, Task, erlang_wait, simulated

BEGIN, END = "<!-- simulated: begin -->", "<!-- simulated: end -->"
HOUR, MINUTE = 3600.0, 60.0
DEVICES, A_HOST = 1000, 8
# The work of one fleet run: an hour on every device.
WORK_S = DEVICES * HOUR
# A block of one case with two backends takes 3.5 s in all: results/amd-epyc-2core/numba-cpu-b1.
START_S = 10.0
LENGTHS_S = (30.0, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 20 * MINUTE, HOUR)
# 419 interruptions of 16,384 GPUs in 54 days: docs/scale.md, The engine.
LLAMA_S = 16_384 * 54 * 24 * HOUR / 419
FAILURES_S = (math.inf, LLAMA_S, 24 * HOUR, HOUR)
REPAIR_S, NOTICE_S = 10 * MINUTE, MINUTE
# The tasks of a plan differ: a standard deviation of their logarithms.
SPREAD = 0.3
# Half a task of Ray in its own release benchmark; half of what `fleet` needs for one:
# docs/scale.md, The engine.
MESSAGES_S = (1 / 582.3 / 2, 0.0017)
ROUNDS = (1, 2, 4, 8)
LOADS, SHARED = (0.5, 0.8, 0.9, 0.95), (1, 8, 64, 1000)
RUNS = 1_000_000
# Keys that one request lists.
LISTED = 1000


@dataclass(frozen=True)
class Table:
    """A table of the page: its rows as text, and as numbers."""

    name: str
    title: str
    above: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[dict[str, Any], ...]

    def markdown(self) -> str:
        """The table with its title and what is above it."""
        rule = ["---", *["---:"] * (len(self.columns) - 1)]
        lines = [f"| {' | '.join(cells)} |" for cells in (self.columns, rule, *self.rows)]
        return "\n".join([f"## {self.title}", "", self.above, "", *lines])


def tasks_of(total_s: float, mean_s: float, seed: int) -> list[Task]:
    """Tasks of this mean length, log-normal, that come to the total."""
    draw = random.Random(seed)
    count = round(total_s / mean_s)
    lengths = [draw.lognormvariate(0, SPREAD) for _ in range(count)]
    scale = total_s / math.fsum(lengths)
    return [Task(length * scale) for length in lengths]


def paid(outcome: Outcome) -> float:
    """Device-seconds paid for a second of work that counts."""
    parts = outcome.start_s, outcome.lost_s, outcome.down_s, outcome.idle_s
    return 1 + math.fsum(parts) / outcome.useful_s


def lengths(seed: int) -> Table:
    """How long a task should be, by how often devices fail."""
    rows, numbers = [], []
    for mean_s in LENGTHS_S:
        cells = []
        for failure_s in FAILURES_S:
            fleet = Fleet(
                DEVICES,
                start_s=START_S,
                message_s=MESSAGES_S[0],
                failure_s=failure_s,
                repair_s=REPAIR_S,
                notice_s=NOTICE_S,
            )
            found = simulated(fleet, tasks_of(WORK_S, mean_s, seed), seed)
            cells.append(f"{found.makespan_s / MINUTE:.0f} min, {paid(found):.2f}")
            numbers.append(_numbers(found, task_s=mean_s, failure_s=failure_s))
        rows.append((_duration(mean_s), f"{WORK_S / mean_s:,.0f}", *cells))
    titles = ["no failure", *(f"every {each / HOUR:,.0f} h" for each in FAILURES_S[1:])]
    return Table(
        "lengths",
        "How long a task should be",
        f"{DEVICES:,} GPUs, work for {WORK_S / HOUR:,.0f} GPU-hours, which is at best "
        f"{WORK_S / DEVICES / MINUTE:.0f} min. A cell is the time to the last record, and the "
        "GPU-hours paid for each hour of work. The columns are the mean time between two failures "
        f"of a GPU. A task costs {START_S:.0f} s before its work; a failed GPU is away for "
        f"{REPAIR_S / MINUTE:.0f} min, and its task is missed after {NOTICE_S / MINUTE:.0f} min.",
        ("a task's work", "tasks", *titles),
        tuple(rows),
        tuple(numbers),
    )


def hosts(seed: int) -> Table:
    """What changes where a host takes its GPUs with it."""
    rows, numbers = [], []
    for group in (1, A_HOST):
        fleet = Fleet(
            DEVICES,
            start_s=START_S,
            message_s=MESSAGES_S[0],
            group=group,
            failure_s=24 * HOUR,
            repair_s=REPAIR_S,
            notice_s=NOTICE_S,
        )
        found = simulated(fleet, tasks_of(WORK_S, 5 * MINUTE, seed), seed)
        numbers.append(_numbers(found, group=group))
        rows.append(
            (
                f"{group}",
                f"{found.losses:,}",
                f"{found.lost_s / HOUR:,.1f}",
                f"{found.makespan_s / MINUTE:.0f} min",
            )
        )
    return Table(
        "hosts",
        "One GPU fails, or its host",
        "The same work in tasks of 5 min. Each GPU fails every 24 h, alone or with its host.",
        ("GPUs that fail together", "tasks lost", "GPU-hours lost", "time"),
        tuple(rows),
        tuple(numbers),
    )


def coordinator(seed: int) -> Table:
    """How busy the coordinator is."""
    rows, numbers = [], []
    for mean_s in (10.0, *LENGTHS_S[:4]):
        cells = []
        for message_s in MESSAGES_S:
            # A shorter fleet run says the same, and has fewer tasks.
            work_s = min(WORK_S, 40 * DEVICES * mean_s)
            fleet = Fleet(DEVICES, start_s=START_S, message_s=message_s)
            found = simulated(fleet, tasks_of(work_s, mean_s, seed), seed)
            busy = found.coordinator_s / found.makespan_s
            ideal_s = (found.useful_s + found.start_s) / DEVICES
            cells += [f"{busy:.0%}", f"{found.makespan_s / ideal_s:.2f}"]
            numbers.append(_numbers(found, task_s=mean_s, message_s=message_s))
        rows.append((_duration(mean_s), f"{DEVICES / (mean_s + START_S):.0f}", *cells))
    titles = [f"{1000 * each:.2g} ms a message" for each in MESSAGES_S]
    return Table(
        "coordinator",
        "The coordinator",
        f"{DEVICES:,} GPUs, no failures, two messages a task: how busy the coordinator is, and the "
        "time as a multiple of what the GPUs alone need.",
        (
            *("a task's work", "tasks a second at most"),
            *(f"{title}: {what}" for title in titles for what in ("busy", "time")),
        ),
        tuple(rows),
        tuple(numbers),
    )


def rounds(seed: int) -> Table:
    """What `--until` pays for waiting between its rounds."""
    rows, numbers = [], []
    for count in ROUNDS:
        cells = []
        for devices in (A_HOST, DEVICES):
            fleet = Fleet(devices, start_s=START_S, message_s=MESSAGES_S[0])
            parts = [
                simulated(fleet, tasks_of(devices * HOUR / count, 2 * MINUTE, seed + number))
                for number in range(count)
            ]
            makespan_s = math.fsum(part.makespan_s for part in parts)
            idle = math.fsum(part.idle_s for part in parts) / (devices * makespan_s)
            cells += [f"{makespan_s / MINUTE:.0f} min", f"{idle:.0%}"]
            numbers.append(
                {"rounds": count, "devices": devices, "makespan_s": makespan_s, "idle": idle}
            )
        rows.append((f"{count}", *cells))
    return Table(
        "rounds",
        "Rounds of `--until`",
        "An hour of work for each GPU in tasks of 2 min, in rounds of equal size. A round begins "
        "when the last task of the one before it has ended, because only then the intervals say "
        "which cases need more blocks.",
        (
            "rounds",
            *(f"{d:,} GPUs: {what}" for d in (A_HOST, DEVICES) for what in ("time", "idle")),
        ),
        tuple(rows),
        tuple(numbers),
    )


def queue() -> Table:
    """How long a run waits in a fleet that many people share."""
    waits = {(each, load): erlang_wait(each, load * each) for each in SHARED for load in LOADS}
    return Table(
        "queue",
        "Waiting in a shared fleet",
        "Runs come at random, each for one GPU, with exponential lengths. A cell is the mean time "
        "that a run waits, as a multiple of a run's mean length, after Erlang. The columns are the "
        "load: the share of the GPUs' time that is asked for.",
        ("GPUs", *(f"{load:.0%}" for load in LOADS)),
        tuple(
            (f"{devices:,}", *(_waits(waits[devices, load]) for load in LOADS))
            for devices in SHARED
        ),
        tuple({"devices": d, "load": load, "wait": wait} for (d, load), wait in waits.items()),
    )


def _waits(wait: float) -> str:
    return f"{wait:.2g}" if wait >= 0.001 else "under 0.001"


def sizes() -> Table:
    """What the published runs weigh, and a million of each."""
    rows, numbers = [], []
    for manifest in sorted((ROOT / "results").glob("*/*/run.json")):
        folder = manifest.parent
        if folder.parent.name == "runs":
            continue
        told, records = json.loads(manifest.read_text()), folder / "records.jsonl"
        count = sum(1 for line in records.read_text().splitlines() if line)
        held = {
            "run": f"{folder.parent.name}/{folder.name}",
            "records": count,
            "records_bytes": records.stat().st_size,
            "manifest_bytes": manifest.stat().st_size,
            "cases": len(told["plan"]["cases"]),
            "seconds": _seconds(told),
        }
        numbers.append(held)
    mean = {name: fmean(held[name] for held in numbers) for name in numbers[0] if name != "run"}
    for held in [*numbers, {"run": "mean", **mean}]:
        whole = held["records_bytes"] + held["manifest_bytes"]
        rows.append(
            (
                str(held["run"]),
                f"{held['records']:,.0f}",
                f"{held['seconds']:,.0f} s",
                f"{held['records_bytes'] / held['records'] / 1e3:.2f} kB",
                f"{held['manifest_bytes'] / 1e3:.0f} kB",
                f"{whole / 1e6:.2f} MB",
                f"{RUNS * whole / 1e12:.2f} TB",
                f"{RUNS * held['seconds'] / DEVICES / 86_400:.1f} days",
            )
        )
    return Table(
        "sizes",
        "A run, and a million of them",
        "The published runs, as they are in results/, without their reports. The last column is "
        f"the time that a million such runs take on {DEVICES:,} devices at best.",
        (
            *("run", "records", "took", "a record", "run.json", "a run", "a million runs"),
            f"on {DEVICES:,} devices",
        ),
        tuple(rows),
        tuple(numbers),
    )


def _seconds(manifest: dict[str, Any]) -> float:
    start, end = (datetime.fromisoformat(manifest[name]) for name in ("start", "end"))
    return (end - start).total_seconds()


def _numbers(outcome: Outcome, **asked: float) -> dict[str, Any]:
    told = {name: value if math.isfinite(value) else None for name, value in asked.items()}
    return told | asdict(outcome) | {"paid": paid(outcome)}


def _duration(seconds: float) -> str:
    for unit, name in ((HOUR, "h"), (MINUTE, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def section(tables: Iterable[Table]) -> str:
    """The page's section."""
    return "\n\n".join(table.markdown() for table in tables)


def made(seed: int, names: Sequence[str]) -> list[Table]:
    """The tables that are asked for."""
    makers = {
        "lengths": lambda: lengths(seed),
        "hosts": lambda: hosts(seed),
        "coordinator": lambda: coordinator(seed),
        "rounds": lambda: rounds(seed),
        "queue": queue,
        "sizes": sizes,
    }
    return [make() for name, make in makers.items() if not names or name in names]


def main() -> None:
    """Simulate, then write or print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", nargs="?", type=Path)
    parser.add_argument("--seed", type=int, default=24)
    parser.add_argument("--only", action="append", default=[], help="a table's name; repeatable")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    tables = made(options.seed, options.only)
    if options.json:
        print(json.dumps({table.name: table.numbers for table in tables}, indent=1))
    elif options.page:
        before, _, rest = options.page.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        text = section(tables)
        options.page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
    else:
        print(section(tables))


if __name__ == "__main__":
    main()
