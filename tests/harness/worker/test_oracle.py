"""What is right, and how what was handed over is judged by it."""

from dataclasses import replace

import pytest
import torch

from lstm_harness.model import oracle_cost
from lstm_harness.model.protocol import Draw, JudgeSample
from lstm_harness.worker import oracle
from lstm_harness.worker.fresh import Mixer, changed_weights
from lstm_harness.worker.handing import HandedOut
from lstm_harness.worker.inputs import make_inputs
from lstm_harness.worker.oracle import FIRST_SET, Oracle, checked_inputs
from lstm_harness.worker.passes import make_pass
from lstm_harness.worker.poison import can_poison, poisoned_memory
from lstm_harness.worker.verify import judge, tolerance
from lstm_kernels import Problem, registry
from lstm_kernels.stack import run

PROBLEM = Problem("lstm", 4, 6, 3, 5, lengths="uniform:1:4")
WHOLE = Problem("lstm", 4, 2, 3, 5)
SEED = 3
DRAW = Draw("weights", "inputs", "gradients")
OUTPUTS = {"y", "h_n", "c_n"}
GRADIENTS = {"d_x", "d_h0", "d_c0", "d_w_ih", "d_w_hh", "d_b_ih", "d_b_hh"}


def executed(problem, inputs, pass_name):
    """What `naive` makes of inputs."""
    the_pass = make_pass(registry.load("naive"), problem, pass_name)
    state = the_pass.prepare(inputs)
    the_pass.execute(state)
    return state.tensors()


def first_executions(problem, *pass_names):
    """What an honest worker makes of the checked inputs."""
    inputs = checked_inputs(problem, SEED, "cpu")
    return [executed(problem, inputs, name) for name in pass_names]


def sample(problem, pass_name, draw=DRAW, repeats=3):
    """What an honest worker makes in a sample."""
    mixer = Mixer("cpu")
    like = make_inputs(problem, SEED, FIRST_SET, "cpu")
    like = replace(like, weights=changed_weights(like.weights, draw.weights, tolerance(problem)))
    made = []
    for number in range(repeats):
        inputs = mixer.inputs(like, draw.inputs, number, True)
        mixer.gradients(inputs, draw.gradients, number)
        made.append(executed(problem, inputs, pass_name))
    return made


def spoilt(made, name):
    """The same with one tensor off by a tenth of a percent."""
    return made | {name: [1.001 * made[name][0].detach(), *made[name][1:]]}


@pytest.fixture
def handed():
    """Hand over executions; returns where they lie, and what is told of them."""
    out = HandedOut()

    def hand(executions):
        told = out.hand(executions)
        return f"/proc/self/fd/{told.descriptor}", told

    return hand


@pytest.fixture(scope="module")
def judging():
    return Oracle("cpu")


def test_answer_is_what_torch_computes_in_float64():
    found = oracle.answer(WHOLE, SEED, "cpu").tensors
    inputs = make_inputs(WHOLE, SEED, FIRST_SET, "cpu")
    lstm = torch.nn.LSTM(3, 5, dtype=torch.float64)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    with torch.no_grad():
        for name, value in zip(names, inputs.parameters(), strict=True):
            getattr(lstm, name).copy_(value)
    x = inputs.x.double().requires_grad_()
    y, (h_n, c_n) = lstm(x, (inputs.h0.double(), inputs.c0.double()))
    starts = [gradient.double() for gradient in inputs.d_outputs()]
    torch.autograd.backward((y, h_n, c_n), starts)
    for name, expected in (("y", y), ("h_n", h_n), ("c_n", c_n), ("d_x", x.grad)):
        assert torch.allclose(found[name][0], expected, rtol=1e-12, atol=1e-12)
    for name, parameter in zip(("w_ih", "w_hh", "b_ih", "b_hh"), names, strict=True):
        gradient = getattr(lstm, parameter).grad
        assert torch.allclose(found[f"d_{name}"][0], gradient, rtol=1e-12, atol=1e-12)


def test_rows_are_a_part_of_the_whole_answer(monkeypatch):
    whole = oracle.answer(PROBLEM, 0, "cpu")
    assert whole.rows is None
    monkeypatch.setattr(oracle_cost, "MOST_FLOPS", {"cpu": 1.0})
    part = oracle.answer(PROBLEM, 0, "cpu")
    assert part.rows == (0, 3, 5)
    for name in ("y", "h_n", "c_n"):
        rows = whole.tensors[name][0][:, list(part.rows)]
        assert torch.allclose(part.tensors[name][0], rows, rtol=1e-13, atol=0)


