"""Two revisions over a fleet: a pair is on one device, and one odd device accuses nobody."""

import json
import math
import random
from collections import defaultdict
from dataclasses import replace

import pytest
from made_up_fleet import (
    BACKENDS,
    CASES,
    SPEC,
    Killed,
    MadeUpPair,
    both_measured,
    carried_out,
    killed_after,
)

from lstm_harness.ab.over_machines import compared
from lstm_harness.fleet import coordinator
from lstm_harness.fleet.coordinator import FleetWatch
from lstm_harness.fleet.ledger import AB, Pair, Settings, State
from lstm_harness.fleet.task import Ended
from lstm_harness.judge.comparison import FAILS
from lstm_harness.judge.verdict import Kind
from lstm_harness.model.errors import Exit, NotComparable, UserError
from lstm_harness.race.pairs import NAMES
from lstm_harness.store import run_folder

BLOCKS = 8
REVISIONS = (
    {"name": "main", "commit": "f" * 40, "git": {"commit": "f" * 40, "dirty": False}},
    {"name": "working tree", "commit": None, "git": None},
)
PAIR = Pair(REVISIONS, 0.05, 0.01, ("MISSING", "REGRESSION"), "digest")
STATE = State(
    replace(SPEC, blocks=BLOCKS).to_dict(),
    ("lstm-bench", "ab", "main"),
    Settings("local"),
    cases_per_task=2,
    pair=PAIR,
)
FLAGS = {Kind.REGRESSION, Kind.IMPROVEMENT}
DEVICES = tuple(f"host-{number}" for number in range(8))


@pytest.fixture
def roots(tmp_path):
    """The kernels of both."""
    made = [tmp_path / "checkouts" / name for name in NAMES]
    for root in made:
        (root / "lstm_kernels").mkdir(parents=True)
        (root / "lstm_kernels" / "__init__.py").write_text(root.name)
    return made


class Timed(MadeUpPair):
    """Devices that differ by 3%, blocks by 0.5%, and a change between the sides of each device."""

    def __init__(self, rng, changes, devices=DEVICES):
        super().__init__(rng, BLOCKS, most_losses=0)
        self.changes = dict.fromkeys(devices, 1.0) | changes
        self.levels = {device: rng.gauss(0, 0.03) for device in self.changes}
        self.seen = []

    def submit(self, tasks, avoiding=()):
        self.seen += [task.order for task in tasks if "part" in task.order]
        for task in tasks:
            place = self.rng.choice(list(self.changes))
            files = self._files(task, place) if "part" in task.order else self._plan(task)
            self.flying.append(Ended(task.name, files, place=place))

    def _files(self, task, place):
        def time_ns(side, block, case):
            change = self.changes[place] if side == "new" else 1.0
            spread = self.levels[place] + self.rng.gauss(0, 0.005)
            return round(1_000_000 * change * math.exp(spread))

        return both_measured(task, place, time_ns)


def measured(folder, fleet, roots, watch=None, state=STATE):
    coordinator.run(state, folder, lambda *_: fleet, watch or FleetWatch(), roots)
    return compared(folder, PAIR.rules, FAILS)


def kinds(comparison):
    return [verdict.kind for verdict in comparison.verdicts if verdict.measure == "time"]


