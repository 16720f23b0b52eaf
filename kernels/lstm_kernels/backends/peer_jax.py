"""A scan in JAX, compiled by XLA for a CPU, with JAX's own gradients: a peer.

Idea: `jax.lax.scan` over a step that is written from the cell's definition, the input product of
all steps made before it; the backward is that of `jax.vjp`. XLA uses PyTorch's memory
directly, also for weights, if it starts at a multiple of 64 bytes, so that nothing is converted or
kept. More in docs/peers.md. Source: jax.lax.scan. Limits: CPUs; a compile for every new shape, of
some tenths of a second; as many threads as when the first layer ran; bfloat16 and float16 are
multiplied directly and added in float32; second derivatives are not JAX's.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import torch
from jax._src import xla_bridge
from torch import Tensor

from lstm_kernels.cells import CELLS, Cell
from lstm_kernels.cells.code.emit import TORCH, compiled
from lstm_kernels.common.refusals import device_limit, forked_limit
from lstm_kernels.common.second_derivatives import layer_gradients
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Unsupported, Weights, unflatten

WHAT = "the jax backend"
# Its memory is not from PyTorch's allocator, which reports how much a pass takes.
HOLDS_MEMORY = True
_beginning = threading.RLock()
# XLA reads this when it makes its threads, to know how many.
_THREADS = "NPROC"

# A cell's code is PyTorch's, and finds JAX's functions under PyTorch's names.
_AS_TORCH = SimpleNamespace(
    exp=jnp.exp,
    full_like=jnp.full_like,
    log=jnp.log,
    maximum=jnp.maximum,
    minimum=jnp.minimum,
    relu=jax.nn.relu,
    sigmoid=jax.nn.sigmoid,
    tanh=jnp.tanh,
    where=jnp.where,
)


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
    reason = _threads_limit()
    if reason is not None:
        raise Unsupported(reason)
    tensors = (x, h0, c0, *(tensor for one in weights for tensor in one))
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        # torch does not annotate `apply`.
        y, h_n, *c_n = JaxLayer.apply(problem, lengths, *tensors)  # type: ignore[no-untyped-call]
    else:
        with _as_wide_as(x):
            made = _run(CELLS[problem.cell], _arrays(tensors), _steps(lengths))
            y, h_n, *c_n = _tensors(made)
    return y, h_n, c_n[0] if c_n else None


def unsupported(problem: Problem, device: str) -> str | None:
    """The reason not to run this, or None."""
    reason = device_limit(problem, device)
    if reason is not None:
        return reason
    if torch.device(device).type != "cpu":
        return f"{WHAT} needs a CPU, and this is {device!r}"
    return _threads_limit()


def kernels_used(problem: Problem) -> list[str]:
    """The library that computes, and its number of threads."""
    return [f"jax {jax.__version__}, {_began().threads} threads"]


class JaxLayer(torch.autograd.Function):
    """A layer whose backward is JAX's."""

    @staticmethod
    def forward(
        ctx: Any, problem: Problem, lengths: Tensor | None, *inputs: Tensor | None
    ) -> tuple[Tensor, ...]:
        """y, h_n and, if the cell has one, c_n."""
        needed = tuple(ctx.needs_input_grad[2:])
        with _as_wide_as(inputs[0]):
            made, ctx.pull_back = _run_saving(
                CELLS[problem.cell], needed, _arrays(inputs), _steps(lengths)
            )
            outputs = _tensors(made)
        ctx.problem, ctx.lengths = problem, lengths
        # JAX may keep the memory of these: PyTorch then checks that it is unchanged.
        ctx.save_for_backward(*inputs, *outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor) -> Any:
        """The gradients of what `forward` takes, in its order; None for what needs none."""
        needed = ctx.needs_input_grad[2:]
        inputs = ctx.saved_tensors[: len(needed)]
        if torch.is_grad_enabled():
            found = layer_gradients(ctx.problem, inputs, ctx.lengths, d_outputs, needed)
            return None, None, *found
        with _as_wide_as(inputs[0]):
            (wanted,) = _pull_back(ctx.pull_back, _arrays(d_outputs))
            made = iter(_tensors(wanted))
        if not torch._C._autograd._get_current_graph_task_keep_graph():
            ctx.pull_back = None
        return None, None, *(next(made) if need else None for need in needed)


def _layer(cell: Cell, inputs: Sequence[Any], steps: Any) -> tuple[Any, ...]:
    """A layer on JAX's arrays.

    Args:
        inputs: x [T, B, I], h0 [D, B, S], c0 [D, B, K*H] or None, then the
            weights' tensors.
        steps: [B], or None if every sequence has T.
    """
    x, h0, c0, *flat = inputs
    alive = None
    if steps is not None:
        alive = (jnp.arange(x.shape[0])[:, None] < steps)[:, :, None]
        # Values past a sequence's end may be anything, including NaN.
        x = jnp.where(alive, x, 0)
    made = [
        _direction(cell, x, h0[at], None if c0 is None else c0[at], one, alive, is_reverse=at > 0)
        for at, one in enumerate(unflatten(flat))
    ]
    ys, *states = zip(*made, strict=True)
    return jnp.concatenate(ys, -1), *(jnp.stack(state) for state in states)


