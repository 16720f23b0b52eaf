"""Every cheat we know, in a worker of its own and judged from outside it: none has a rank.

The cells are of a few milliseconds, so that what a clock is lied to about can be seen.
"""

from pathlib import Path

import cheats
import pytest
from bench import records_of
from cheats import SEED

from lstm_harness.analysis.ranking import ranked
from lstm_harness.analysis.summary import summarise
from lstm_harness.model.case import PLAIN, Call, Case
from lstm_harness.model.errors import Exit
from lstm_harness.model.plan import PlannedCell
from lstm_harness.model.protocol import LoadBackend
from lstm_harness.race.oracle import Oracle
from lstm_harness.race.process import WorkerProcess, WorkerSettings
from lstm_harness.race.sampler import StopRule
from lstm_harness.race.visit import Job, Visit, take_turns
from lstm_harness.store import run_folder
from lstm_kernels import Problem

PLUGIN = Path(cheats.__file__)
SMALL = Problem("lstm", 3, 2, 8, 8)
# Tens of milliseconds for `naive`, so that a lie shows where others have the cores, too.
LONG = Problem("lstm", 256, 4, 64, 64)
TIMEOUT_S = 60.0
NO_GRADIENTS = ("inference",)
ALL = ("inference", "forward", "backward")
WRONG = "incorrect"
# What is right, and has no rank for how it was measured.
UNRANKED = "unranked"

# Cheat to: passes, problem, what becomes of it, words of what is said.
FOUND_OUT = {
    "wrong_d_w_hh": (ALL, SMALL, WRONG, "d_w_hh wrong"),
    "one_gradient_off_by_a_hundredth": (ALL, SMALL, WRONG, "d_b_ih wrong"),
    "wrong_c_n": (ALL, SMALL, WRONG, "c_n wrong"),
    "not_a_number": (ALL, SMALL, WRONG, "y is not finite"),
    "no_gradients": (ALL, SMALL, WRONG, "no d_x: the backend returned none"),
    "one_gradient_less": (ALL, SMALL, WRONG, "no d_b_hh: the backend returned none"),
    "less_precise": (ALL, SMALL, WRONG, "wrong: "),
    "reads_unwritten": (ALL, SMALL, WRONG, "y "),
    "lazy": (ALL, SMALL, WRONG, "y is a Tensor; expected a plain torch.Tensor"),
    "changes_its_class": (ALL, SMALL, WRONG, "y is a Tensor; expected a plain torch.Tensor"),
    "wrong_shape": (ALL, SMALL, WRONG, "y is [2, 3, 8] float32 on cpu; expected [3, 2, 8]"),
    "wrong_dtype": (ALL, SMALL, WRONG, "y is [3, 2, 8] float64 on cpu; expected [3, 2, 8] float32"),
    "two_outputs": (ALL, SMALL, WRONG, "2 outputs; expected 3"),
    "changes_its_input": (NO_GRADIENTS, SMALL, WRONG, "changed its inputs in place"),
    "memo_of_the_first": (NO_GRADIENTS, SMALL, WRONG, "in the same memory"),
    "memo_by_d_y": (("backward",), SMALL, WRONG, "but a sample is wrong: d_x"),
    "sum_of_earlier": (NO_GRADIENTS, SMALL, WRONG, "but a sample is wrong: "),
    "goes_wrong": (NO_GRADIENTS, SMALL, WRONG, "but a sample is wrong: y"),
    "half_the_steps": (ALL, SMALL, WRONG, "wrong: y is off"),
    "old_weights": (ALL, SMALL, WRONG, "but a sample is wrong: "),
    "late": (NO_GRADIENTS, SMALL, WRONG, "y wrong"),
    "returns_its_input": (ALL, SMALL, WRONG, "h_n shares the memory of an input"),
    "one_output_for_all": (NO_GRADIENTS, SMALL, WRONG, "in the same memory"),
    "cut_off_the_graph": (("forward", "backward"), SMALL, WRONG, "y depends on None; expected a g"),
    "graph_in_inference": (NO_GRADIENTS, SMALL, WRONG, "expected no graph"),
    "sparse": (ALL, SMALL, WRONG, "y is torch.sparse_coo; expected torch.strided"),
    "parameter": (ALL, SMALL, WRONG, "y is a Parameter; expected a plain torch.Tensor"),
    "recognises_inputs": (ALL, SMALL, WRONG, "but a sample is wrong: "),
    "gradients_ahead": (("backward",), SMALL, WRONG, "d_x"),
    "reads_the_answer": (ALL, SMALL, WRONG, "wrong: "),
    "rewrites_the_answer": (ALL, SMALL, WRONG, "wrong: "),
    "slows_the_clock": (ALL, LONG, UNRANKED, "the harness waited"),
    "slows_the_clock_of_short_samples": (ALL, SMALL, UNRANKED, "longer"),
    "slows_the_clock_unless_doubted": (ALL, LONG, UNRANKED, "reported to take"),
    "stops_the_clock": (ALL, LONG, WRONG, "the products alone need"),
    "turns_back_the_clock": (ALL, LONG, "crashed", "-"),
    "tells_of_more_time": (ALL, LONG, "crashed", "reported a sample of"),
    "widens_the_tolerance": (ALL, SMALL, WRONG, "wrong: "),
    "has_no_norm": (ALL, SMALL, WRONG, "wrong: "),
    "judges_itself": (ALL, SMALL, WRONG, "wrong: "),
    "executes_nothing": (("inference", "forward"), LONG, UNRANKED, "reported to take"),
    "executes_ahead": (ALL, LONG, UNRANKED, "reported to take"),
    "hands_over_old": (ALL, SMALL, WRONG, "wrong: "),
    "keeps_a_hand_on_it": (ALL, SMALL, "crashed", "could still change"),
    "hands_over_another_file": (ALL, SMALL, "crashed", "handed over"),
    "hands_over_less": (ALL, SMALL, WRONG, "no "),
    "forges_replies": (ALL, SMALL, "crashed", "not a reply to what was asked"),
    "replays_replies": (ALL, SMALL, "crashed", "not a reply to what was asked"),
    "leaves_a_child": (ALL, SMALL, UNRANKED, "processes running"),
    "leaves_a_daemon": (ALL, SMALL, UNRANKED, "processes running"),
    "works_in_children": (ALL, SMALL, UNRANKED, "processes that it started worked for"),
}
# What is honest, and keeps its rank.
HONEST = {"harmless": ALL, "prints": ALL, "memo_of_some": NO_GRADIENTS, "memo_by_row": NO_GRADIENTS}
BATCH_FIRST, AUTOCAST = Call(batch_first=True), Call(autocast="bfloat16")
# Those who could gain by what is done around a backend: other memory, other dtypes, other inputs.
CALLED = {
    AUTOCAST: (
        *("wrong_d_w_hh", "not_a_number", "no_gradients", "memo_of_the_first", "memo_by_d_y"),
        *("goes_wrong", "half_the_steps", "late", "returns_its_input", "one_output_for_all"),
        *("cut_off_the_graph", "recognises_inputs", "gradients_ahead", "reads_the_answer"),
        *("rewrites_the_answer", "hands_over_old", "widens_the_tolerance", "judges_itself"),
        "hands_over_less",
    )
}
# What autocast casts at each call cannot be kept, or spoilt.
CALLED[BATCH_FIRST] = (*CALLED[AUTOCAST], "changes_its_input", "old_weights", "sum_of_earlier")


