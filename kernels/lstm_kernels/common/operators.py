"""A backend's kernels as operators of PyTorch, for torch.compile, torch.export and counters.

A layer's forward and its backward are one operator each, `NAME_forward` and `NAME_backward` of a
namespace of ours: one layer, one or both directions, every sequence full. Each has a fake kernel,
which knows the shapes of what it returns for any T and B, and a FLOP formula; the forward has an
autograd formula. The dispatcher takes tens of microseconds for each call, so eager calls go around
it, through the backend's own autograd Function.

A backend with operators names their dtypes in its record (`operators=`), and its
module offers

    operator_forward(problem, x, h0, c0, weights, *, saves, recompute) -> y, h_n, c_n, gates, cells
    operator_backward(problem, inputs, weights, y, saved, d_outputs, needed, *, recompute)
        -> the gradients of x, h0, c0 and the weights' tensors one after another
    saved_shapes(problem, T, B, *, recompute) -> the shapes of gates and of cells

Gates and cells are what its forward keeps for its backward; None if there are none.
T and B may be symbols in `saved_shapes`, whose problem says everything except them.
"""

from collections.abc import Iterable, Sequence
from functools import cache, partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from lstm_kernels import registry
from lstm_kernels.arrival import when_imported
from lstm_kernels.cells import CELLS
from lstm_kernels.choose import number_format, problem_of
from lstm_kernels.common.checks import check_tensors
from lstm_kernels.common.in_float32 import in_float32
from lstm_kernels.common.operator_flops import Shape, backward_flops, forward_flops
from lstm_kernels.common.second_derivatives import layer_gradients
from lstm_kernels.problem import DTYPE_BYTES, Problem
from lstm_kernels.stack import Outputs, Unsupported, Weights
from lstm_kernels.tracing import known_while_tracing

# The number goes up with what a forward and its backward agree on, and with the shapes of what is
# saved: torch.compile keeps graphs of both on disk, by these names.
NAMESPACE = "lstm_kernels_2"
# Missing weights are left out: autograd ignores a list that contains None.
_INPUTS = "Tensor x, Tensor h0, Tensor? c0, Tensor[] weights"
_SAVED = "Tensor gates, Tensor cells"
_FORWARD = (
    f"({_INPUTS}, str cell, bool saves, bool recompute)"
    f" -> (Tensor y, Tensor h_n, Tensor c_n, {_SAVED})"
)
_BACKWARD = (
    f"({_INPUTS}, Tensor y, {_SAVED}, Tensor d_y, Tensor d_h_n, Tensor? d_c_n, "
    "str cell, bool recompute, bool[] needed) -> Tensor[]"
)


def layer(
    backend: str,
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    *,
    cell: str,
    recompute: bool = False,
) -> Outputs:
    """One layer, one or both directions, by a backend's operators; as `lstm_kernels.stack` says.

    The lengths are all T. `define` must be called before a graph is made.
    """
    dtype = number_format(x)["dtype"]
    if computed_in(backend, dtype) != dtype:
        in_wide = partial(layer, backend, cell=cell, recompute=recompute)
        return in_float32(in_wide, x, h0, c0, weights)
    if not torch.compiler.is_dynamo_compiling():
        define(backend)
    flat = [tensor for one in weights for tensor in one if tensor is not None]
    tensors = (x, h0, *flat) if c0 is None else (x, h0, c0, *flat)
    saves = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    forward = getattr(getattr(torch.ops, NAMESPACE), f"{backend}_forward")
    y, h_n, c_n, _, _ = forward(x, h0, c0, flat, cell, saves, recompute)
    return y, h_n, None if c0 is None else c_n


def reason_against(backend: str, problem: Problem, device: str) -> str | None:
    """The reason that a backend's operators do not run this, or None."""
    if problem.proj_size:
        return f"its operators have no projection, and P={problem.proj_size}"
    able = registry.get(backend).operators
    if problem.dtype not in able:
        return f"its operators compute in {' or '.join(able)}, and this is {problem.dtype}"
    return registry.unsupported(backend, problem, device)