def refuse_anything_but_the_plan(folder):
    assert {path.name for path in folder.iterdir()} == {"ab.json", *NAMES}
    runs = [run_folder.load(folder / name) for name in NAMES]
    machines, attempts, pairs = defaultdict(set), defaultdict(set), set()
    for name, run in zip(NAMES, runs, strict=True):
        assert {path.name for path in run.folder.iterdir()} == {"run.json", "records.jsonl"}
        assert (run.manifest["id"], run.torn, run.edited) == (name, False, False)
        assert run.manifest["end"]
        assert len(run.records) == run.manifest["plan"]["planned_records"]
        pairs.add(run.manifest["pair"])
        for record in run.records:
            machines[record.block, record.case].add(record.machine)
            attempts[record.block, CASES.index(record.case) // 2].add(record.samples_ns)
    assert {record.identity for record in runs[0].records} == {
        record.identity for record in runs[1].records
    }
    assert {len(names) for names in machines.values()} == {1}, "a pair is on one device"
    assert {len(names) for names in attempts.values()} == {1}, "both sides are of one attempt"
    assert len(pairs) == 1
    first = [record for record in runs[0].records if record.block < BLOCKS]
    assert len(first) == len(BACKENDS) * len(CASES) * BLOCKS


@pytest.mark.parametrize("kills", [0, 1, 4])
@pytest.mark.parametrize("seed", range(4))
def test_any_schedule_ends_with_exactly_the_plan(tmp_path, roots, seed, kills):
    rng = random.Random(f"{seed}/{kills}")
    folder = tmp_path / "ab"
    coordinators = carried_out(folder, MadeUpPair(rng, BLOCKS), rng, kills, STATE, roots)
    assert 1 <= coordinators <= kills + 1
    refuse_anything_but_the_plan(folder)


@pytest.mark.parametrize(
    "every", [150, pytest.param(7, marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_killed_at_any_step_it_goes_on_to_the_same_plan(tmp_path, roots, every):
    """The second measurement included, which is planned from what was measured."""
    wanted, steps = None, 1
    for steps in range(every, 10_000, every):
        folder, rng = tmp_path / f"ab-{steps}", random.Random(1)
        fleet = Timed(rng, dict.fromkeys(DEVICES, 1.08))
        try:
            with killed_after(steps):
                measured(folder, fleet, roots)
            break
        except Killed:
            carried_out(folder, fleet, rng, 0, STATE, roots)
        plan = json.loads((folder / "new" / "run.json").read_text())["plan"]
        wanted = wanted or plan
        assert plan == wanted
        assert plan["blocks"] == 2 * BLOCKS
        assert {path.name for path in folder.iterdir()} == {"ab.json", *NAMES}
    assert steps > 100


def test_killed_before_it_kept_what_was_asked_for_it_begins_again(tmp_path, roots):
    for steps in range(100):
        folder, rng = tmp_path / f"ab-{steps}", random.Random(1)
        with pytest.raises(Killed), killed_after(steps):
            measured(folder, MadeUpPair(rng, BLOCKS), roots)
        begun = (folder / "ab.json").exists() and (folder / "sources").exists()
        carried_out(folder, MadeUpPair(rng, BLOCKS), rng, 0, STATE, roots)
        refuse_anything_but_the_plan(folder)
        if begun:
            break
    assert 2 < steps < 99


def test_a_finished_one_is_told_again_and_changes_nothing(tmp_path, roots):
    comparison = measured(tmp_path / "ab", Timed(random.Random(0), {}), roots)
    before = (tmp_path / "ab" / "new" / "records.jsonl").read_bytes()
    coordinator.resume(tmp_path / "ab", None, lambda *_: None, FleetWatch(), AB)
    assert (tmp_path / "ab" / "new" / "records.jsonl").read_bytes() == before
    assert compared(tmp_path / "ab", PAIR.rules, FAILS).verdicts == comparison.verdicts
    with pytest.raises(UserError, match="go on with that ab: lstm-bench ab --resume "):
        measured(tmp_path / "ab", Timed(random.Random(0), {}), roots)
    with pytest.raises(UserError, match=r"is not the run of a fleet: cannot read fleet\.json"):
        coordinator.resume(tmp_path / "ab", None, lambda *_: None, FleetWatch())


@pytest.mark.parametrize("seed", range(2))
def test_one_odd_device_accuses_nobody_and_a_change_of_all_is_found(tmp_path, roots, seed):
    def told(name, changes):
        return measured(tmp_path / name, Timed(random.Random(seed), changes), roots)

    assert not FLAGS & set(kinds(told("same", {})))
    assert not FLAGS & set(kinds(told("odd", {DEVICES[3]: 1.3})))
    slower = told("slower", dict.fromkeys(DEVICES, 1.1))
    assert set(kinds(slower)) == {Kind.REGRESSION}
    assert slower.exit_code == Exit.REGRESSION
    assert min(v.machines for v in slower.verdicts if v.measure == "time") >= 3
    assert any(note.endswith(" machines") for note in slower.notes)


def test_an_odd_device_that_measured_all_of_a_case_accuses_nobody(tmp_path, roots):
    class Unlucky(Timed):
        """The odd device has the last case of every block."""

        def submit(self, tasks, avoiding=()):
            odd = [t for t in tasks if t.name.endswith("case-2")]
            super().submit([task for task in tasks if task not in odd], avoiding)
            self.flying += [Ended(t.name, self._files(t, "odd"), place="odd") for t in odd]

        def _files(self, task, place):
            self.levels.setdefault("odd", 0.0)
            self.changes["odd"] = 1.3
            made = super()._files(task, place)
            del self.changes["odd"]
            return made

    comparison = measured(tmp_path / "ab", Unlucky(random.Random(0), {}), roots)
    (label,) = {case.label() for case in CASES[2:]}
    found = [v for v in comparison.verdicts if v.label == label and v.measure == "time"]
    assert {v.kind for v in found} == {Kind.INCONCLUSIVE}
    assert {v.reason for v in found} == {"too few machines: 1 of at least 3 measured both sides"}
    assert not FLAGS & set(kinds(comparison))


def test_one_device_is_judged_by_its_blocks(tmp_path, roots):
    fleet = Timed(random.Random(0), {"only": 1.1}, devices=())
    comparison = measured(tmp_path / "ab", fleet, roots)
    assert set(kinds(comparison)) == {Kind.REGRESSION}
    assert {verdict.machines for verdict in comparison.verdicts} == {0}


def test_two_devices_are_too_few_and_are_not_measured_twice(tmp_path, roots):
    said = []
    fleet = Timed(random.Random(0), {}, devices=("one", "two"))
    comparison = measured(tmp_path / "ab", fleet, roots, FleetWatch(warned=said.append))
    assert said == ["2 devices measured; a verdict over devices needs 3 or more, or one alone"]
    assert max(order["part"]["blocks"][0] for order in fleet.seen) == BLOCKS - 1
    assert comparison.exit_code == Exit.INCONCLUSIVE


def test_what_is_in_doubt_is_measured_again_in_more_blocks(tmp_path, roots):
    class OneSlower(Timed):
        def _files(self, task, place):
            def time_ns(side, block, case):
                change = 1.1 if side == "new" and case == CASES[1] else 1.0
                return round(1_000_000 * change * math.exp(self.rng.gauss(0, 0.002)))

            return both_measured(task, place, time_ns)

    fleet = OneSlower(random.Random(0), {})
    state = replace(STATE, cases_per_task=3)
    comparison = measured(tmp_path / "ab", fleet, roots, state=state)
    added = [order for order in fleet.seen if order["part"]["blocks"][0] >= BLOCKS]
    assert sorted(order["part"]["blocks"][0] for order in added) == list(range(BLOCKS, 2 * BLOCKS))
    for plan in (plan for order in added for plan in order["plans"]):
        assert plan["cases"] == [CASES[1].to_dict()]
    blocks = {v.label: v.new_blocks for v in comparison.verdicts if v.cases == 1}
    assert blocks == {case.label(): BLOCKS * (1 + (case == CASES[1])) for case in CASES}


def test_kernels_that_do_not_work_are_not_comparable(tmp_path, roots):
    class Broken(Timed):
        def submit(self, tasks, avoiding=()):
            said = "the kernels of main do not work with this harness"
            self.flying += [Ended(t.name, code=Exit.NOT_COMPARABLE, said=said) for t in tasks]

    with pytest.raises(NotComparable, match="the kernels of main do not work"):
        measured(tmp_path / "ab", Broken(random.Random(0), {}), roots)
    assert list((tmp_path / "ab").iterdir()) == []