def test_a_cell_that_mixes_its_batch_is_answered_whole(monkeypatch):
    mixed = replace(PROBLEM, cell="lstm_batchnorm", lengths="full")
    monkeypatch.setattr(oracle_cost, "MOST_FLOPS", {"cpu": 1.0})
    assert oracle_cost.rows_to_answer(replace(PROBLEM, cell="lstm_layernorm"), "cpu") is not None
    found = oracle.answer(mixed, 0, "cpu")
    assert found.rows is None
    assert found.tensors["y"][0].shape[1] == mixed.batch
    rows = (0, 3, 5)
    monkeypatch.setattr(oracle, "rows_to_answer", lambda *_: rows)
    wrong = oracle.answer(mixed, 0, "cpu").tensors["y"][0]
    assert not torch.allclose(wrong, found.tensors["y"][0][:, list(rows)])


def test_few_rows_are_answered_whole(monkeypatch):
    monkeypatch.setattr(oracle_cost, "MOST_FLOPS", {"cpu": 1.0})
    assert oracle_cost.rows_to_answer(Problem("lstm", 4, 3, 3, 5), "cpu") is None


def test_answers_are_found_once_and_again_where_memory_was_short(monkeypatch):
    asked, find = [], oracle.answer

    def counted(problem, seed, device, call):
        asked.append(problem.seq_len)
        return find(problem, seed, device, call)

    monkeypatch.setattr(oracle, "answer", counted)
    short, long = WHOLE, replace(WHOLE, seq_len=9)
    roomy = Oracle("cpu")
    answers = [roomy.know(problem, SEED) for problem in (short, long, short)]
    assert answers[0] is answers[2]
    assert asked == [4, 9]
    monkeypatch.setattr(oracle, "MOST_BYTES", 0)
    asked.clear()
    cramped = Oracle("cpu")
    again = [cramped.know(problem, SEED) for problem in (short, short, long, short)]
    assert asked == [4, 9, 4]
    assert torch.equal(again[0].tensors["y"][0], again[-1].tensors["y"][0])


@pytest.mark.parametrize(
    ("passes", "names"),
    [
        (("inference",), OUTPUTS),
        (("forward", "train"), OUTPUTS | GRADIENTS),
        (("backward",), OUTPUTS | GRADIENTS),
    ],
)
def test_a_right_first_execution_is_proved(judging, handed, passes, names):
    judged = judging.judge_proof(PROBLEM, SEED, *handed(first_executions(PROBLEM, *passes)))
    assert judged.failure == ""
    assert set(judged.errors) == names
    assert 0 < max(judged.errors.values()) < 1e-6


@pytest.mark.parametrize("name", sorted(OUTPUTS | GRADIENTS))
def test_a_wrong_first_execution_is_not_proved(judging, handed, name):
    forward, train = first_executions(PROBLEM, "forward", "train")
    judged = judging.judge_proof(PROBLEM, SEED, *handed([forward, spoilt(train, name)]))
    assert judged.failure.startswith(f"{name} wrong")
    if name in OUTPUTS:
        judged = judging.judge_proof(PROBLEM, SEED, *handed([spoilt(forward, name), train]))
        assert judged.failure.startswith(f"{name} wrong")
        assert judged.errors[name] == pytest.approx(0.001, rel=0.01)


def test_a_few_rows_prove_what_all_rows_prove(monkeypatch, handed):
    monkeypatch.setattr(oracle_cost, "MOST_FLOPS", {"cpu": 1.0})
    some = Oracle("cpu")
    assert some.know(PROBLEM, SEED).rows == (0, 3, 5)
    (made,) = first_executions(PROBLEM, "train")
    assert some.judge_proof(PROBLEM, SEED, *handed([made])).failure == ""
    for name in OUTPUTS | GRADIENTS:
        judged = some.judge_proof(PROBLEM, SEED, *handed([spoilt(made, name)]))
        assert judged.failure.startswith(f"{name} wrong")