def _direction(
    cell: Cell, x: Any, h: Any, c: Any, weights: Weights, alive: Any, *, is_reverse: bool
) -> tuple[Any, ...]:
    """One direction: y [T, B, S], h_n [B, S] and, if there is c, c_n.

    In reverse a sequence keeps its initial state until the scan reaches its end.
    """
    next_state = _code(cell)["next_state"]
    units: Sequence[Any] = ()
    if weights.per_unit is not None:
        units = jnp.split(_wide(weights.per_unit), len(cell.per_unit))
    from_x = _product(x, weights.w_ih.T)
    if weights.b_ih is not None:
        from_x = from_x + weights.b_ih
    w_hh = weights.w_hh.T if cell.h_blocks else None
    b_hh = None if weights.b_hh is None or not cell.h_blocks else _wide(weights.b_hh)

    w_hr = None if weights.w_hr is None else weights.w_hr.T

    def step(states: tuple[Any, ...], given: Any) -> tuple[tuple[Any, ...], Any]:
        of_x, running = given
        x_blocks, h_blocks = jnp.split(of_x, cell.x_blocks, -1), []
        if w_hh is not None:
            of_h = _product(states[0].astype(x.dtype), w_hh)
            h_blocks = jnp.split(of_h if b_hh is None else of_h + b_hh, cell.h_blocks, -1)
        p = [
            sum(block[at] for block, at in ((x_blocks, s.x), (h_blocks, s.h)) if at is not None)
            for s in cell.slots
        ]
        after, _ = next_state(p, states, units)
        if w_hr is not None:
            after = _product(after[0].astype(x.dtype), w_hr), *after[1:]
        if running is None:
            return after, after[0].astype(x.dtype)
        kept = tuple(jnp.where(running, a, b) for a, b in zip(after, states, strict=True))
        return kept, jnp.where(running, after[0], 0).astype(x.dtype)

    first = (_wide(h), *(() if c is None else jnp.split(_wide(c), cell.own_states, -1)))
    (last_h, *last), y = jax.lax.scan(step, first, (from_x, alive), reverse=is_reverse)
    last_h = last_h.astype(x.dtype)
    return (y, last_h) if c is None else (y, last_h, jnp.concatenate(last, -1).astype(x.dtype))


def _wide(array: Any) -> Any:
    """In float32 if it is narrower."""
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def _product(left: Any, right: Any) -> Any:
    """A product with sums in float32 if its numbers are narrower."""
    return jnp.matmul(left, right, preferred_element_type=_wide(right).dtype)


@cache
def _code(cell: Cell) -> dict[str, Any]:
    return compiled(cell, TORCH, {"torch": _AS_TORCH})


_run = jax.jit(_layer, static_argnums=0)


def _saving(cell: Cell, needed: tuple[bool, ...], inputs: Sequence[Any], steps: Any) -> Any:
    """The outputs, and a function from their gradients to those of the inputs that need one."""

    def of(wanted: list[Any]) -> tuple[Any, ...]:
        found = iter(wanted)
        pairs = zip(inputs, needed, strict=True)
        return _layer(cell, [next(found) if need else given for given, need in pairs], steps)

    return jax.vjp(of, [given for given, need in zip(inputs, needed, strict=True) if need])


_run_saving = jax.jit(_saving, static_argnums=(0, 1))
_pull_back = jax.jit(lambda pull_back, d_outputs: pull_back(d_outputs))


def _arrays(tensors: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """NumPy's arrays of the same memory: XLA uses those without a copy if it can."""
    return tuple(None if tensor is None else _array(tensor) for tensor in tensors)


def _array(tensor: Tensor) -> Any:
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _tensors(arrays: Sequence[Any]) -> tuple[Tensor, ...]:
    """Tensors of the memory that XLA writes, after it has finished."""
    for array in arrays:
        array.block_until_ready()
    return tuple(torch.utils.dlpack.from_dlpack(array) for array in arrays)


def _steps(lengths: Tensor | None) -> Any:
    return None if lengths is None else lengths.to(torch.int32).numpy()


@contextmanager
def _as_wide_as(x: Tensor | None) -> Iterator[None]:
    """By default JAX treats float64 as float32, and prefers a GPU to a CPU."""
    is_double = x is not None and x.dtype == torch.float64
    with jax.enable_x64(is_double), jax.default_device(_began().cpu):
        yield


class _Began(NamedTuple):
    """The state that XLA started with: the process, its number of threads, and the CPU in JAX."""

    process: int
    threads: int
    cpu: Any


def _began() -> _Began:
    """XLA's start, once in a process, by the first thread that asks."""
    with _beginning:
        return _begin()


@cache
def _begin() -> _Began:
    """Start XLA now, with as many threads as torch has.

    If it was started before, it has the number that was set, or one for each core.
    """
    if xla_bridge.backends_are_initialized():
        return _Began(os.getpid(), _threads_made(), jax.devices("cpu")[0])
    threads = torch.get_num_threads()
    with _environment(_THREADS, str(threads)):
        return _Began(os.getpid(), threads, jax.devices("cpu")[0])


def _threads_made() -> int:
    """How many threads XLA made when somebody else started it.

    It reads the variable as we do: what is not a number counts as not set.
    """
    try:
        return int(os.environ[_THREADS])
    except (KeyError, ValueError):
        return len(os.sched_getaffinity(0))


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _threads_limit() -> str | None:
    """Why XLA has no threads here, or more than torch has; None if neither."""
    has, may = _began().threads, torch.get_num_threads()
    left_behind = forked_limit("XLA", _began().process)
    if left_behind is not None or has <= may:
        return left_behind
    return (
        f"XLA made {has} threads when it began, and torch has {may} now; set torch's before JAX "
        f"first computes, or start this process with {_THREADS}={may}"
    )
