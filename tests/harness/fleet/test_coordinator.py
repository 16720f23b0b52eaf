"""Whatever a fleet loses, and wherever the coordinator is killed: exactly the plan, once."""

import json
import math
import random
import re
from collections import defaultdict
from dataclasses import replace

import pytest
import synthetic_runs
from made_up_fleet import (
    BACKENDS,
    BLOCKS,
    CASES,
    ODD,
    SPEC,
    Killed,
    MadeUpFleet,
    carried_out,
    killed_after,
    manifest,
    measured,
)

from lstm_harness.analysis.precision import precisions
from lstm_harness.fleet import coordinator
from lstm_harness.fleet.coordinator import MOST_LOST, FleetWatch
from lstm_harness.fleet.ledger import FLEET, Settings, State, held, name_of
from lstm_harness.fleet.task import Ended
from lstm_harness.model.case import Case
from lstm_harness.model.errors import Exit, Interrupted, MeasuringFailed, UserError
from lstm_harness.model.part import part_of
from lstm_harness.model.plan import Plan
from lstm_harness.store import run_folder

STATE = State(SPEC.to_dict(), ("lstm-bench", "fleet"), Settings("local"), cases_per_task=2)
QUIET = FleetWatch()
SCHEDULES = 60
PARTS = {"block-0-case-0", "block-0-case-2", "block-1-case-0", "block-1-case-2"}


def begin(folder, fleet, state=STATE, watch=QUIET):
    return coordinator.run(state, folder, lambda *_: fleet, watch)


def go_on(folder, fleet, watch=QUIET):
    return coordinator.resume(folder, None, lambda *_: fleet, watch)


def refuse_anything_but_the_plan(folder):
    run = run_folder.load(folder)  # refuses a record that appears twice, or is not planned
    assert {path.name for path in folder.iterdir()} == {"run.json", "records.jsonl"}
    assert (run.manifest["id"], run.torn, run.edited) == (folder.name, False, False)
    assert run.manifest["spec"] == json.loads(json.dumps(SPEC.to_dict()))
    assert run.manifest["end"]
    assert len(run.records) == len(BACKENDS) * len(CASES) * BLOCKS
    pairs, parts = defaultdict(set), defaultdict(set)
    for record in run.records:
        pairs[record.block, record.case].add(record.machine)
        piece = CASES.index(record.case) // STATE.cases_per_task
        parts[record.block, piece].add((record.machine, record.samples_ns))
    assert {len(machines) for machines in pairs.values()} == {1}
    assert {len(attempts) for attempts in parts.values()} == {1}, "a part is of one attempt"
    assert {part["id"] for part in run.manifest["parts"]} == PARTS
    assert {name_of(part_of(part)) for part in run.manifest["parts"]} == PARTS, "in the whole plan"