@known_while_tracing
def computed_in(backend: str, dtype: str) -> str:
    """The dtype that a backend's operators take instead of one: float32 if that is wider."""
    is_wider = DTYPE_BYTES[dtype] < DTYPE_BYTES["float32"]
    return "float32" if is_wider and dtype not in registry.get(backend).operators else dtype


def are_watched() -> bool:
    """Whether a mode of PyTorch's dispatcher watches calls: a counter, a tracer.

    It sees only operators.
    """
    return torch._C._len_torch_dispatch_stack() > 0


@cache
def define(backend: str) -> None:
    """Make a backend's operators, which import its module when they run.

    They outlive this module if it is imported again, and graphs hold them: they are made once.
    """
    # It takes a third of a second to import, and what only runs eagerly needs none of it.
    from torch.utils.flop_counter import register_flop_formula

    library, names = getattr(torch.ops, NAMESPACE), (f"{backend}_forward", f"{backend}_backward")
    if hasattr(library, names[1]):
        return
    of, (first, second) = _Kernels(backend), (f"{NAMESPACE}::{name}" for name in names)
    forward = torch.library.custom_op(first, of.forward, mutates_args=(), schema=_FORWARD)
    forward.register_fake(of.shapes_of_forward)
    forward.register_autograd(of.differentiate, setup_context=_keep)
    backward = torch.library.custom_op(second, of.backward, mutates_args=(), schema=_BACKWARD)
    backward.register_fake(of.shapes_of_backward)
    register_flop_formula(getattr(library, names[0]))(forward_flops)
    register_flop_formula(getattr(library, names[1]))(backward_flops)


def _define_all(flop_counter: ModuleType) -> None:
    """Makes the operators known to a counter from its start, when it copies the formulas."""
    for backend in registry.registered().values():
        if backend.operators:
            define(backend.name)