@pytest.fixture(scope="module")
def race(nursery, tmp_path_factory):
    """Measure cells of a backend in one worker, judged by an oracle that all share."""
    folder = tmp_path_factory.mktemp("workers")
    settings = WorkerSettings("cpu", folder, 1)
    with pytest.MonkeyPatch.context() as patch:
        nursery.use(patch)
        oracle = Oracle(settings, SEED)

        def measured(backend, passes, problem, call=PLAIN):
            worker = WorkerProcess(settings, backend, nursery.shared(), held=True)
            outcomes, proved = [], {}
            try:
                worker.ask(LoadBackend(backend, str(PLUGIN)))
                for name in passes:
                    cell = PlannedCell(0, 0, backend, Case(problem, name, call=call), None)
                    with_gradients = "backward" in _passes_of(backend)
                    stop = StopRule(min_samples=10, rel_ci=0.02, budget_s=0.02)
                    job = Job(SEED, stop, 1, with_gradients, False, False, ())
                    if not worker.alive:
                        worker.close()
                        worker = WorkerProcess(settings, backend, nursery.shared(), held=True)
                        worker.ask(LoadBackend(backend, str(PLUGIN)))
                    oracle.know(problem, call)
                    visit = Visit(cell, job, worker, oracle, TIMEOUT_S, proved)
                    visit.open()
                    take_turns([visit])
                    outcomes.append(visit.outcome)
            finally:
                worker.close()
            return outcomes

        yield measured
        oracle.close()


def _passes_of(backend):
    return next(each.passes for each in cheats.BACKENDS if each.name == backend)


@pytest.mark.parametrize("cheat", FOUND_OUT)
def test_no_cheat_has_a_rank(race, cheat):
    passes, problem, expected, words = FOUND_OUT[cheat]
    for name, outcome in zip(passes, race(cheat, passes, problem), strict=True):
        record = outcome.record()
        found = UNRANKED if record.unranked else record.status
        said = record.unranked or record.reason
        assert (found, words in said) == (expected, True), f"{name}: {said or 'nothing said'}"
        summary = summarise([record])
        assert summary["status"].item() != "ok"
        assert not len(ranked(summary))