@pytest.mark.parametrize("pass_name", ["inference", "forward", "backward", "train"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_a_right_sample_is_right_in_each_of_its_executions(judging, handed, pass_name, dtype):
    problem = replace(PROBLEM, dtype=dtype)
    place = handed(sample(problem, pass_name))
    for execution in range(3):
        judged = judging.judge_sample(JudgeSample(problem, SEED, DRAW, execution, *place))
        assert judged.failure == ""
        has_gradients = pass_name in ("backward", "train")
        assert set(judged.errors) == OUTPUTS | (GRADIENTS if has_gradients else set())


@pytest.mark.parametrize("name", sorted(OUTPUTS | GRADIENTS))
def test_a_wrong_sample_is_found_in_the_execution_that_is_wrong(judging, handed, name):
    first, second, third = sample(WHOLE, "train")
    place = handed([first, spoilt(second, name), third])
    asked = JudgeSample(WHOLE, SEED, DRAW, 0, *place)
    assert judging.judge_sample(asked).failure == ""
    judged = judging.judge_sample(replace(asked, execution=1))
    assert judged.failure.startswith(f"{name} wrong")


@pytest.mark.parametrize("other", ["weights", "inputs", "gradients"])
def test_the_outcome_of_other_inputs_is_wrong(judging, handed, other):
    place = handed(sample(WHOLE, "train", replace(DRAW, **{other: "another"})))
    judged = judging.judge_sample(JudgeSample(WHOLE, SEED, DRAW, 0, *place))
    assert "wrong" in judged.failure


def test_the_outcome_of_another_execution_is_wrong(judging, handed):
    first, second, third = sample(WHOLE, "inference")
    place = handed([second, first, third])
    for execution in (0, 1):
        asked = JudgeSample(WHOLE, SEED, DRAW, execution, *place)
        assert "y, h_n, c_n wrong" in judging.judge_sample(asked).failure


def test_what_is_not_as_it_was_told_is_a_failure_and_no_error(judging, handed):
    place, told = handed(sample(WHOLE, "inference"))
    more = replace(told, counts=(*told.counts, told.counts[0]))
    fewer = replace(told, counts=({"y": 1}, *told.counts[1:]))
    for lie in (more, fewer):
        judged = judging.judge_sample(JudgeSample(WHOLE, SEED, DRAW, 0, place, lie))
        assert "bytes were handed over; expected" in judged.failure
    strange = replace(told, counts=({"z": 1},))
    judged = judging.judge_proof(WHOLE, SEED, place, strange)
    assert judged.failure == "there is no tensor 'z'"


@pytest.mark.parametrize("wrong", [("aten",), ("aten", "naive")])
def test_who_does_not_find_the_answer_stands_in_for_nobody(monkeypatch, handed, wrong):
    load = registry.load

    class ALittleWrong:
        def __init__(self, right):
            self.right, self.unsupported = right, right.unsupported

        def stack(self, *given, problem, lengths, dropout, training):
            y, *states = run(self.right, *given, problem=problem, lengths=lengths)
            return 1.001 * y, *states

    place = handed(sample(WHOLE, "train"))

    def spoil(name):
        return ALittleWrong(load(name)) if name in wrong else load(name)

    monkeypatch.setattr(registry, "load", spoil)
    asked = JudgeSample(WHOLE, SEED, DRAW, 2, *place)
    assert Oracle("cpu").judge_sample(asked).failure == ""


@pytest.mark.skipif(not can_poison("cpu"), reason="malloc here is not glibc's")
@pytest.mark.parametrize("elements", [8, 100, 10_000, 1_000_000])
def test_fresh_memory_is_garbage_only_while_poisoned(elements):
    with poisoned_memory("cpu"):
        poisoned = [torch.empty(elements) for _ in range(3)]
    # Of a small block the allocator keeps the first 16 bytes for itself.
    assert all((tensor[4:].abs() > 1e37).all() for tensor in poisoned)
    del poisoned
    torch.empty(elements + 1000).zero_()
    assert torch.zeros(elements).sum() == 0


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_int8_weights_are_right_and_int4_is_not(cell):
    problem = Problem(cell, 16, 4, 64, 64, precision="w8")
    for seed in range(3):
        right = oracle.answer(problem, seed, "cpu").tensors
        for bits, is_right in ((8, True), (4, False)):
            made = executed_with_weights_of(bits, problem, seed)
            assert (judge(made, right, tolerance(problem)).failure == "") is is_right


def executed_with_weights_of(bits, problem, seed):
    """What `naive` makes with weights and inputs of so many bits, a scale a row."""

    def rounded(tensor):
        scale = tensor.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
        return (tensor / scale).round() * scale

    inputs = checked_inputs(problem, seed, "cpu")
    weights = tuple(
        one._replace(w_ih=rounded(one.w_ih), w_hh=rounded(one.w_hh)) for one in inputs.weights
    )
    inputs = replace(inputs, x=rounded(inputs.x), weights=weights)
    return executed(replace(problem, precision="ieee"), inputs, "inference")
