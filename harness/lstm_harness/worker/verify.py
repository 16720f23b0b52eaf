"""Correct before fast: every tensor of a backend is compared with the float64 answer."""

from collections.abc import Mapping
from math import inf, isfinite, sqrt

import torch
from torch import Tensor

from lstm_harness.model.protocol import Judged
from lstm_kernels.problem import Problem

# Largest relative L2 error a tensor may have at T up to 256 (docs/method.md, Right before fast).
# Rounding errors add up like a random walk: beyond that the bound grows with the square root of T.
TOLERANCES = {
    ("float64", "ieee"): 1e-12,
    ("float32", "ieee"): 1e-5,
    ("float32", "tf32"): 2e-3,
    ("float32", "w8"): 4e-2,
    ("float16", "ieee"): 4e-3,
    ("bfloat16", "ieee"): 3e-2,
}
BATCHED = ("y", "h_n", "c_n", "d_x", "d_h0", "d_c0")


def tolerance(problem: Problem) -> float:
    """The largest relative L2 error that is allowed for a problem."""
    bound = TOLERANCES[problem.dtype, problem.precision]
    return bound * max(1.0, sqrt(problem.seq_len / 256))


def judge(
    outputs: Mapping[str, list[Tensor]],
    expected: Mapping[str, list[Tensor]],
    bound: float,
    rows: tuple[int, ...] | None = None,
) -> Judged:
    """Compare the results of an execution with the right ones.

    Outputs are always compared, gradients if `outputs` names one, even as an empty list. With
    `rows` only those of the batch are known.
    """
    wanted = [n for n in expected if not n.startswith("d_") or any(f[:2] == "d_" for f in outputs)]
    errors: dict[str, float | None] = {}
    missing = [name for name in wanted if len(outputs.get(name, [])) != len(expected[name])]
    if missing:
        return Judged({}, f"no {missing[0]}: the backend returned none")
    for name in wanted:
        compared = rows if name in BATCHED else None
        pairs = zip(outputs[name], expected[name], strict=True)
        errors[name] = _worst([_relative(out, right, compared) for out, right in pairs])
    return Judged(errors, failure(errors, dict.fromkeys(errors, bound)), bound)


def _relative(out: Tensor, right: Tensor, rows: tuple[int, ...] | None) -> float:
    if rows is not None:
        if not torch.isfinite(out).all():
            return inf
        out = out[:, list(rows)]
    out, right = out.detach().double().cpu(), right.double().cpu()
    norm: float = torch.linalg.vector_norm(right).item()
    # Not finite if anything in `out` is not.
    difference: float = torch.linalg.vector_norm(out - right).item()
    if not isfinite(difference):
        return inf
    return difference / norm if norm else difference


def _worst(errors: list[float]) -> float | None:
    return max(errors) if all(map(isfinite, errors)) else None


def failure(errors: Mapping[str, float | None], bounds: Mapping[str, float]) -> str:
    """What is wrong, in words; empty if every error is within its tensor's bound."""
    for name, error in errors.items():
        if error is None:
            return f"{name} is not finite (NaN or infinity)"
    times = {name: (error or 0.0) / bounds[name] for name, error in errors.items()}
    wrong = [name for name, over in times.items() if over > 1.0]
    if not wrong:
        return ""
    name = max(wrong, key=times.__getitem__)
    found = f"{name} is off by {errors[name]:.2g} relative L2, bound {bounds[name]:.2g}"
    return f"{', '.join(wrong)} wrong: {found}"
