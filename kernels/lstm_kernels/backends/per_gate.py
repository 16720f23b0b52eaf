"""One product for every gate: 2*G small products a step, the bottom rung of the ladder.

Idea: what a reader of the equations writes first. Source: the first row of NVIDIA's "Optimizing
Recurrent Neural Networks in cuDNN 5". Limits: speed.
"""

from torch import Tensor
from torch.nn.functional import linear

from lstm_kernels.common.gates import (
    State,
    activate,
    add_gates,
    bias_of_product,
    product,
    step_code,
)
from lstm_kernels.common.refusals import device_limit
from lstm_kernels.common.unroll import run_directions, unroll
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Weights


def one_direction(
    x: Tensor, h: Tensor, c: Tensor | None, weights: Weights, *, cell: str, alive: Tensor | None
) -> Outputs:
    """A layer run forward in time (see `lstm_kernels.common.unroll.OneDirection`)."""
    code = step_code(cell)
    ih = _by_gate(weights.w_ih, bias_of_product(code, weights.b_ih, code.x_blocks), code.x_blocks)
    hh = _by_gate(weights.w_hh, bias_of_product(code, weights.b_hh, code.h_blocks), code.h_blocks)
    hh = hh[: code.h_blocks - len(code.again)]

    def step(x_t: Tensor, h: Tensor, c: Tensor | None, running: Tensor | None) -> State:
        from_x = [linear(x_t, w, b) for w, b in ih]
        from_h = [product(h, w, b) for w, b in hh]
        return activate(code, add_gates(code, from_x, from_h), h, c, weights, running)

    return unroll(step, x, h, c, alive)


def layer(
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    *,
    problem: Problem,
    lengths: Tensor | None = None,
) -> Outputs:
    """One layer, one or both directions, as `lstm_kernels.stack` says."""
    return run_directions(one_direction, x, h0, c0, weights, problem=problem, lengths=lengths)


def unsupported(problem: Problem, device: str) -> str | None:
    """The reason not to run this, or None."""
    return device_limit(problem, device)


def _by_gate(w: Tensor, b: Tensor | None, gates: int) -> list[tuple[Tensor, Tensor | None]]:
    if not gates:
        return []
    biases = [None] * gates if b is None else b.chunk(gates)
    # Rows are the second to last dimension: each of several heads has its own.
    return list(zip(w.chunk(gates, -2), biases, strict=True))
