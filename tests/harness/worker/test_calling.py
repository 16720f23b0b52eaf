"""A layer is called as a module calls it: the same tensors at the backend, the same results."""

from dataclasses import replace

import pytest
import torch

import lstm_kernels as lk
from lstm_harness.model.case import Call
from lstm_harness.worker import calling
from lstm_harness.worker.calling import (
    as_called,
    as_plain,
    called,
    made_plain,
    masks_of,
    output_dtypes,
    seed_masks,
    why_wide,
)
from lstm_harness.worker.inputs import make_inputs
from lstm_harness.worker.passes import make_pass, refuse_malformed
from lstm_kernels import Problem, registry
from lstm_kernels.cells import CELLS
from lstm_kernels.registry import TORCH_CELLS
from lstm_kernels.stack import Unsupported

PROBLEM = Problem("lstm", 5, 3, 4, 6, num_layers=2, bidirectional=True)
CALLS = [
    Call(batch_first=True),
    Call(autocast="bfloat16"),
    Call(autocast="float16"),
    Call(dropout=0.3),
    Call(batch_first=True, autocast="bfloat16", dropout=0.5),
]
# `compiled` is `naive` there, and compiles each of them for seconds.
HERE = [b for b in registry.BUILT_IN if "cpu" in b.devices and b.raced and b.name != "compiled"]
MODULES = {"lstm": lk.LSTM, "gru": lk.GRU, "rnn_tanh": lk.RNN, "rnn_relu": lk.RNN}
by_call = pytest.mark.parametrize("call", CALLS, ids=Call.label)


def module_of(problem, call, backend, inputs):
    """The module of a problem, with the weights of inputs."""
    settings = {"nonlinearity": problem.cell[4:]} if problem.cell.startswith("rnn") else {}
    module = MODULES[problem.cell](
        problem.input_size,
        problem.hidden_size,
        num_layers=problem.num_layers,
        bidirectional=problem.bidirectional,
        batch_first=call.batch_first,
        dropout=call.dropout,
        backend=backend,
        **settings,
    )
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), inputs.parameters(), strict=True):
            parameter.copy_(value)
    return module


def by_module(problem, call, backend, inputs, with_gradients):
    """What a module returns: y, h_n and c_n; then the gradients of x, states and parameters."""
    module = module_of(problem, call, backend, inputs)
    x, h0 = (t.clone().requires_grad_(with_gradients) for t in (inputs.x, inputs.h0))
    c0 = None if inputs.c0 is None else inputs.c0.clone().requires_grad_(with_gradients)
    seed_masks(call, "a word")
    low = None if call.autocast == "none" else getattr(torch, call.autocast)
    with (
        torch.set_grad_enabled(with_gradients),
        torch.autocast("cpu", low, enabled=low is not None),
    ):
        y, states = module(x, h0 if c0 is None else (h0, c0))
    outputs = (y, *(states if isinstance(states, tuple) else (states,)))
    if not with_gradients:
        return [*outputs]
    torch.autograd.backward(outputs, inputs.d_outputs())
    leaves = [each for each in (x, h0, c0) if each is not None]
    return [*outputs, *(each.grad for each in (*leaves, *module.parameters()))]


def by_harness(problem, call, backend, inputs, with_gradients):
    """What a worker makes, in the same order."""
    the_pass = make_pass(
        registry.load(backend), problem, "train" if with_gradients else "inference", call
    )
    state = the_pass.prepare(inputs)
    seed_masks(call, "a word")
    the_pass.execute(state)
    refuse_malformed(state)
    if not with_gradients:
        return [*state.outputs]
    leaves = state.inputs
    states = [each for each in (leaves.x, leaves.h0, leaves.c0) if each is not None]
    return [*state.outputs, *(each.grad for each in (*states, *leaves.parameters()))]


