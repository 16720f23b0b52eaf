"""What is skipped before any backend is asked."""

import pytest

from lstm_harness.case import Case
from lstm_harness.survey import _general_skip
from lstm_kernels import Problem, registry

FULL = Problem("lstm", 8, 2, 4, 4)
RAGGED = Problem("lstm", 8, 2, 4, 4, lengths="uniform:1:8")


@pytest.mark.parametrize(
    ("backend", "problem", "launch", "device", "reason"),
    [
        ("naive", FULL, "eager", "cpu", None),
        ("naive", FULL, "graph", "cuda", None),
        ("graphed", FULL, "eager", "cuda", None),
        ("graphed", FULL, "graph", "cuda", "cannot be captured"),
        ("naive", RAGGED, "graph", "cuda", "ragged lengths"),
        ("naive", FULL, "graph", "cpu", "need a CUDA device"),
    ],
)
def test_a_graph_is_refused_where_it_cannot_be(backend, problem, launch, device, reason):
    case = Case(problem, "forward", launch, "warm", device)
    skip = _general_skip(case, registry.get(backend))
    assert (skip is None) == (reason is None)
    assert reason is None or reason in skip.reason