@pytest.mark.parametrize("kills", [0, 1, 4])
@pytest.mark.parametrize("tens", range(SCHEDULES // 10))
def test_any_schedule_ends_with_exactly_the_plan(tmp_path, tens, kills):
    for seed in range(10 * tens, 10 * tens + 10):
        rng = random.Random(f"{seed}/{kills}")
        folder = tmp_path / f"run-{seed}"
        coordinators = carried_out(folder, MadeUpFleet(rng), rng, kills, STATE)
        assert 1 <= coordinators <= kills + 1
        refuse_anything_but_the_plan(folder)


@pytest.mark.slow
@pytest.mark.parametrize("hundreds", range(20))
def test_thousands_of_schedules_end_with_exactly_the_plan(tmp_path, hundreds):
    for seed in range(100 * hundreds, 100 * hundreds + 100):
        rng = random.Random(f"{seed}/many")
        folder = tmp_path / f"run-{seed}"
        carried_out(folder, MadeUpFleet(rng), rng, rng.randrange(8), STATE)
        refuse_anything_but_the_plan(folder)


@pytest.mark.parametrize(
    "every", [11, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_killed_at_any_step_it_goes_on(tmp_path, every):
    for steps in range(0, 10_000, every):
        folder = tmp_path / f"run-{steps}"
        fleet = MadeUpFleet(random.Random(1))
        try:
            with killed_after(steps):
                begin(folder, fleet)
            break
        except Killed:
            begun = (folder / FLEET.manifest).exists() or (folder / "run.json").exists()
            with killed_after(None):
                (go_on if begun else begin)(folder, fleet)
        refuse_anything_but_the_plan(folder)
    assert steps > 50


class Exact:
    """An engine whose tasks end one after the other, as a test says; well if it says nothing."""

    def __init__(self, *endings):
        self.endings = list(endings)
        self.submitted = []
        self.avoided = frozenset()
        self.cancelled = False
        self._due = []

    def submit(self, tasks, avoiding=()):
        self.submitted += [task.name for task in tasks]
        self.avoided = frozenset(avoiding)
        self._due += tasks

    def poll(self):
        task = self._due.pop()
        ending = self.endings.pop(0) if self.endings and task.name != "plan" else None
        if isinstance(ending, BaseException):
            raise ending
        if ending:
            return [replace(ending, name=task.name)]
        files = MadeUpFleet(random.Random(0), most_losses=0)._endings(task)
        return [each for each in files if each.files][:1]

    def cancel(self):
        self.cancelled = True


LOST = Ended("", code=Exit.MEASURING_FAILED, said="its node is gone")
REFUSED = Ended("", code=Exit.USAGE, said="another gpu", place=ODD)
EXACT_STATE = replace(STATE, cases_per_task=3)


def test_a_lost_task_is_measured_again_and_one_lost_too_often_ends_the_run(tmp_path):
    engine = Exact(*[LOST] * (MOST_LOST - 1))
    begin(tmp_path / "run", engine, EXACT_STATE)
    assert engine.submitted.count("block-1-case-0") == MOST_LOST
    assert engine.submitted.count("block-0-case-0") == 1

    engine = Exact(*[LOST] * MOST_LOST)
    with pytest.raises(
        MeasuringFailed, match="its node is gone; what was measured is kept: "
    ) as told:
        begin(tmp_path / "another", engine, EXACT_STATE)
    assert str(told.value).endswith(f"lstm-bench fleet --resume {tmp_path / 'another'}")
    assert engine.cancelled
    go_on(tmp_path / "another", Exact())
    assert len(run_folder.load(tmp_path / "another").records) == 12


def test_a_place_that_refuses_is_avoided_and_its_first_refusal_counts_for_nothing(tmp_path):
    said = []
    engine = Exact(REFUSED, *[LOST] * (MOST_LOST - 1))
    begin(tmp_path / "run", engine, EXACT_STATE, FleetWatch(warned=said.append))
    assert engine.avoided == {ODD}
    assert said[0] == f"{ODD} measures nothing of this run: another gpu"
    assert said[1:] == ["task block-1-case-0 begins again: its node is gone"] * (MOST_LOST - 1)
    with pytest.raises(MeasuringFailed, match="another gpu"):
        begin(tmp_path / "another", Exact(*[REFUSED] * 20), EXACT_STATE)


def test_interrupted_it_ends_its_tasks_and_says_how_to_go_on(tmp_path):
    engine = Exact(None, KeyboardInterrupt())
    with pytest.raises(Interrupted, match="go on with: lstm-bench fleet --resume "):
        begin(tmp_path / "run", engine, EXACT_STATE)
    assert engine.cancelled
    again = Exact()
    go_on(tmp_path / "run", again)
    assert again.submitted == ["block-0-case-0"], "what was accepted is not measured again"


def test_a_plan_that_cannot_be_made_is_the_users_error_and_leaves_nothing(tmp_path):
    class NoPlan(Exact):
        def poll(self):
            return [Ended("plan", code=Exit.USAGE, said="unknown backend 'x'", place="a")]

    with pytest.raises(UserError, match="unknown backend 'x'"):
        begin(tmp_path / "run", NoPlan())
    assert list((tmp_path / "run").iterdir()) == []


def test_progress_counts_records(tmp_path):
    told = []
    begin(tmp_path / "run", Exact(), EXACT_STATE, FleetWatch(lambda *each: told.append(each)))
    assert [each[:2] for each in told] == [(0, 0), (0, 12), (6, 12), (12, 12)]


class OfMany(Exact):
    """A plan of this many cases, whose tasks end well; and what they carry."""

    def __init__(self, cases):
        super().__init__()
        self.cases = [synthetic_runs.case(seq_len=1 + number) for number in range(cases)]
        self.carried_bytes = 0

    def poll(self):
        task = self._due.pop()
        if task.name == "plan":
            made = manifest(task.order["id"], cases=self.cases)
            made["spec"]["grids"] = [{"seq-len": [c.problem.seq_len]} for c in self.cases]
            return [Ended("plan", {"run.json": json.dumps(made).encode()})]
        self.carried_bytes += len(json.dumps({**task.shared, **task.order}))
        return [Ended(task.name, measured(task, "a", 1))]


def test_the_work_grows_with_the_plan_and_not_with_its_square(tmp_path, monkeypatch):
    read, from_dict = [], Case.from_dict
    monkeypatch.setattr(Case, "from_dict", lambda fields: read.append(fields) or from_dict(fields))

    def counted(cases):
        read.clear()
        engine = OfMany(cases)
        folder = begin(tmp_path / f"{cases}", engine, replace(STATE, cases_per_task=1))
        assert len(run_folder.load(folder).records) == 2 * BLOCKS * cases
        return len(read), engine.carried_bytes

    for many, few in zip(counted(80), counted(40), strict=True):
        assert many < 2.1 * few


class Timed(MadeUpFleet):
    """The first case has a spread of about 10% from block to block, the others have none."""

    def _files(self, task, place):
        self.attempts += 1
        return measured(task, place, self.attempts, self.time_ns)

    @staticmethod
    def time_ns(block, case):
        spread = random.Random(block).gauss(0, 0.1) if case == CASES[0] else 0.0
        return round(1_000_000 * math.exp(spread))


@pytest.mark.parametrize("seed", range(5))
def test_blocks_are_added_until_every_case_is_precise(tmp_path, seed):
    rng, state = random.Random(seed), replace(STATE, until=0.05)
    folder = tmp_path / "run"
    carried_out(folder, Timed(rng), rng, kills=4, state=state)
    run = run_folder.load(folder)
    plan = Plan.from_dict(run.manifest["plan"])
    noisy, *others = plan.blocks_by_case
    # What a case needs depends on how its blocks are spread over machines, too.
    assert 3 <= min(others) <= max(others) < noisy < 60
    assert len(run.records) == plan.planned_records == 2 * sum(plan.blocks_by_case)
    assert {label: each.half_width <= 0.05 for label, each in precisions(run.records).items()} == {
        case.label(): True for case in CASES
    }
    assert run.manifest["end"]


def test_a_budget_ends_it_and_says_what_is_not_precise(tmp_path):
    said = []
    # A part takes 150 s by its manifest, and has one case: 900 s for the plan, and two more fit.
    state = replace(STATE, until=0.05, budget_s=1250.0, cases_per_task=1)
    begin(tmp_path / "run", Timed(random.Random(0)), state, FleetWatch(warned=said.append))
    plan = Plan.from_dict(run_folder.load(tmp_path / "run").manifest["plan"])
    assert sorted(plan.blocks_by_case) == [2, 3, 3]
    assert re.fullmatch(r"less precise than 5%: \d of 3 cases; the budget is spent", said[-1])


def test_one_coordinator_at_a_time(tmp_path):
    with pytest.raises(Interrupted):
        begin(tmp_path / "run", Exact(KeyboardInterrupt()))
    with held(tmp_path / "run"), pytest.raises(UserError, match=r"another coordinator \(process "):
        go_on(tmp_path / "run", Exact())
    with pytest.raises(UserError, match="go on with that fleet: lstm-bench fleet --resume "):
        begin(tmp_path / "run", Exact())


def test_a_finished_run_stays_as_it_is_and_another_run_is_refused(tmp_path):
    begin(tmp_path / "run", Exact())
    before = (tmp_path / "run" / "records.jsonl").read_bytes()
    assert go_on(tmp_path / "run", None) == tmp_path / "run"
    assert (tmp_path / "run" / "records.jsonl").read_bytes() == before
    with pytest.raises(UserError, match=r"is not the run of a fleet: cannot read fleet\.json"):
        go_on(tmp_path / "nothing", None)


def test_a_result_that_comes_late_or_again_changes_nothing(tmp_path):
    class Late(Exact):
        def poll(self):
            first = super().poll()
            if not self._due and "plan" not in [each.name for each in first]:
                return [*first, *first]
            return [LOST, *first] if first[0].name == "plan" else first

    begin(tmp_path / "run", Late(), EXACT_STATE)
    assert len(run_folder.load(tmp_path / "run").records) == 12
