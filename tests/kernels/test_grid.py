"""Every CPU backend against torch.nn, over the whole grid of options: nothing may differ.

What every change runs is a sample in which every two values of two options meet; the whole grid is
run by `make test-all`. Interpreted backends take seconds for what others do in milliseconds: they
run a sample of networks and calls. The compiled one compiles for every network: every change runs
one, `make test-all` one of each cell and the sample. Whoever runs a network calls it in every way.
"""

from itertools import combinations, product
from typing import Any

import pytest
import torch
from covering import Case, covering_sample, grid

import lstm_kernels as lk
from lstm_kernels.registry import TORCH_CELLS

# H and P; I is twice the state, so that the layers of a bidirectional stack repeat step shapes,
# which is what a compiled backend pays for.
SIZES = [(1, 0), (5, 0), (30, 0), (5, 2), (30, 4)]
NETWORKS = [(cell, h, p) for cell in TORCH_CELLS for h, p in SIZES if cell == "lstm" or not p]
OPTIONS: dict[str, tuple[Any, ...]] = {
    "network": tuple(NETWORKS),
    "batch": (1, 3),
    "bias": (True, False),
    "layers": (1, 3),
    "bidirectional": (False, True),
}
CALLS: dict[str, tuple[Any, ...]] = {
    "steps": (1, 7),
    "batch_first": (False, True),
    "ragged": (False, True),
}
RAGGED = {1: [4], 3: [3, 7, 2]}
SAMPLE = covering_sample(OPTIONS)
REST = [case for case in grid(OPTIONS) if case not in SAMPLE]
# Interpreted, a step is as dear as a call.
INTERPRETED = covering_sample(OPTIONS | CALLS | {"steps": (1, 4)})
# A network of each cell, and a projected one, of which everything is several; every change runs a
# smaller one.
COMPILED = [
    (("lstm", 5, 0), 3, True, 1, False),
    *(
        pytest.param((network, 3, True, 3, True), marks=pytest.mark.slow)
        for network in NETWORKS
        if network[1] == 5
    ),
]


def name_of(case: Case) -> str:
    """The id of a case: lstm-H5-P2-B3-bias-L1-one-way, and how it is called."""
    (cell, hidden, projected), batch, bias, layers, bidirectional, *call = case
    parts = [cell, f"H{hidden}", f"P{projected}", f"B{batch}", "bias" if bias else "no-bias"]
    parts += [f"L{layers}", "bidirectional" if bidirectional else "one-way"]
    if call:
        steps, batch_first, ragged = call
        parts += [f"T{steps}", "batch-first" * batch_first, "ragged" * ragged]
    return "-".join(filter(None, parts))


@pytest.fixture
def check(make_pair: Any, run_module: Any, assert_same: Any, skip_where_refused: Any) -> Any:
    """Compare a backend with torch.nn on one network, called in several ways."""

    def run(backend: str, case: Case, calls: list[Case]) -> None:
        (cell, hidden, projected), batch, bias, layers, bidirectional = case
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
        for steps, batch_first, ragged in calls:
            theirs.batch_first = ours.batch_first = batch_first
            shape = (batch, steps) if batch_first else (steps, batch)
            x = torch.randn(*shape, 2 * state)
            lengths = torch.tensor(RAGGED[batch]).clamp(max=steps) if ragged else None
            expected = run_module(theirs, x, states, lengths)
            assert_same(run_module(ours, x, states, lengths), expected)

    return run


@pytest.mark.parametrize("case", SAMPLE, ids=name_of)
def test_equals_torch(eager_backend: str, case: Case, check: Any) -> None:
    check(eager_backend, case, grid(CALLS))


@pytest.mark.slow
@pytest.mark.parametrize("case", REST, ids=name_of)
def test_the_rest_of_the_grid_equals_torch(eager_backend: str, case: Case, check: Any) -> None:
    check(eager_backend, case, grid(CALLS))


@pytest.mark.parametrize("case", COMPILED, ids=name_of)
def test_compiled_equals_torch(compiled_backend: str, case: Case, check: Any) -> None:
    check(compiled_backend, case, grid(CALLS))


@pytest.mark.slow
@pytest.mark.parametrize("case", SAMPLE, ids=name_of)
def test_a_sample_compiled_equals_torch(compiling_backend: str, case: Case, check: Any) -> None:
    check(compiling_backend, case, grid(CALLS))


@pytest.mark.parametrize("case", INTERPRETED, ids=name_of)
def test_a_sample_equals_torch(interpreted_backend: str, case: Case, check: Any) -> None:
    check(interpreted_backend, case[:5], [case[5:]])


@pytest.mark.parametrize("options", [OPTIONS, OPTIONS | CALLS], ids=["networks", "calls too"])
def test_a_sample_has_every_pair_of_values(options: dict[str, tuple[Any, ...]]) -> None:
    sample = covering_sample(options)
    for one, other in combinations(range(len(options)), 2):
        met = {(case[one], case[other]) for case in sample}
        assert met == set(product(*(list(options.values())[i] for i in (one, other))))
    assert len(sample) < 40