@pytest.mark.parametrize(("call", "cheat"), [(call, c) for call in CALLED for c in CALLED[call]])
def test_no_cheat_has_a_rank_however_it_is_called(race, cheat, call):
    passes, problem, expected, _ = FOUND_OUT[cheat]
    for name, outcome in zip(passes, race(cheat, passes, problem, call), strict=True):
        record = outcome.record()
        assert record.case.call == call
        # Gradients that were made for the other order have another shape, which PyTorch refuses.
        assert record.status in (expected, "error"), f"{name}: {record.status}"
        assert not len(ranked(summarise([record])))


@pytest.mark.parametrize("call", CALLED, ids=Call.label)
@pytest.mark.parametrize("problem", [SMALL, LONG], ids=["small", "long"])
def test_who_is_honest_keeps_its_rank_however_it_is_called(race, problem, call):
    for outcome in race("harmless", ALL, problem, call):
        record = outcome.record()
        assert (record.status, record.reason, record.unranked) == ("ok", "", "")


@pytest.mark.parametrize("honest", HONEST)
@pytest.mark.parametrize("problem", [SMALL, LONG], ids=["small", "long"])
def test_who_is_honest_keeps_its_rank(race, honest, problem):
    for outcome in race(honest, HONEST[honest], problem):
        record = outcome.record()
        assert (record.status, record.reason, record.unranked) == ("ok", "", "")
        assert len(ranked(summarise([record]))) == 1


def test_more_threads_than_it_may_have_take_its_rank_or_bring_it_nothing(race):
    for outcome in race("more_threads", ALL, LONG):
        record = outcome.record()
        assert record.status == "ok"
        # On a machine that others use it may get little more than its due, and the judge allows for
        # what it cannot see: it looks at whole requests, this at samples alone.
        cores = sum(record.cpu_ns) / sum(record.samples_ns) / record.inner_repeats
        assert "--threads is 1" in record.unranked or cores < 1.4


def test_there_are_as_many_kinds_as_were_promised():
    assert len(set(FOUND_OUT) | {"more_threads"}) >= 40


OUTSIDE = ("edits_records", "edits_the_manifest", "replaces_records", "ends_its_rivals")
GRID = "--seq-len 3 --batch 2 --hidden 8 --threads 1 --pass inference,backward"
QUICK = "--min-samples 5 --time-budget 2 --blocks 2 --quiet"


@pytest.fixture(scope="module")
def beside(bench_in, tmp_path_factory):
    """A race of honest backends with those who meddle with what is outside their process."""
    folder = tmp_path_factory.mktemp("beside")
    backends = f"--plugin {PLUGIN} --backend aten,{','.join(OUTSIDE)},harmless"
    done = bench_in(f"run {backends} {GRID} {QUICK} --out race", folder)
    return done, folder / "race"


@pytest.mark.xdist_group("a race beside those who meddle")
def test_who_edits_the_run_is_named_and_the_run_is_as_it_was_written(beside):
    done, folder = beside
    assert done.returncode == Exit.INCORRECT
    records = run_folder.load(folder).records
    assert len(records) == 2 * 2 * (len(OUTSIDE) + 2)
    files = ("records.jsonl", "run.json", "records.jsonl")
    for name, file in zip(OUTSIDE, files, strict=False):
        caught = [r for r in records if r.backend == name and r.status != "ok"]
        said = f"it changed {file} of the run, which was restored"
        assert {(r.block, r.status, r.reason) for r in caught} == {
            (block, "incorrect", said) for block in (0, 1)
        }


@pytest.mark.xdist_group("a race beside those who meddle")
def test_rivals_are_what_they_are_without_a_cheat(beside):
    for record in records_of(beside[1]):
        if record["backend"] in ("aten", "harmless"):
            assert (record["status"], record["reason"], record["unranked"]) == ("ok", "", "")


def test_sources_that_change_while_they_are_measured_end_the_run(bench_in, tmp_path):
    plugin = tmp_path / "edits_itself.py"
    plugin.write_text(
        "from pathlib import Path\n"
        "from lstm_kernels import Backend, registry\n"
        "def unsupported(problem, device): return None\n"
        "def layer(*given, **rest):\n"
        "    Path(__file__).open('a').write('# as if nothing had been here')\n"
        "    return registry.load('naive').layer(*given, **rest)\n"
        "BACKENDS = [Backend('edits_itself', __name__, 'a cheat', ('cpu',))]\n"
    )
    backends = f"--plugin {plugin} --backend aten,edits_itself"
    done = bench_in(f"run {backends} {GRID} {QUICK} --out race", tmp_path)
    assert done.returncode == Exit.MEASURING_FAILED
    assert "the kernels' sources changed while they were measured" in done.stderr
