"""A layer of any cell on a backend, held against the oracle: every output and every gradient."""

from typing import Any

import pytest
import torch

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.stack import run

BOUNDS = {"float64": 1e-12, "float32": 1e-5}


def results(backend: str, problem: lk.Problem, arguments: dict[str, Any]) -> dict[str, Any]:
    """Every output and every gradient, by name."""
    lengths = None
    if problem.lengths != "full":
        lengths = torch.tensor(problem.sequence_lengths())
    implementation = registry.load(backend)
    outputs = run(implementation, **arguments, problem=problem, lengths=lengths)
    made = dict(zip(("y", "h_n", "c_n"), outputs, strict=True))
    made = {name: tensor for name, tensor in made.items() if tensor is not None}
    leaves = {name: arguments[name] for name in ("x", "h0", "c0")}
    for at, weights in enumerate(arguments["weights"]):
        leaves |= {f"{name}.{at}": tensor for name, tensor in weights._asdict().items()}
    leaves = {name: leaf for name, leaf in leaves.items() if leaf is not None and leaf.numel()}
    starts = [torch.linspace(-1, 1.5, t.numel()).to(t).view_as(t) for t in made.values()]
    # A random cell may have no use for some.
    found = torch.autograd.grad(
        list(made.values()), list(leaves.values()), starts, materialize_grads=True
    )
    return made | {f"d_{name}": d for name, d in zip(leaves, found, strict=True)}


def check(backend: str, of: str, fields: dict[str, Any], make_layer: Any, assert_same: Any) -> None:
    """A layer of that cell equals float64's; skipped, with the reason, where it is refused."""
    problem, arguments = make_layer(of, **fields)
    reason = registry.unsupported(backend, problem, "cpu")
    if reason:
        pytest.skip(reason)
    oracle, wide = widened(problem, arguments)
    expected = results("reference", oracle, wide)
    got = results(backend, problem, arguments)
    assert got.keys() == expected.keys()
    assert_same(
        {name: tensor.double() for name, tensor in got.items()}, expected, BOUNDS[problem.dtype]
    )


def widened(problem: lk.Problem, arguments: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The same problem and numbers in float64."""

    def wide(tensor: Any) -> Any:
        return None if tensor is None else tensor.detach().double().requires_grad_()

    weights = tuple(lk.Weights._make(map(wide, one)) for one in arguments["weights"])
    others = {name: wide(arguments[name]) for name in ("x", "h0", "c0")}
    fields = problem.to_dict() | {"dtype": "float64"}
    return lk.Problem.from_dict(fields), others | {"weights": weights}
