"""A small suite for a fleet of simulated hosts, and what must be left of it."""

import json
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

from bench import manifest_of, records_of
from simulated_hosts import until

import lstm_kernels
from lstm_harness.store import run_folder

# 2 backends, 2 cases, 3 blocks: six tasks of one case in one block.
GRID = "--backend naive,aten --seq-len 4 --hidden 8 --batch 1,2 --pass inference --blocks 3"
HOW = "--device cpu --threads 1 --min-samples 3 --time-budget 6 --cases-per-task 1 --quiet"
SUITE = f"{GRID} {HOW}"
TASKS, RECORDS = 6, 12
# Of two revisions: a backend, a case, and as few blocks as may be: five tasks, and as many again
# where something is in doubt.
AB_GRID = "--backend naive --seq-len 4 --hidden 8 --batch 1 --pass inference --blocks 5"
AB_SUITE = f"one two {AB_GRID} {HOW}"
AB_TASKS = 5


def accepted(run: Path) -> set[str]:
    """The parts that a coordinator has accepted."""
    return {part.name for part in (run / "parts").glob("*") if part.suffix != ".new"}


def wait_for_parts(run: Path, count: int, coordinator: "subprocess.Popen[str]") -> None:
    """Wait until a coordinator has accepted this many."""

    def are_there() -> bool:
        assert coordinator.poll() is None, coordinator.communicate()
        return len(accepted(run)) >= count

    until(are_there, f"{count} accepted parts")


def refuse_anything_but_the_plan(run: Path, before: dict[str, str]) -> None:
    """Refuse a run that is not exactly the plan.

    Args:
        before: digests of the parts that an earlier coordinator had accepted.
    """
    assert {path.name for path in run.iterdir()} == {"run.json", "records.jsonl", "report.html"}
    whole = run_folder.load(run)  # refuses a record that appears twice, or is not planned
    assert not whole.edited
    assert whole.manifest["end"]
    records = records_of(run)
    assert len(records) == RECORDS
    assert {record["status"] for record in records} == {"ok"}
    machines = defaultdict(set)
    for record in records:
        machines[record["block"], json.dumps(record["problem"])].add(record["machine"])
    assert len(machines) == TASKS
    assert {len(names) for names in machines.values()} == {1}
    kept = {part["id"]: part["records_sha256"] for part in manifest_of(run)["parts"]}
    assert len(kept) == TASKS
    assert before.items() <= kept.items(), "what was accepted is not measured again"


def digests(run: Path, side: str = "") -> dict[str, str]:
    """The digest of the records of every accepted part."""
    parts = [run / "parts" / name for name in accepted(run)]
    return {part.name: manifest_of(part / side)["records_sha256"] for part in parts}


def repository(folder: Path) -> Path:
    """A repository of our kernels with two revisions, `one` and `two`, which are as fast."""
    top = folder / "repository"
    package = top / "kernels" / "lstm_kernels"
    left_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(lstm_kernels.__path__[0], package, ignore=left_out)
    git = ("git", "-C", str(top), "-c", "user.name=a", "-c", "user.email=a")
    subprocess.run([*git, "init", "--quiet"], check=True)
    for tag in ("one", "two"):
        (package / "problem.py").open("a").write(f"# {tag}\n")
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "--quiet", "-m", tag], check=True)
        subprocess.run([*git, "tag", tag], check=True)
    return top


def refuse_anything_but_both(run: Path, before: dict[str, str]) -> None:
    """Refuse two runs that are not exactly the plan, or of which a pair is of two devices.

    Args:
        before: digests of the parts of base that an earlier coordinator had accepted.
    """
    assert {path.name for path in run.iterdir()} == {"ab.json", "base", "new"}
    sides = [run_folder.load(run / name) for name in ("base", "new")]
    machines = defaultdict(set)
    for side in sides:
        assert not side.edited
        assert side.manifest["end"]
        assert {record.status for record in side.records} == {"ok"}
        assert len(side.records) == side.manifest["plan"]["planned_records"]
        assert len(side.records) in (AB_TASKS, 2 * AB_TASKS)
        for record in side.records:
            machines[record.block].add(record.machine)
    assert {len(names) for names in machines.values()} == {1}
    assert len({side.manifest["kernels_digest"] for side in sides}) == 2
    kept = {part["id"]: part["records_sha256"] for part in sides[0].manifest["parts"]}
    assert before.items() <= kept.items(), "what was accepted is not measured again"


def tasks_below(folder: Path) -> list[int]:
    """The processes of tasks whose scratch space is in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"lstm_harness.fleet.work" in (process / "cmdline").read_bytes():
                ours = bytes(folder) in (process / "environ").read_bytes()
                found += [int(process.name)] if ours else []
        except OSError:
            continue  # it ended meanwhile
    return found
