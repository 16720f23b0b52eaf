"""int8 weights: near float64 on every backend that has them, refused by name by all others."""

import pytest
import torch
from inferred import outputs, right

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.stack import run

ABLE = [each.name for each in registry.registered().values() if each.w8]
# What the harness allows (lstm_harness.worker.verify.TOLERANCES).
BOUND = 4e-2
SHAPES = {
    "plain": {},
    "deep, two ways": {"num_layers": 2, "bidirectional": True},
    "ragged": {"lengths": "uniform:1:9", "bidirectional": True},
    "one": {"seq_len": 1, "batch": 1},
}
SIZES = {"seq_len": 9, "batch": 7, "input_size": 33, "hidden_size": 37, "dtype": "float32"}


@pytest.fixture(params=ABLE)
def able(request: pytest.FixtureRequest) -> str:
    """Every backend with int8 weights that runs an LSTM with them here."""
    for package in registry.get(request.param).requires:
        pytest.importorskip(package, reason=f"{request.param} needs {package}")
    reason = registry.unsupported(request.param, of_int8("lstm"), "cpu")
    if reason:
        pytest.skip(f"{request.param}: {reason}")
    return request.param


def of_int8(cell, **fields):
    return lk.Problem(cell, **SIZES | {"precision": "w8"} | fields)


def drawn(make_layer, cell, **fields):
    """A layer with weights as PyTorch begins them, and normal inputs."""
    problem, given = make_layer(cell, **SIZES | {"precision": "w8"} | fields)
    k = problem.hidden_size**-0.5
    with torch.no_grad():
        given["x"].mul_(2)
        for tensor in (t for one in given["weights"] for t in one if t is not None):
            tensor.uniform_(-k, k)
    return problem, given


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cell", ["lstm", "gru", "lstm_peephole", "lstm_cifg"])
def test_it_is_near_float64_and_not_in_float32(able, cell, shape, make_layer, assert_same):
    problem, given = drawn(make_layer, cell, **SHAPES[shape])
    reason = registry.unsupported(able, problem, "cpu")
    if reason:
        pytest.skip(f"{able}: {reason}")
    expected = right(problem, given)
    for row, steps in enumerate(problem.sequence_lengths()):
        # What lies past a sequence's end may be anything.
        given["x"].data[steps:, row] = float("nan")
    found = outputs(able, problem, given)
    assert_same(found, expected, bound=BOUND)
    with pytest.raises(AssertionError):
        assert_same(found, expected, bound=1e-4)


def test_a_change_in_place_is_seen(able, make_layer, assert_same):
    problem, given = drawn(make_layer, "lstm")
    before = outputs(able, problem, given)
    assert torch.equal(outputs(able, problem, given)["y"], before["y"])
    for name in ("w_ih", "w_hh", "b_ih"):
        with torch.no_grad():
            getattr(given["weights"][0], name).neg_()
        after = outputs(able, problem, given)
        assert_same(after, right(problem, given), bound=BOUND)
        assert not torch.equal(after["y"], before["y"])
        before = after


def test_a_change_that_nobody_counted_is_seen_by_whoever_looks(able, make_layer, assert_same):
    problem, given = drawn(make_layer, "lstm")
    outputs(able, problem, given)
    given["weights"][0].w_hh.data.neg_()
    found = outputs(able, problem, given, look=True)
    assert_same(found, right(problem, given), bound=BOUND)


def test_inputs_weights_and_random_numbers_are_left_alone(able, make_layer):
    problem, given = drawn(make_layer, "lstm")
    tensors = [given["x"], given["h0"], given["c0"], *given["weights"][0][:4]]
    before = [tensor.detach().clone() for tensor in tensors]
    state = torch.get_rng_state()
    outputs(able, problem, given)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one, other) for one, other in zip(tensors, before, strict=True))


def test_gradients_are_refused_before_anything_runs(able, make_layer):
    problem, given = drawn(make_layer, "lstm")
    with pytest.raises(lk.Unsupported, match=r"int8 weights have no gradients.*torch.no_grad\(\)"):
        run(registry.load(able), **given, problem=problem)


@pytest.mark.parametrize("name", [name for name in registry.backends() if name not in ABLE])
def test_all_others_refuse_it_without_an_import(name, monkeypatch):
    monkeypatch.setattr(registry, "load", lambda name: pytest.fail(f"{name} was imported"))
    reason = registry.unsupported(name, of_int8("lstm"), "cpu")
    assert reason == f"{name} has no int8 weights, and this is precision w8"


@pytest.mark.parametrize(
    ("name", "cell", "fields", "why"),
    [
        ("aten", "rnn_tanh", {}, "are lstm and gru, and this is rnn_tanh"),
        ("aten", "lstm", {"proj_size": 2}, "no projection, and P=2"),
        ("aten", "lstm", {"bias": False}, "have biases, and this problem has none"),
        ("onnxruntime", "gru", {}, "int8 weights of an LSTM only, and this is gru"),
        ("numba_cpu", "lstm", {"proj_size": 2}, "no projection, and P=2"),
        ("numba_cpu", "lstm", {"heads": 37}, "are of one head, and this has 37"),
        ("numba_cpu", "lstm_layernorm", {}, "no norms, and lstm_layernorm normalises"),
        ("numba_cpu", "lstm", {"input_size": 133_145}, "133144 int8 products"),
    ],
)
def test_what_one_has_not_is_refused_with_a_reason(name, cell, fields, why):
    for package in registry.get(name).requires:
        pytest.importorskip(package, reason=f"{name} needs {package}")
    assert why in (registry.unsupported(name, of_int8(cell, **fields), "cpu") or "nothing")
