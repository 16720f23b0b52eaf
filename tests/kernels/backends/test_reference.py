"""The oracle computes in float64, whatever comes in."""

from typing import Any

import torch

from lstm_kernels import registry
from lstm_kernels.stack import Weights, run


def test_float64_inside_float32_at_the_edges(cell: str, make_layer: Any) -> None:
    problem, arguments = make_layer(cell, seq_len=50, dtype="float32")
    doubled = {
        name: None if arguments[name] is None else arguments[name].double()
        for name in ("x", "h0", "c0")
    }
    weights = tuple(
        Weights._make(None if w is None else w.double() for w in ws) for ws in arguments["weights"]
    )
    reference = registry.load("reference")
    exact = run(reference, **doubled, weights=weights, problem=problem)
    outputs = run(reference, **arguments, problem=problem)
    for got, expected in zip(outputs, exact, strict=True):
        assert got is expected is None or (
            got.dtype is torch.float32 and torch.equal(got, expected.float())
        )