class _Kernels:
    """What a backend's operators do."""

    def __init__(self, backend: str) -> None:
        self._backend = backend

    def forward(
        self,
        x: Tensor,
        h0: Tensor,
        c0: Tensor | None,
        weights: list[Tensor],
        cell: str,
        saves: bool,
        recompute: bool,
    ) -> tuple[Tensor, ...]:
        """y, h_n, c_n, gates, cells; an empty tensor for each that is missing."""
        directions = _checked(x, h0, c0, weights, cell)
        found = self._module_for(x, directions, cell).operator_forward(
            _problem(x, directions, cell),
            x.contiguous(),
            h0.contiguous(),
            None if c0 is None else c0.contiguous(),
            directions,
            saves=saves,
            recompute=recompute,
        )
        return tuple(x.new_empty(0) if tensor is None else tensor for tensor in found)

    def shapes_of_forward(
        self,
        x: Tensor,
        h0: Tensor,
        c0: Tensor | None,
        weights: list[Tensor],
        cell: str,
        saves: bool,
        recompute: bool,
    ) -> tuple[Tensor, ...]:
        """The same, only with shapes."""
        (T, B, _), (D, _, H) = x.shape, h0.shape
        directions = _checked(x, h0, c0, weights, cell)
        saved = self._saved_shapes(x, directions, cell, recompute) if saves else (None, None)
        of_c = None if c0 is None else tuple(c0.shape)
        shapes = ((T, B, D * H), (D, B, H), of_c, *saved)
        return tuple(x.new_empty((0,) if shape is None else shape) for shape in shapes)

    def backward(
        self,
        x: Tensor,
        h0: Tensor,
        c0: Tensor | None,
        weights: list[Tensor],
        y: Tensor,
        gates: Tensor,
        cells: Tensor,
        d_y: Tensor,
        d_h_n: Tensor,
        d_c_n: Tensor | None,
        cell: str,
        recompute: bool,
        needed: list[bool],
    ) -> list[Tensor]:
        """The gradients that are needed of the inputs in `_inputs`, one after another."""
        directions = _checked(x, h0, c0, weights, cell)
        shapes = self._saved_shapes(x, directions, cell, recompute)
        found = self._module_for(x, directions, cell).operator_backward(
            _problem(x, directions, cell),
            (x.contiguous(), h0.contiguous(), None if c0 is None else c0.contiguous()),
            directions,
            y.contiguous(),
            _saved((gates, cells), shapes),
            (d_y, d_h_n, d_c_n),
            tuple(needed),
            recompute=recompute,
        )
        return _apart(tensor for tensor, need in zip(found, needed, strict=True) if need)

    def shapes_of_backward(
        self, x: Tensor, h0: Tensor, c0: Tensor | None, weights: list[Tensor], *rest: Any
    ) -> list[Tensor]:
        """The same, only with shapes."""
        inputs, needed = _inputs(x, h0, c0, _by_direction(weights, len(h0), rest[-3])), rest[-1]
        return [
            x.new_empty(tensor.shape)
            for tensor, need in zip(inputs, needed, strict=True)
            if tensor is not None and need
        ]

    def differentiate(
        self, ctx: Any, d_y: Tensor | None, d_h_n: Tensor | None, d_c_n: Tensor | None, *_: Any
    ) -> Any:
        """The gradients of the forward's inputs, in its order."""
        if not ctx.saves:
            raise RuntimeError(
                f"{self._backend}: this forward saved nothing for a backward; pass saves=True"
            )
        x, h0, c0, *flat, y, gates, cells = ctx.saved_tensors
        saved = (gates, cells)
        has_c = c0 is not None
        d_outputs = tuple(
            None if of is None else of.new_zeros(of.shape) if d is None else d
            for of, d in ((y, d_y), (h0, d_h_n), (c0, d_c_n))
        )
        need_x, need_h0, need_c0, need_weights, *_ = ctx.needs_input_grad
        directions = _by_direction(flat, len(h0), ctx.cell)
        weights_needed = iter(need_weights)
        needed = [need_x, need_h0, need_c0 and has_c] + [
            tensor is not None and next(weights_needed) for one in directions for tensor in one
        ]
        if torch.is_grad_enabled():
            inputs = _inputs(x, h0, c0, directions)
            problem = _problem(x, directions, ctx.cell, of_any_size=True)
            found = layer_gradients(problem, inputs, None, d_outputs, needed)
        else:
            backward = getattr(getattr(torch.ops, NAMESPACE), f"{self._backend}_backward")
            some = iter(
                backward(x, h0, c0, flat, y, *saved, *d_outputs, ctx.cell, ctx.recompute, needed)
            )
            found = tuple(next(some) if need else None for need in needed)
        of_weights = found[3:]
        given = [tensor is not None for one in directions for tensor in one]
        d_weights = [d for d, there in zip(of_weights, given, strict=True) if there]
        return *found[:3], d_weights, None, None, None

    def _module_for(self, x: Tensor, directions: tuple[Weights, ...], cell: str) -> Any:
        """The backend's module, where it supports this."""
        module, problem = registry.load(self._backend), _problem(x, directions, cell)
        reason = reason_against(self._backend, problem, str(x.device))
        if reason is not None:
            raise Unsupported(f"backend {self._backend!r}: {reason}")
        return module

    def _saved_shapes(
        self, x: Tensor, directions: tuple[Weights, ...], cell: str, recompute: bool
    ) -> tuple[Shape | None, ...]:
        (T, B, _), problem = x.shape, _problem(x, directions, cell, of_any_size=True)
        module = registry.load(self._backend)
        return module.saved_shapes(problem, T, B, recompute=recompute)  # type: ignore[no-any-return] # a module's


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    """What a forward leaves for `differentiate`."""
    x, h0, c0, weights, ctx.cell, ctx.saves, ctx.recompute = inputs
    y, _, _, gates, cells = output
    ctx.mark_non_differentiable(gates, cells)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, h0, c0, *weights, y, gates, cells)