@by_call
@pytest.mark.parametrize("backend", [b.name for b in HERE])
def test_every_backend_makes_what_its_module_makes(backend, call):
    if registry.missing(backend):
        pytest.skip(f"{backend} needs {', '.join(registry.missing(backend))}")
    inputs = as_called(make_inputs(PROBLEM, 7, 0, "cpu"), PROBLEM, call)
    with_gradients = "backward" in registry.get(backend).passes
    given = PROBLEM, call, backend, inputs, with_gradients
    reason = registry.unsupported(backend, PROBLEM, "cpu")
    if reason:
        for run in (by_module, by_harness):
            with pytest.raises(Unsupported, match=r"bidirectional|layers|projection"):
                run(*given)
        return
    for mine, theirs in zip(by_harness(*given), by_module(*given), strict=True):
        assert (mine.dtype, mine.shape, mine.stride()) == (
            theirs.dtype,
            theirs.shape,
            theirs.stride(),
        )
        assert torch.equal(mine, theirs)


@by_call
@pytest.mark.parametrize("cell", TORCH_CELLS)
def test_the_backend_gets_what_a_module_gives_it(cell, call, monkeypatch):
    problem = replace(PROBLEM, cell=cell)
    inputs = as_called(make_inputs(problem, 7, 0, "cpu"), problem, call)
    naive, got = registry.load("naive"), []

    class Spy:
        def unsupported(self, problem, device):
            return naive.unsupported(problem, device)

        def layer(self, x, h0, c0, weights, **more):
            tensors = [x, h0, c0, *(t for one in weights for t in one)]
            got.append(
                [None if t is None else (t.shape, t.stride(), t.dtype) for t in tensors]
                + [more["problem"], more.get("lengths")]
            )
            return naive.layer(x, h0, c0, weights, **more)

    monkeypatch.setattr(registry, "load", lambda name: Spy())
    made = [run(problem, call, "naive", inputs, False) for run in (by_module, by_harness)]
    assert len(got) == 2 * PROBLEM.num_layers
    assert got[: PROBLEM.num_layers] == got[PROBLEM.num_layers :]
    low = call.computed(problem).dtype
    assert {each[-2].dtype for each in got} == {low}
    assert {str(each[0][2]) for each in got} == {f"torch.{low}"}
    for mine, theirs in zip(*made, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("lengths", ["full", "uniform:1:5"])
@pytest.mark.parametrize("autocast", ["bfloat16", "float16"])
@pytest.mark.parametrize("settings", [{}, {"proj_size": 2}], ids=["plain", "projected"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_peephole"])
def test_outputs_have_the_dtypes_that_torch_nns_have(cell, settings, autocast, lengths):
    if settings and cell != "lstm":
        pytest.skip("only an lstm is projected")
    problem, call = (
        replace(PROBLEM, cell=cell, lengths=lengths, **settings),
        Call(autocast=autocast),
    )
    inputs = as_called(make_inputs(problem, 7, 0, "cpu"), problem, call)
    expected = [each.dtype for each in inputs.d_outputs()]
    y, h_n, c_n = called(registry.load("naive"), problem, call, inputs)
    outputs = [y, h_n, *([] if c_n is None else [c_n])]
    assert [each.dtype for each in outputs] == expected
    assert y.dtype in (torch.float32, getattr(torch, autocast))
    assert CELLS[cell].has_cell_state == (c_n is not None)


def test_dtypes_of_what_torch_nn_fails_to_run_are_autocasts(monkeypatch):
    class Fails(torch.nn.LSTM):
        def forward(self, *given):
            raise RuntimeError("mkldnn has no bfloat16 here")

    output_dtypes.cache_clear()
    monkeypatch.setitem(calling._MODULES, "lstm", (Fails, {}))
    assert set(output_dtypes("lstm", False, True, "bfloat16", "cpu")) == {torch.bfloat16}
    output_dtypes.cache_clear()


@by_call
def test_inputs_differ_in_nothing_else(call):
    plain = make_inputs(PROBLEM, 7, 0, "cpu")
    made = as_called(plain, PROBLEM, call)
    assert made.x.is_contiguous()
    assert made.x.shape == ((3, 5, 4) if call.batch_first else (5, 3, 4))
    assert {t.dtype for t in (made.x, made.h0, made.c0, *made.parameters())} == {torch.float32}
    back = as_plain(made, call)
    assert torch.equal(back.x, plain.x)
    assert torch.equal(back.d_y, plain.d_y.to(made.d_y.dtype))
    assert torch.equal(back.d_h_n, plain.d_h_n.to(made.d_h_n.dtype))
    named = {"y": [made.d_y], "d_x": [made.x], "h_n": [made.h0], "d_w_ih": []}
    back_made = made_plain(named, call)
    assert torch.equal(back_made["d_x"][0], plain.x)
    assert torch.equal(back_made["y"][0], back.d_y)
    assert back_made["h_n"][0] is made.h0
    assert back_made["d_w_ih"] == []


class Refusing:
    """`naive`, but for the dtypes that it refuses."""

    def __init__(self, *refused):
        self._refused, self.computed_in = refused, []

    def unsupported(self, problem, device):
        return f"no {problem.dtype} here" if problem.dtype in self._refused else None

    def layer(self, *given, problem, **more):
        self.computed_in.append(problem.dtype)
        return registry.load("naive").layer(*given, problem=problem, **more)


def test_what_a_backend_refuses_in_autocasts_dtype_it_computes_in_float32():
    call = Call(autocast="float16")
    inputs = as_called(make_inputs(PROBLEM, 7, 0, "cpu"), PROBLEM, call)
    refusing = Refusing("float16")
    outputs = called(refusing, PROBLEM, call, inputs)
    assert set(refusing.computed_in) == {"float32"}
    assert [each.dtype for each in outputs] == [each.dtype for each in inputs.d_outputs()]
    assert why_wide(refusing, PROBLEM, call, "cpu") == "no float16 here"
    assert why_wide(refusing, PROBLEM, Call(batch_first=True), "cpu") == ""
    assert why_wide(Refusing(), PROBLEM, call, "cpu") == ""


def test_what_a_backend_refuses_in_both_is_refused_with_its_reason():
    call = Call(autocast="float16")
    inputs = as_called(make_inputs(PROBLEM, 7, 0, "cpu"), PROBLEM, call)
    with pytest.raises(Unsupported, match="no float32 here"):
        called(Refusing("float16", "float32"), PROBLEM, call, inputs)


def test_masks_are_what_torchs_dropout_draws_execution_by_execution():
    call, sizes = Call(dropout=0.25), (PROBLEM.seq_len, PROBLEM.batch, 2 * PROBLEM.hidden_size)
    three = replace(PROBLEM, num_layers=3)
    seed_masks(call, "a word")
    drawn = [torch.nn.functional.dropout(torch.ones(sizes), 0.25) for _ in range(6)]
    for execution in range(3):
        masks = masks_of(three, call, "a word", execution, "cpu")
        assert len(masks) == 2
        for mask, right in zip(masks, drawn[2 * execution :], strict=False):
            assert mask.dtype is torch.float64
            assert torch.allclose(mask.float(), right)
            assert 0 < (mask == 0).sum() < mask.numel()
    assert not torch.equal(masks_of(three, call, "another", 0, "cpu")[0].float(), drawn[0])
    assert masks_of(three, Call(), "a word", 0, "cpu") == ()


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_masks_are_the_same_in_every_dtype(dtype):
    call = Call(dropout=0.3)
    (single,) = masks_of(PROBLEM, call, "a word", 1, "cpu")
    (other,) = masks_of(replace(PROBLEM, dtype=dtype), call, "a word", 1, "cpu")
    assert torch.equal(single, other)


def test_without_dropout_nobodys_random_numbers_are_touched():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    seed_masks(Call(batch_first=True), "a word")
    assert torch.equal(torch.get_rng_state(), before)
