"""numba_cpu by head: heads that end with panels and that do not, threads, and what is not run."""

from typing import Any

import pytest

pytest.importorskip("numba", reason="numba_cpu needs numba")

import closeness
import torch
from by_oracle import check, results
from layer_outputs import flat, outputs
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import lstm_kernels as lk
from lstm_kernels.backends.numba_cpu import sequence, team
from lstm_kernels.cells import CELLS, cell, sigmoid, tanh

# One worker compiles for every test of this backend (see conftest).
pytestmark = pytest.mark.xdist_group("numba_cpu")

# Units and heads: heads of whole panels forward and backward, of whole panels forward only, smaller
# than a vector, larger than one and ending within it, of one unit, and of more than a wide panel.
HEADS = {
    "panels": (128, 2),
    "vectors": (128, 8),
    "small": (36, 9),
    "odd": (100, 5),
    "units": (19, 19),
    "large": (258, 3),
}
# More pairs than a chunk has, and sequences without a step.
SIZES = {"seq_len": 50, "batch": 9, "input_size": 20, "bidirectional": True}
LENGTHS = "uniform:0:50"
# By W_hh's gates: as many as a panel has vectors, fewer, in two parts, and several panels' units.
CELLS_OF_HEADS = ("slstm", "gru", "rnn_tanh", "mgu", "lstm_peephole")


@pytest.fixture(autouse=True)
def _threads_whatever_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "WORTH_MEETING", 0)


def fields_of(heads: str, **fields: Any) -> dict[str, Any]:
    H, N = HEADS[heads]
    return SIZES | {"hidden_size": H, "heads": N, "lengths": LENGTHS} | fields


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize(
    "of", [c if c == "slstm" else pytest.param(c, marks=pytest.mark.slow) for c in CELLS_OF_HEADS]
)
def test_heads_are_the_oracles(of: str, heads: str, make_layer: Any, assert_same: Any) -> None:
    def calm(*given: Any, **fields: Any) -> Any:
        """Over 50 steps larger weights make a plain RNN's rounding errors grow a billionfold."""
        problem, arguments = make_layer(*given, **fields)
        with torch.no_grad():
            for weights in arguments["weights"]:
                weights.w_hh.mul_(2 / problem.met_size**0.5)
        return problem, arguments

    check("numba_cpu", of, fields_of(heads), calm, assert_same)


@pytest.mark.parametrize("heads", HEADS)
def test_heads_are_the_oracles_in_float32(heads: str, make_layer: Any, assert_same: Any) -> None:
    fields = fields_of(heads, dtype="float32", seq_len=9, lengths="full")
    check("numba_cpu", "slstm", fields, make_layer, assert_same)


@cell(gates="a b", states="h c", per_unit="u", from_x="b")
def of_one_gate_from_h(p, h, c, u):
    """Fewer products of h than of x."""
    c = sigmoid(p.b) * c + u
    return tanh(p.a + c), c


@pytest.mark.slow
def test_a_cell_of_ones_own_has_heads(
    make_layer: Any, assert_same: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CELLS, of_one_gate_from_h.name, of_one_gate_from_h)
    check("numba_cpu", of_one_gate_from_h.name, fields_of("odd"), make_layer, assert_same)


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("heads", HEADS)
def test_any_number_of_threads_gives_the_same_bits(
    heads: str, count: int, make_layer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that meet at every step, and those whose heads do not need it."""
    problem, arguments = make_layer("slstm", **fields_of(heads, dtype="float32"))
    want = results("numba_cpu", problem, arguments)
    monkeypatch.setattr(team, "threads", lambda: count)
    for _ in range(3):
        got = results("numba_cpu", problem, arguments)
        assert not [name for name, tensor in want.items() if not torch.equal(got[name], tensor)]


@pytest.mark.parametrize("of", ["slstm", pytest.param("gru", marks=pytest.mark.slow)])
def test_gradients_are_those_of_finite_differences(of: str, make_layer: Any) -> None:
    fields = {"seq_len": 3, "batch": 2, "hidden_size": 6, "heads": 3, "lengths": "uniform:1:3"}
    problem, arguments = make_layer(of, **fields)

    def layer(*tensors: Tensor | None) -> tuple[Tensor, ...]:
        return outputs("numba_cpu", problem, *tensors)

    assert torch.autograd.gradcheck(layer, flat(arguments), fast_mode=True)
    assert torch.autograd.gradgradcheck(layer, flat(arguments), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_numbers_are_computed_in_float32(dtype: torch.dtype) -> None:
    wide = lk.Recurrent("slstm", 16, 24, heads=3, backend="numba_cpu")
    narrow = lk.Recurrent("slstm", 16, 24, heads=3, backend="numba_cpu").to(dtype)
    narrow.load_state_dict(wide.state_dict())
    wide.load_state_dict(narrow.state_dict())
    x = torch.randn(5, 3, 16).to(dtype)
    states = tuple((torch.rand(1, 3, 24) + 0.5).to(dtype) for _ in range(4))
    y, _ = narrow(x, states)
    expected, _ = wide(x.float(), tuple(state.float() for state in states))
    assert torch.equal(y, expected.to(dtype))
    bound = closeness.LAYER[str(dtype).removeprefix("torch.")]
    assert closeness.relative_error(y, expected) < bound


@pytest.mark.parametrize("heads", [1, 3])
def test_a_counter_sees_the_products_of_heads(heads: int, make_layer: Any) -> None:
    problem, arguments = make_layer("lstm", hidden_size=6, heads=heads, bidirectional=True)
    with FlopCounterMode(display=False) as counter:
        y, *_ = outputs("numba_cpu", problem, *flat(arguments))
        y.sum().backward()
    assert counter.get_total_flops() == problem.flops("train")


def test_a_small_head_is_worth_no_second_thread(
    make_layer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(team, "threads", lambda: 4)
    problems = [lk.Problem("lstm", 2, 1, 8, 128, heads=heads) for heads in (1, 8)]
    assert [sequence.threads_for(problem, 1) for problem in problems] == [4, 1]
