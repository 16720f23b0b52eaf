"""The textbook step under torch.compile, called once for every step.

Idea: the compiler fuses a step's pointwise operations and writes its backward. The step is
compiled, not the unrolled sequence, whose compile time grows with T. Source: torch.compile.
Limits: a compile for every new step shape (B, I, H, dtype, gradients), of some seconds; on a CPU
it needs a C++ compiler; second derivatives are not compiled, nor is what a counter or another mode
of PyTorch's dispatcher looks at.
"""

import functools
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lstm_kernels.common.gates import State, StepCode, input_product, next_state, step_code
from lstm_kernels.common.operators import are_watched
from lstm_kernels.common.refusals import device_limit
from lstm_kernels.common.second_derivatives import Recorded
from lstm_kernels.common.unroll import run_directions, unroll
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Weights, unflatten

# Step shapes one process may compile; past it, dynamo raises (fullgraph), it does not run eager.
MAX_SHAPES = 4096


def one_direction(
    x: Tensor, h: Tensor, c: Tensor | None, weights: Weights, *, cell: str, alive: Tensor | None
) -> Outputs:
    """A layer run forward in time (see `lstm_kernels.common.unroll.OneDirection`)."""
    # torch.compile runs nothing where a mode looks at every operation.
    compiled = _step if are_watched() else _compiled_step()
    # With B = 1 its stride may be anything, and every stride would be compiled for.
    x = x.flatten(0, 1).unflatten(0, x.shape[:2])
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, c, *weights)):
        # The state needs a gradient from step 1 on: asked for at step 0 too, one compile serves.
        h, c = _with_gradient(h), None if c is None else _with_gradient(c)

    code = step_code(cell)

    def step(x_t: Tensor, h: Tensor, c: Tensor | None, running: Tensor | None) -> State:
        # A mask would be another step shape to compile; few cells look at it.
        return compiled(code, x_t, h, c, running if code.mixes_batch else None, *weights)

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

    def run(x: Tensor, h0: Tensor, c0: Tensor | None, *flat: Tensor | None) -> Outputs:
        given = x, h0, c0, unflatten(flat)
        return run_directions(one_direction, *given, problem=problem, lengths=lengths)

    flat = [tensor for direction in weights for tensor in direction]
    tensors = (x, h0, c0, *flat)
    with _limits():
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
            # torch does not annotate `apply`.
            y, h_n, *c_n = _Recorded.apply(run, problem, lengths, *tensors)  # type: ignore[no-untyped-call] # torch's
            return y, h_n, c_n[0] if c_n else None
        return run(x, h0, c0, *flat)


def unsupported(problem: Problem, device: str) -> str | None:
    """The reason not to run this, or None."""
    return device_limit(problem, device) or (
        _compiler_limit() if torch.device(device).type == "cpu" else None
    )


def _step(
    code: StepCode,
    x: Tensor,
    h: Tensor,
    c: Tensor | None,
    running: Tensor | None,
    *tensors: Tensor | None,
) -> State:
    (weights,) = unflatten(tensors)
    return next_state(code, input_product(code, x, weights), h, c, weights, running)


@functools.cache
def _compiled_step() -> Callable[..., State]:
    return torch.compile(_step, dynamic=False, fullgraph=True)


class _Recorded(Recorded):
    """Under the same limits there and back."""

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor) -> Any:
        """The gradients of what `forward` takes, in its order; None for what has none."""
        with _limits():
            return Recorded.backward(ctx, *d_outputs)


@contextmanager
def _limits() -> Iterator[None]:
    """Dynamo compiles every new shape, and a backward may be gone through again."""
    import torch._dynamo
    import torch._functorch.config

    limits = torch._dynamo.config.patch(
        recompile_limit=MAX_SHAPES, accumulated_recompile_limit=MAX_SHAPES
    )
    # A backward that writes over what was saved for it refuses `retain_graph=True`; so does one
    # that was first run without, where it is not told again that it writes over nothing.
    with limits, torch._functorch.config.patch(donated_buffer=False):
        yield


def _with_gradient(state: Tensor) -> Tensor:
    return state if state.requires_grad else state.detach().requires_grad_()


def _compiler_limit() -> str | None:
    """The compilers torch.compile looks for on a CPU: $CXX where it is set, else the usual."""
    usual = "clang++" if sys.platform == "darwin" else "g++"
    compiler = os.environ.get("CXX", usual)
    if shutil.which(compiler):
        return None
    where = "$CXX names" if "CXX" in os.environ else "it looks for"
    return f"torch.compile needs a C++ compiler on a CPU; {where} {compiler!r}, which is not there"
