"""A gradient followed back through time: the norm of dL_T/dh_t, for every step t.

The layer is run a step at a time, each call given the state that the one before returned. So the
state between any two steps is a tensor that PyTorch can differentiate with respect to, whatever the
backend does inside a call; the gradients are those of one call over the whole sequence.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lstm_harness.worker.executor import set_precision
from lstm_harness.worker.inputs import Inputs, make_inputs
from lstm_harness.worker.passes import State, fresh_leaves, refuse_malformed
from lstm_kernels.problem import Problem
from lstm_kernels.stack import run


def norms_back(implementation: Any, problem: Problem, seed: int, device: str) -> list[float]:
    """The norm of dL_T/dh_t at t = T, T - 1, ... 0, where h_0 is the initial state.

    L_T is the sum of v * h_T, where v [B, S] is standard normal: a loss on only the last step,
    whose gradient there is v. The derivative by h_t holds the other states of the cell fixed, such
    as an LSTM's c_t, and counts every path from h_t to h_T, also those through later c. The norm is
    over all of [B, S] at once. Weights are uniform in ±1/sqrt(H), as torch.nn's are, x is standard
    normal, the initial states are at half that size; all follow from the seed.

    Args:
        implementation: what `registry.load` returns.
        problem: one layer in one direction over full sequences.
    Returns:
        T + 1 norms, NaN or infinity among them where a gradient is not finite.
    Raises:
        Malformed: the backend's outputs are not what the contract requires; also what it
            raises itself.
    """
    set_precision(problem)
    step = replace(problem, seq_len=1)
    inputs = make_inputs(problem, seed, 0, device)
    if hasattr(implementation, "flatten"):
        implementation.flatten(inputs.weights, step)
    states = _states(implementation, step, fresh_leaves(inputs, requires_grad=True))
    found = torch.autograd.grad(states[-1], states, inputs.d_h_n, allow_unused=True)
    # A state that h_T does not depend on has a gradient of 0.
    return [0.0 if d_h is None else _norm(d_h) for d_h in reversed(found)]


def _states(implementation: Any, step: Problem, inputs: Inputs) -> list[Tensor]:
    """h_0, h_1, ... h_T, [1, B, S] each, all on one graph."""
    states, c = [inputs.h0], inputs.c0
    for x_t in inputs.x.split(1):
        now = replace(inputs, x=x_t, h0=states[-1], c0=c, d_y=inputs.d_y[:1])
        returned = run(implementation, x_t, now.h0, c, now.weights, problem=step)
        outputs = tuple(out for out in returned if out is not None)
        refuse_malformed(State(now, outputs, has_graph=True))
        _, h, c = returned
        states.append(h)
    return states


def _norm(tensor: Tensor) -> float:
    """The 2-norm in float64; squares of small gradients after many steps could be 0 there too."""
    wide = tensor.double()
    largest = wide.abs().max()
    return float(largest * (wide / largest).norm()) if largest != 0 else 0.0