def _problem(
    x: Tensor, directions: tuple[Weights, ...], cell: str, *, of_any_size: bool = False
) -> Problem:
    """A layer's problem; with T and B of 1 where they are symbols and nobody asks."""
    T, B = (1, 1) if of_any_size else x.shape[:2]
    # Symbols too if weights are not parameters; a graph is then made for these sizes.
    rows, inputs, met = map(int, (*directions[0].w_ih.shape, directions[0].w_hh.shape[1]))
    H = rows // CELLS[cell].x_blocks
    return problem_of(
        cell=cell,
        seq_len=T,
        batch=B,
        input_size=inputs,
        hidden_size=H,
        heads=H // met,
        bidirectional=len(directions) == 2,
        bias=directions[0].b_ih is not None,
        **number_format(x),
    )


def _by_direction(weights: Sequence[Tensor], directions: int, cell: str) -> tuple[Weights, ...]:
    """The weights of each direction: w_ih, w_hh, then biases and per-unit parameters, if any."""
    size = len(weights) // directions
    with_units = bool(CELLS[cell].per_unit)
    found = []
    for i in range(0, len(weights), size):
        w_ih, w_hh, *others = weights[i : i + size]
        per_unit = others.pop() if with_units else None
        b_ih, b_hh = others or (None, None)
        found.append(Weights(w_ih, w_hh, b_ih, b_hh, per_unit=per_unit))
    return tuple(found)


def _inputs(
    x: Tensor, h0: Tensor, c0: Tensor | None, directions: tuple[Weights, ...]
) -> list[Tensor | None]:
    """The tensors with gradients: x, h0, c0, and the weights' tensors one after another."""
    return [x, h0, c0, *(tensor for one in directions for tensor in one)]


def _checked(
    x: Tensor, h0: Tensor, c0: Tensor | None, weights: list[Tensor], cell: str
) -> tuple[Weights, ...]:
    """The weights of each direction, after all checks: kernels see only addresses."""
    (D, B, H), definition = h0.shape, CELLS[cell]
    few, units = 2 + bool(definition.per_unit), len(definition.per_unit)
    if len(weights) not in (few * D, (few + 2) * D):
        raise ValueError(
            f"{len(weights)} weights for {D} directions; expected {few} or {few + 2} for each"
        )
    directions = _by_direction(weights, D, cell)
    (T, _, inputs), rows, rows_h = x.shape, definition.x_blocks * H, definition.h_blocks * H
    # With several heads a row of w_hh has the columns of one.
    given = directions[0].w_hh.shape[-1]
    met = given if given and H % given == 0 else H
    expected: dict[str, tuple[Tensor | None, Shape]] = {
        "x": (x, (T, B, inputs)),
        "h0": (h0, (D, B, H)),
        "c0": (c0, (D, B, definition.own_states * H)),
    }
    for d, one in enumerate(directions):
        shapes = ((rows, inputs), (rows_h, met), (rows,), (rows_h,), (), (units * H,))
        for name, tensor, shape in zip(Weights._fields, one, shapes, strict=True):
            expected[f"{name} of direction {d}"] = tensor, shape
    check_tensors(expected, x)
    if (c0 is not None) != definition.has_cell_state:
        raise ValueError(
            f"cell {cell!r} has the states {', '.join(definition.states)}; "
            "c0 is for the states other than h"
        )
    return directions


def _saved(
    saved: tuple[Tensor, Tensor], shapes: tuple[Shape | None, ...]
) -> tuple[Tensor | None, ...]:
    """What a forward kept, None if there is none, after a check of its shapes."""
    for tensor, shape in zip(saved, shapes, strict=True):
        expected = (0,) if shape is None else tuple(shape)
        if tuple(tensor.shape) != expected:
            raise ValueError(f"saved has shape {tuple(tensor.shape)}; expected {expected}")
    return tuple(
        None if shape is None else tensor.contiguous()
        for tensor, shape in zip(saved, shapes, strict=True)
    )


def _apart(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The same, with copies of what shares memory: an operator's results may not share."""
    apart: list[Tensor] = []
    seen: set[int] = set()
    for tensor in tensors:
        memory = tensor.untyped_storage()
        own = memory.nbytes() == tensor.nbytes and memory.data_ptr() not in seen
        apart.append(tensor if own else tensor.clone(memory_format=torch.contiguous_format))
        seen.add(memory.data_ptr())
    return apart


when_imported("torch.utils.flop_counter", _define_all)
