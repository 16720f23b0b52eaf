"""A cell inside a worker, executed here: the honest get times, and each cheat is found out."""

from dataclasses import replace

import cheats
import pytest
import torch

from lstm_harness.model.protocol import OpenCell, StopRule
from lstm_harness.worker import oracle
from lstm_harness.worker.clock import CpuClock, Reading
from lstm_harness.worker.executor import Executor, Incorrect, _fields
from lstm_harness.worker.inputs import make_inputs
from lstm_harness.worker.passes import Malformed, Pass, State
from lstm_harness.worker.sampler import Samples, Track

ALL = ("inference", "forward", "backward", "train")
SIZES = {"hidden_size": 8, "input_size": 8}

# Cheat to words of what is said of it, in the passes it is entered for.
FOUND_OUT = [
    ("wrong_d_w_hh", ALL, "d_w_hh wrong"),
    ("wrong_c_n", ALL, "c_n wrong"),
    ("not_a_number", ALL, "y is not finite"),
    ("no_gradients", ALL, "no d_x: the backend gave none"),
    ("one_gradient_less", ALL, "no d_b_hh: the backend gave none"),
    ("less_precise", ALL, "wrong: "),
    ("reads_unwritten", ALL, "y.* (wrong|is not finite)"),
    ("lazy", ALL, "y is a Tensor; expected a plain torch.Tensor"),
    ("wrong_shape", ALL, r"y is \[2, 3, 8\] float32 on cpu; expected \[3, 2, 8\]"),
    ("wrong_dtype", ALL, r"y is \[3, 2, 8\] float64 on cpu; expected \[3, 2, 8\] float32"),
    ("two_outputs", ALL, "2 outputs; expected 3"),
    ("changes_its_input", ("inference",), "changed its inputs in place"),
    ("memo_by_pointer", ("inference",), "wrong in the last sample|in the same memory"),
    ("memo_of_the_first", ("inference",), "wrong in the last sample|in the same memory"),
    ("goes_wrong", ("inference",), "right at first, wrong in the last sample"),
    ("late", ("inference",), "y wrong"),
    ("returns_its_input", ALL, "h_n lies in an input's memory"),
    ("one_output_for_all", ("inference",), "gave their outputs in the same memory"),
    ("cut_off_the_graph", ("forward", "backward", "train"), "y hangs on None; expected a graph"),
    ("graph_in_inference", ("inference",), "expected no graph"),
    ("sparse", ALL, "y is torch.sparse_coo; expected torch.strided"),
    ("parameter", ALL, "y is a Parameter; expected a plain torch.Tensor"),
]
CASES = [(name, p, words) for name, passes, words in FOUND_OUT for p in passes]


@pytest.fixture
def job_for(small_case, tmp_path):
    """A job on a small problem, its answer made."""
    torch.set_num_threads(1)

    def make(pass_name="forward", **problem) -> OpenCell:
        case = small_case(pass_name, **(SIZES | problem))
        path = tmp_path / "answer.pt"
        oracle.save(oracle.answer(case.problem, 5, "cpu"), path)
        return OpenCell(
            block=0,
            order=0,
            backend="any",
            case=case,
            seed=5,
            answer=str(path),
            stop=StopRule(min_samples=3, rel_ci=0.02, budget_s=0.02),
            impossible_ns=0.0,
            with_memory=True,
            with_energy=False,
            our_pids=(),
        )

    return make


def execute(name: str, job: OpenCell):
    backend = next(backend for backend in cheats.BACKENDS if backend.name == name)
    fresh = type(cheats.OBJECTS[name])()
    return Executor(fresh, backend.passes, "cpu").execute(job)


@pytest.mark.parametrize(("cheat", "pass_name", "words"), CASES)
def test_cheat_is_found_out(job_for, cheat, pass_name, words):
    with pytest.raises((Incorrect, Malformed), match=words):
        execute(cheat, job_for(pass_name))


def test_one_wrong_tensor_is_named_alone(job_for):
    for cheat, tensor in (("wrong_d_w_hh", "d_w_hh"), ("wrong_c_n", "c_n")):
        with pytest.raises(Incorrect) as found:
            execute(cheat, job_for("forward"))
        assert [name for name, error in found.value.errors.items() if error > 1e-5] == [tensor]


def test_what_is_not_a_number_has_no_error_figure(job_for):
    with pytest.raises(Incorrect) as found:
        execute("not_a_number", job_for("inference"))
    assert found.value.errors["y"] is None


def test_time_below_what_the_products_need_is_refused(job_for):
    with pytest.raises(Incorrect, match="below the"):
        execute("harmless", replace(job_for(), impossible_ns=1e12))


