"""The textbook PyTorch loop: two products a step, then pointwise operations.

Idea: all gates of a step in one product with W_ih and one with W_hh. Source: the equations of
torch.nn.LSTMCell and its siblings. Limits: every operation is a separate call, so that at small
sizes the host is the bottleneck.
"""

from torch import Tensor

from lstm_kernels.common.gates import State, input_product, next_state, step_code
from lstm_kernels.common.refusals import device_limit
from lstm_kernels.common.unroll import run_directions, unroll
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Weights


def one_direction(
    x: Tensor, h: Tensor, c: Tensor | None, weights: Weights, *, cell: str, alive: Tensor | None
) -> Outputs:
    """A layer run forward in time (see `lstm_kernels.common.unroll.OneDirection`)."""
    code = step_code(cell)

    def step(x_t: Tensor, h: Tensor, c: Tensor | None, running: Tensor | None) -> State:
        from_x = input_product(code, x_t, weights)
        return next_state(code, from_x, h, c, weights, running)

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
