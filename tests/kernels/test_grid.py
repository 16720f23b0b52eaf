"""Every CPU backend against torch.nn, over the whole grid of options: nothing may differ."""

from itertools import product
from typing import Any

import pytest
import torch

import lstm_kernels as lk

# H and P; I is twice the state, so that the layers of a bidirectional stack repeat step shapes,
# which is what a compiled backend pays for.
SIZES = [(1, 0), (5, 0), (30, 0), (5, 2), (30, 4)]
NETWORKS = [(cell, h, p) for cell in lk.CELLS for h, p in SIZES if cell == "lstm" or not p]
RAGGED = {1: [4], 3: [3, 7, 2]}


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "bidirectional"])
@pytest.mark.parametrize("layers", [1, 3], ids="L{}".format)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("batch", [1, 3], ids="B{}".format)
@pytest.mark.parametrize(
    ("cell", "hidden", "projected"), NETWORKS, ids=[f"{c}-H{h}-P{p}" for c, h, p in NETWORKS]
)
def test_equals_torch(
    backend: str,
    cell: str,
    hidden: int,
    projected: int,
    batch: int,
    bias: bool,
    layers: int,
    bidirectional: bool,
    make_pair: Any,
    run_module: Any,
    assert_same: Any,
    skip_where_refused: Any,
) -> None:
    state = projected or hidden
    settings = {"num_layers": layers, "bias": bias, "bidirectional": bidirectional}
    problem = lk.Problem(cell, 7, batch, 2 * state, hidden, proj_size=projected, **settings)
    skip_where_refused(backend, problem)
    if projected:
        settings["proj_size"] = projected
    theirs, ours = make_pair(cell, backend, 2 * state, hidden, **settings)
    rows = layers * (1 + bidirectional)
    states = [torch.randn(rows, batch, state)]
    if cell == "lstm":
        states.append(torch.randn(rows, batch, hidden))
    for steps, batch_first, ragged in product((1, 7), (False, True), (False, True)):
        theirs.batch_first = ours.batch_first = batch_first
        shape = (batch, steps) if batch_first else (steps, batch)
        x = torch.randn(*shape, 2 * state)
        lengths = torch.tensor(RAGGED[batch]).clamp(max=steps) if ragged else None
        expected = run_module(theirs, x, states, lengths)
        assert_same(run_module(ours, x, states, lengths), expected)