@pytest.mark.parametrize("pass_name", ALL)
@pytest.mark.parametrize(
    "problem",
    [{}, {"cell": "gru"}, {"num_layers": 2, "bidirectional": True}, {"lengths": "uniform:0:3"}],
)
def test_honest_backend_gets_its_times_and_evidence(job_for, pass_name, problem):
    record = execute("harmless", job_for(pass_name, **problem))
    outputs = {"y", "h_n"} | ({"c_n"} if problem.get("cell") != "gru" else set())
    inputs = {"d_x", "d_h0"} | ({"d_c0"} if problem.get("cell") != "gru" else set())
    parameters = {"d_w_ih", "d_w_hh", "d_b_ih", "d_b_hh"}
    assert set(record.errors) == outputs | inputs | parameters
    assert max(record.errors.values()) <= record.tolerance
    assert len(record.samples_ns) >= 3
    assert min(record.samples_ns) > 0
    assert record.peak_bytes > 0
    assert (record.saved_bytes is None) == (pass_name == "inference")


def test_backend_without_gradients_is_proved_by_its_outputs_alone(job_for):
    record = execute("inference_only", job_for("inference"))
    assert set(record.errors) == {"y", "h_n", "c_n"}


def test_verify_only_takes_no_time(job_for):
    backend = next(backend for backend in cheats.BACKENDS if backend.name == "harmless")
    executor = Executor(type(cheats.OBJECTS["harmless"])(), backend.passes, "cpu")
    opened = executor.open(replace(job_for(), proof_only=True))
    assert max(opened.errors.values()) <= opened.tolerance
    with pytest.raises(RuntimeError, match="no cell is open"):
        executor.take_turn(None)


def tracked(problem, prepared, executed, with_gradients=True):
    """A track over two sets of a problem, that tells what inputs it gives."""
    sets = tuple(make_inputs(problem, 0, index, "cpu") for index in range(2))
    a_pass = Pass(lambda given: prepared(given) or State(given), executed)
    return Track(a_pass, CpuClock(), sets, with_gradients)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("names", [("x", "h0", "c0"), ("d_y", "d_h_n", "d_c_n")])
def test_no_two_executions_see_the_same_inputs(small_case, dtype, names):
    problem = small_case(dtype=dtype, batch=16, hidden_size=32, input_size=32).problem
    seen = []

    def look(state):
        seen.append([getattr(state.inputs, name) for name in names])

    track = tracked(problem, lambda given: None, look)
    for repeats in (1, 500, 500):
        track.take(repeats)
    as_bytes = {b"".join(t.view(torch.uint8).numpy().tobytes() for t in each) for each in seen}
    assert len(as_bytes) == 1_001
    for name, tensors in zip(names, zip(*seen, strict=True), strict=True):
        # Every number of it is another, and all are as drawn: none stands out.
        assert (tensors[0] != tensors[1]).float().mean() > 0.9
        scale = 0.5 if name in ("h0", "c0") else 1.0
        whole = torch.stack(tensors).double()
        assert abs(whole.mean()) < 0.1 * scale
        assert 0.9 * scale < whole.std() < 1.1 * scale


def test_what_a_backward_starts_from_is_not_there_when_it_is_prepared(small_case):
    before, after = [], []
    track = tracked(
        small_case().problem,
        lambda given: before.append(given.d_y.clone()),
        lambda state: after.append(state.inputs.d_y.clone()),
    )
    track.take(3)
    for early, late in zip(before, after, strict=True):
        assert (early != late).float().mean() > 0.9


@pytest.mark.parametrize("cheat", ["memo_of_some", "memo_of_states", "memo_by_row"])
@pytest.mark.parametrize("pass_name", ["inference", "forward"])
def test_a_cache_of_a_part_of_the_inputs_never_helps(job_for, cheat, pass_name):
    fresh = type(cheats.OBJECTS[cheat])()
    executor = Executor(fresh, ("inference", "forward"), "cpu")
    executor.open(job_for(pass_name))
    executor.take_turn(None)
    assert fresh.hits == 0
    assert fresh.misses > 3


def test_a_few_rows_find_what_all_rows_find(job_for, monkeypatch):
    monkeypatch.setattr("lstm_harness.model.oracle_cost.MOST_FLOPS", {"cpu": 1.0})
    job = job_for("backward", batch=8)
    assert execute("harmless", job).oracle_rows == 3
    for cheat in ("wrong_d_w_hh", "wrong_c_n", "not_a_number", "no_gradients", "less_precise"):
        with pytest.raises(Incorrect):
            execute(cheat, job)


def test_what_throttled_a_sample_stands_in_the_record():
    readings = (Reading(5), Reading(6, marked=True, throttling=("power cap",)), Reading(5))
    fields = _fields(Samples(readings, 1, "budget"), (5, 6, 5))
    assert fields["warnings"] == ("throttled: power cap",)
    assert fields["marked"] == (1,)
