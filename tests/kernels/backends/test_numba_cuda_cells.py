"""A cell's functions in Numba CUDA's dialect, as the simulator calls them, against PyTorch's."""

import math

import numpy as np
import pytest
import torch
from pointwise_cells import POINTWISE

from lstm_kernels.cells import (
    CELLS,
    Cell,
    cell,
    exp,
    log,
    maximum,
    minimum,
    relu,
    sigmoid,
    tanh,
    where,
)
from lstm_kernels.cells.code.emit import TORCH, compiled

code = pytest.importorskip("lstm_kernels.backends.fused_numba_cuda.cells")
points = pytest.importorskip("lstm_kernels.backends.fused_numba_cuda.points")

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="compiled, as on a GPU, they cannot be called"
)
BOUNDS = {"float32": 1e-5, "float64": 1e-13}


@cell(gates="a b", states="h c", per_unit="u", apart="b")
def everything(p, h, c, u):
    x = where(p.a < h, p.b_x / (1.1 + exp(c)), -relu(p.b_h) * u) - minimum(p.a, c)
    y = maximum(h * 2, c) + log(1 + exp(p.b_h)) - tanh(u - x)
    y = y + tanh(exp(-relu(p.a)))
    return where(y >= 0.3, sigmoid(x), 0.7) + 3, x * y + exp(-y / (2 + sigmoid(h)))


@cell(gates="a", states="h")
def chosen(p, h):
    return maximum(p.a, h) + minimum(h, p.a)


def functions_of(of: Cell, dtype: str, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.setitem(CELLS, of.name, of)
    return code.cell_code(of.name, dtype)


def drawn(of: Cell, seed: int) -> list[tuple[float, ...]]:
    """Pre-activations, states, parameters and gradients, those that are positive above 0."""
    make = np.random.default_rng(seed)
    counts = (len(of.slots), len(of.states), len(of.per_unit), len(of.states))
    p, before, per_unit, d_after = (make.uniform(-1.5, 1.5, count) for count in counts)
    for at, name in enumerate(of.states):
        before[at] = abs(before[at]) + 0.2 if name in of.positive else before[at]
    return [tuple(values.tolist()) for values in (p, before, per_unit, d_after)]


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize(
    "of", [*(CELLS[name] for name in POINTWISE), everything], ids=lambda of: of.name
)
def test_every_function_is_pytorchs_in_its_own_dtype(of, dtype, monkeypatch):
    found, wanted = functions_of(of, dtype, monkeypatch), compiled(of, TORCH, {"torch": torch})
    number = getattr(np, dtype)
    for seed in range(5):
        given = [tuple(map(number, values)) for values in drawn(of, seed)]
        exact = [tuple(torch.tensor(float(v), dtype=torch.float64) for v in vs) for vs in given]
        results = []
        for functions, (p, before, per_unit, d_after) in ((found, given), (wanted, exact)):
            after, saved = functions["next_state"](p, before, per_unit)
            d = functions["gradients"](d_after, saved, before, after, per_unit)
            results.append([value for values in (after, saved, *d) for value in values])
        assert {type(value) for value in results[0]} <= {number}
        np.testing.assert_allclose(*results, rtol=BOUNDS[dtype], atol=BOUNDS[dtype])


def test_a_nan_stays_one(monkeypatch):
    next_state = functions_of(chosen, "float32", monkeypatch)["next_state"]
    for p, h in ((math.nan, 1), (1, math.nan)):
        (found,), _ = next_state((np.float32(p),), (np.float32(h),), ())
        assert np.isnan(found)
    assert np.isnan(code.relu(np.float32(math.nan)))


@pytest.mark.parametrize(
    "of", [*(CELLS[name] for name in POINTWISE), everything], ids=lambda of: of.name
)
def test_what_is_kept_is_what_the_gradients_look_at(of, monkeypatch):
    """States that the functions do not store may be anything, NaN included."""
    functions = functions_of(of, "float64", monkeypatch)
    p, before, per_unit, d_after = (tuple(map(np.float64, v)) for v in drawn(of, 7))
    after, saved = functions["next_state"](p, before, per_unit)
    H, kept = 2, code.kept_states(of.name)
    cells, cells_before = (np.full(max(1, len(kept) * H), np.nan) for _ in range(2))
    points.store_kept(of.name)(cells, 1, H, after)
    points.store_kept(of.name)(cells_before, 1, H, before)
    y, y_before = (np.array([np.nan, states[0]]) for states in (after, before))
    loaded = points.load_after(of.name, "float64")(y, 1, cells, 1, H)
    loaded_before = points.load_before(of.name, "float64")(y_before, 1, cells_before, 1, H)
    found = functions["gradients"](d_after, saved, loaded_before, loaded, per_unit)
    assert found == functions["gradients"](d_after, saved, before, after, per_unit)


def test_blocks_of_w_hh_find_their_slots(monkeypatch):
    @cell(gates="a b c d", states="h", apart="b c", from_x="d")
    def mixed(p, h):
        return p.a + p.b_x * p.b_h + p.c_x * p.c_h + p.d

    monkeypatch.setitem(CELLS, "mixed", mixed)
    for name in [*POINTWISE, "mixed"]:
        slots = CELLS[name].slots
        for gate in range(CELLS[name].h_blocks):
            assert slots[points.slot_of_gate(name)(gate)].h == gate


@pytest.mark.parametrize("name", POINTWISE)
def test_a_slot_is_the_sum_of_its_parts(name):
    definition = CELLS[name]
    x = tuple(2.0**n for n in range(definition.x_blocks))
    h = tuple(100 * 2.0**n for n in range(definition.h_blocks))
    b = tuple(value * 1e4 for value in h)
    wanted = [
        (0 if s.x is None else x[s.x]) + (0 if s.h is None else h[s.h] + b[s.h])
        for s in definition.slots
    ]
    p = points.preactivations(name)(x, b)
    assert list(points.with_products(name)(p, h)) == wanted
