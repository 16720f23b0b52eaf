"""A layer over a sequence: the arguments of its kernels.

Weights are packed at every call, or multiplied as they are where there are few steps: packing is
one pass over G H (I + H) elements, as a step at B=1 is. Nothing can be stale after any change of
the weights. int8 weights alone are kept.
"""

from array import array
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lstm_kernels.backends.numba_cpu import memory, team
from lstm_kernels.backends.numba_cpu.cell_layout import VECTORS, CellLayout, layout_of
from lstm_kernels.backends.numba_cpu.compiled import compiled
from lstm_kernels.backends.numba_cpu.int8_weights import Packs, row_bytes
from lstm_kernels.backends.numba_cpu.memory import in_huge_pages
from lstm_kernels.backends.numba_cpu.pairing import Product, product_of
from lstm_kernels.backends.numba_cpu.team import LINE_BYTES
from lstm_kernels.cells import CELLS
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Weights, unflatten

# Pairs of step and row in a chunk: enough for a product over pairs to run at its full rate, few
# enough for a chunk's gates to stay in the last-level cache.
CHUNK_ROWS = 256
# Backward, if matrices are multiplied in pairs: products are so much faster that what a chunk
# adds to the weights' gradients takes longer to read and write than gates of more pairs do.
PAIRED_CHUNK_ROWS = 1024
# Multiply-adds in a step, including x's part, that are worth synchronising threads. On two cores
# two threads took 0.94 of one's time at 33,000 (H=64, B=1) and 0.78 at 74,000 (H=96); where others
# are busy there, a thread that waits for another waits long (docs/numba-cpu-tried.md).
WORTH_MEETING = 40_000
# The most pairs of step and row for which weights are multiplied as they are, by elements of a row
# of weights (docs/numba-cpu-few-steps.md).
PAIRS_AN_ELEMENT = 1 / 8
# And the square of that over these elements: over weights too large for a cache, more steps are
# faster from packed ones.
MOST_UNPACKED = 2**13


class Rows(NamedTuple):
    """The sequences by descending length, int64: see `arguments`."""

    order: Tensor
    lengths: Tensor
    starts: Tensor
    B: int
    S: int
    R: int

    def chunk(self, most: int = CHUNK_ROWS) -> int:
        """How many pairs a chunk may have: a whole step at least, and an odd number."""
        return min(max(most, self.B), self.R) | 1


# Runs a kernel: its pass, and what it is given; see `run_kernel`.
Run = Callable[[str, Problem, Rows, int, dict[str, Any], dict[str, int]], None]


class Saved(NamedTuple):
    """What a forward keeps for the backward, in the kernels' layout, except x, y and states."""

    gates: Tensor | None
    cells: Tensor | None


class Sizes(NamedTuple):
    """The kernels' units of layout, for one problem."""

    of_cell: CellLayout
    product: Product
    # The bytes of what is multiplied and of what is summed.
    operand_bytes: int
    number_bytes: int
    W: int
    # Blocks of units, of W.
    blocks: int
    # Panels forward, and of H's and I's columns backward.
    panels: int
    wide_h: int
    wide_i: int
    # The most that a panel of W_hh may have, forward and backward: see `arguments`.
    span: int
    wide_span: int

    @property
    def number_dtype(self) -> torch.dtype:
        """What is summed, and kept between the passes."""
        return torch.float64 if self.number_bytes == 8 else torch.float32


def rows_of(T: int, B: int, lengths: Tensor | None) -> Rows:
    """The rows of a batch, sorted."""
    if lengths is None:
        return _full_rows(T, B)
    order = torch.argsort(lengths, descending=True, stable=True)
    lengths = lengths[order]
    S = int(lengths[0])
    alive = B - torch.searchsorted(lengths.flip(0), torch.arange(S, device="cpu"), right=True)
    starts = torch.zeros(S + 1, dtype=torch.int64, device="cpu")
    torch.cumsum(alive, 0, out=starts[1:])
    return Rows(order, lengths, starts, B, S, int(starts[-1]))


@lru_cache(maxsize=64)
def _full_rows(T: int, B: int) -> Rows:
    starts = torch.arange(T + 1, device="cpu") * B
    return Rows(
        torch.arange(B, device="cpu"), torch.full((B,), T, device="cpu"), starts, B, T, T * B
    )


@lru_cache(maxsize=256)
def sizes_of(problem: Problem) -> Sizes:
    """The layout of a problem."""
    of_cell = layout_of(CELLS[problem.cell], problem.heads > 1)
    product = product_of(problem.dtype)
    number_bytes = 4 if product.in_pairs else problem.element_bytes
    W = product.vector_bytes // number_bytes
    blocks = -(-problem.hidden_size // W)
    wide_h, wide_i = (
        -(-columns // (VECTORS * W)) for columns in (problem.hidden_size, problem.input_size)
    )
    return Sizes(
        of_cell=of_cell,
        product=product,
        operand_bytes=problem.element_bytes,
        number_bytes=number_bytes,
        W=W,
        blocks=blocks,
        panels=-(-blocks // of_cell.blocks),
        wide_h=wide_h,
        wide_i=wide_i,
        span=_most_seen(problem, of_cell.blocks * W),
        wide_span=_most_seen(problem, VECTORS * W, W),
    )


def _most_seen(problem: Problem, width: int, block: int = 1) -> int:
    """The most units that the heads of a panel of this many units have, in whole blocks."""
    H, M = problem.hidden_size, problem.met_size
    most = 0
    for first in range(0, H, width):
        begin = first // M * M // block
        end = -(-((min(first + width, H) - 1) // M * M + M) // block)
        most = max(most, (end - begin) * block)
    return most


def saved_shapes(
    problem: Problem, T: int, B: int, *, recompute: bool = False
) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """The shapes of what a forward over full sequences keeps, None for nothing: see `Saved`."""
    return _saved_shapes(problem, T * B)


def _saved_shapes(
    problem: Problem, pairs: int
) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """The same for this many pairs of step and row."""
    sizes = sizes_of(problem)
    of_cell = sizes.of_cell
    unit = of_cell.blocks * sizes.W
    units = problem.directions * sizes.panels * _odd(pairs) * unit
    behind = sizes.product.rows_behind * unit * of_cell.line
    gates = (units * of_cell.line + behind,) if of_cell.saved else None
    return gates, (units * of_cell.kept_states,) if of_cell.kept_states else None


def _odd(pairs: int) -> int:
    """How many pairs `gates` has room for; as `pairs | 1`, which symbols do not support."""
    return pairs // 2 * 2 + 1


def run_forward(
    run: Run,
    problem: Problem,
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    lengths: Tensor | None,
    *,
    saves: bool,
    packs: Packs | None = None,
) -> tuple[Tensor, Tensor, Tensor | None, Saved]:
    """y, h_n, c_n, and what a backward needs where `saves`; tensors contiguous.

    Args:
        run: what runs the kernel, `run_kernel` or `noting.noted`.
        packs: int8 weights, which are then multiplied; nothing is saved.
    """
    B, inputs = h0.shape[1], x.shape[-1]
    D, H = problem.directions, problem.hidden_size
    rows, sizes = rows_of(len(x), B, lengths), sizes_of(problem)
    # Past a sequence's end y is zero, and the kernel does not write there.
    y = (x.new_zeros if _has_padding(x, lengths) else x.new_empty)(*x.shape[:-1], D * H)
    in_huge_pages(y)
    h_n, c_n = torch.empty_like(h0), None if c0 is None else torch.empty_like(c0)
    of_gates, of_cells = _saved_shapes(problem, rows.R) if saves else (None, None)
    new = partial(torch.empty, dtype=sizes.number_dtype, device="cpu")
    gates = None if of_gates is None else in_huge_pages(new(of_gates))
    cells = None if of_cells is None else in_huge_pages(new(of_cells))
    chunk = rows.chunk()
    gate_rows = chunk if gates is None else _odd(rows.R)
    of_cell, panels = sizes.of_cell, D * sizes.panels
    units = sizes.panels * of_cell.blocks * sizes.W
    values: dict[str, Any] = {"x": x, "y": y, "h0": h0, "c0": c0, "h_n": h_n, "c_n": c_n}
    values |= {"packed": x.dim() == 2, "gate_rows": gate_rows, "cell_rows": _odd(rows.R)}
    values |= {"saves_gates": gates is not None, "cells": cells, "span": sizes.span}
    values |= _per_direction(weights, "w_ih", "w_hh", "b_ih", "b_hh", "per_unit")
    number, operand, more = sizes.number_bytes, sizes.operand_bytes, sizes.product.rows_behind
    vector = sizes.W * number
    scratch = {
        "packed_b": D * units * of_cell.slots * number,
        "h_state": (2 * D * B + more) * sizes.product.padded(units) * operand,
        "c_state": of_cell.own * D * B * units * number,
    }
    pass_name = "forward"
    if packs is not None:
        pass_name = "forward_w8"
        values |= {"packed_w_ih": packs.w_ih, "packed_w_hh": packs.w_hh}
        scratch |= {"x_rows": D * chunk * row_bytes(inputs)}
    elif is_unpacked(problem, rows.R):
        pass_name = "forward_unpacked"
        values |= dict.fromkeys(("packed_w_ih", "packed_w_hh", "x_rows"))
    else:
        scratch |= {
            "packed_w_ih": panels * sizes.product.lines(inputs) * of_cell.x_vectors * vector,
            "packed_w_hh": panels * sizes.product.lines(sizes.span) * of_cell.h_vectors * vector,
            "x_rows": (D * chunk + more) * sizes.product.padded(inputs) * operand if more else 0,
        }
    if gates is None:
        behind = more * of_cell.blocks * of_cell.line * vector
        scratch["gates"] = D * units * gate_rows * of_cell.line * number + behind
    else:
        values["gates"] = gates
    run(pass_name, problem, rows, chunk, values, scratch)
    return y, h_n, c_n, Saved(gates, cells)


def run_backward(
    run: Run,
    problem: Problem,
    d_y: Tensor,
    d_h_n: Tensor,
    d_c_n: Tensor | None,
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    y: Tensor,
    saved: Saved,
    weights: tuple[Weights, ...],
    lengths: Tensor | None,
    needed: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """The gradients of x, h0, c0 and of every weight, in `forward`'s order; tensors contiguous.

    Args:
        run: as for `run_forward`.
        needed: which of them are needed.
    """
    B, D, H = h0.shape[1], problem.directions, problem.hidden_size
    rows, sizes = rows_of(len(x), B, lengths), sizes_of(problem)
    d_x = None
    if needed[0]:
        # Both directions add to dx; nothing is written past a sequence's end.
        d_x = (torch.zeros_like if _has_padding(x, lengths) or D == 2 else torch.empty_like)(x)
        in_huge_pages(d_x)
    d_h0, d_c0 = torch.empty_like(h0), None if c0 is None else torch.empty_like(c0)
    new = x.new_empty if rows.R else x.new_zeros
    of_cell, units = sizes.of_cell, sizes.blocks * sizes.W
    d_unit = new(D, of_cell.d_units, units, dtype=sizes.number_dtype)
    fresh = partial(_fresh, new)
    d_weights = [
        (fresh(w.w_ih, needs_ih), fresh(w.w_hh, needs_hh))
        for w, (needs_ih, needs_hh, *_) in zip(weights, _each(needed[3:]), strict=True)
    ]
    values: dict[str, Any] = {"x": x, "y": y, "h0": h0, "c0": c0, "packed": x.dim() == 2}
    values |= {"gates": saved.gates, "cells": saved.cells}
    values |= {"gate_rows": _odd(rows.R), "cell_rows": _odd(rows.R)}
    values |= {"d_y": d_y, "d_h_n": d_h_n, "d_c_n": d_c_n}
    values |= {"d_x": d_x, "d_h0": d_h0, "d_c0": d_c0, "d_unit": d_unit}
    values |= _per_direction(weights, "w_ih", "w_hh", "per_unit")
    for d, both in enumerate((d_weights[0], d_weights[-1])):
        values |= {f"d_w_ih_{d}": both[0], f"d_w_hh_{d}": both[1]}
    chunk = rows.chunk(PAIRED_CHUNK_ROWS if sizes.product.in_pairs else CHUNK_ROWS)
    number, operand, more = sizes.number_bytes, sizes.operand_bytes, sizes.product.rows_behind
    line = VECTORS * sizes.W * number
    # In pairs a row ends with a vector of zeros.
    end = sizes.W if sizes.product.in_pairs else 0
    d_row = sizes.product.padded(of_cell.d_units * units + end)
    wide, blocks = D * (sizes.wide_h + sizes.wide_i), D * of_cell.slots * sizes.blocks
    lines_h = sizes.product.lines(of_cell.h_gates * sizes.wide_span)
    values |= {"span": sizes.wide_span}
    scratch = {
        "packed_w_hh": D * sizes.wide_h * lines_h * line,
        "packed_w_ih": D * sizes.wide_i * sizes.product.lines(of_cell.x_gates * units) * line,
        "d_gates": (2 * D * chunk + more) * d_row * operand,
        "packed_h": D * sizes.wide_h * sizes.product.lines(chunk) * line,
        "packed_x": D * sizes.wide_i * sizes.product.lines(chunk) * line,
        "d_h_carry": D * B * units * number,
        "d_c_carry": of_cell.own * D * B * units * number,
        "d_gates_turned": blocks * sizes.W * sizes.product.padded(chunk) * operand if more else 0,
        "d_w_sums": wide * of_cell.slots * sizes.blocks * sizes.W * line
        if more and chunk < rows.R
        else 0,
    }
    run("backward", problem, rows, chunk, values, scratch)
    d_unit = d_unit.to(x.dtype)
    numbers: list[Tensor | None] = [d_x, d_h0, d_c0]
    for d, d_weight in enumerate(d_weights):
        slots = d_unit[d, : of_cell.slots, :H]
        biases = _d_biases(of_cell, slots) if problem.bias else (None, None)
        per_unit = d_unit[d, of_cell.slots :, :H].flatten() if of_cell.per_unit else None
        numbers += [*d_weight, *biases, None, per_unit]
    return tuple(numbers)


def _fresh(new: Callable[..., Tensor], like: Tensor, is_needed: bool) -> Tensor | None:
    return in_huge_pages(new(like.shape)) if is_needed else None


def _has_padding(x: Tensor, lengths: Tensor | None) -> bool:
    """Whether x has steps past a sequence's end: a packed batch, [R, I], has none."""
    return lengths is not None and x.dim() == 3


def _each(needed: tuple[bool, ...]) -> list[tuple[bool, ...]]:
    """For every direction, which of its weights' gradients are needed."""
    fields = len(Weights._fields)
    return [needed[i : i + fields] for i in range(0, len(needed), fields)]


def _d_biases(of_cell: CellLayout, d_slots: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of b_ih and b_hh [G*H], from those of the slots [slots, H] in their places."""
    d_b_ih = _by_gate(d_slots, of_cell.x_bias_at, of_cell.x_gates)
    # Tensors that share memory would be clipped and scaled twice.
    return d_b_ih, _by_gate(d_slots, of_cell.h_bias_at, of_cell.h_gates).clone()


def _by_gate(d_slots: Tensor, gate_at: tuple[int, ...], gates: int) -> Tensor:
    """The rows that belong to gates, one after another; perhaps the same memory."""
    if gate_at == tuple(range(gates)):
        return d_slots.flatten()
    rows = [d_slots[gate_at.index(gate)] for gate in range(gates)]
    return torch.cat(rows) if rows else d_slots.new_empty(0)


def _per_direction(weights: tuple[Weights, ...], *names: str) -> dict[str, Tensor | None]:
    """`w_ih_0`, `w_ih_1` and so on; a missing second direction repeats the first."""
    both = enumerate((weights[0], weights[-1]))
    return {f"{name}_{d}": getattr(one, name) for d, one in both for name in names}


def threads_for(problem: Problem, batch: int) -> int:
    """How many threads a layer runs on: one if a step is too small to be shared."""
    columns = problem.gates * problem.input_size + problem.h_gates * problem.met_size
    a_step = columns * problem.hidden_size * problem.directions * batch
    return team.threads() if a_step >= WORTH_MEETING else 1


def is_unpacked(problem: Problem, pairs: int) -> bool:
    """Whether a forward over this many pairs of step and row multiplies weights as they are."""
    sizes, of_a_row = sizes_of(problem), (problem.input_size + problem.hidden_size) / 2
    few = min(of_a_row * PAIRS_AN_ELEMENT, (MOST_UNPACKED / of_a_row) ** 2)
    can = not (sizes.product.in_pairs or sizes.of_cell.normed or problem.heads > 1)
    return can and pairs <= few


def run_kernel(
    pass_name: str,
    problem: Problem,
    rows: Rows,
    chunk: int,
    values: dict[str, Any],
    scratch: dict[str, int],
) -> None:
    """Run a kernel on tensors, numbers and scratch memory of this many bytes each.

    Args:
        pass_name: one of `compiling.KERNELS`; a cell that normalises has kernels of its own.
    """
    count = threads_for(problem, rows.B)
    product = product_of(problem.dtype)
    sizes = scratch | {"pairs": 8 * problem.directions * rows.R}
    sizes |= {"scratch": product.scratch_bytes * count}
    if sizes_of(problem).of_cell.normed:
        pass_name = f"{pass_name}_normed"
        line_bytes, d_h_bytes = _bytes_of_lines(sizes_of(problem), rows.B)
        values = values | {"line_bytes": line_bytes, "d_h_bytes": d_h_bytes}
        sizes |= {"line_memory": line_bytes * count, "d_h_memory": d_h_bytes * count}
    if problem.precision == "w8":
        of_a_thread = problem.directions * rows.B * row_bytes(problem.hidden_size)
        sizes |= {"h_rows": of_a_thread * count}
    # Whole cache lines each, so that no two threads write the same one.
    lines = [-(-size // LINE_BYTES) for size in sizes.values()]
    scratch_memory = memory.take(sum(lines, 1) * LINE_BYTES)
    flags = torch.zeros(count * LINE_BYTES, dtype=torch.uint8, device="cpu")
    first = -(-scratch_memory.data_ptr() // LINE_BYTES)
    addresses = [line * LINE_BYTES for line in accumulate(lines, initial=first)]
    values = values | dict(zip(sizes, addresses, strict=False))
    values |= {"flags": flags, "order": rows.order, "lengths": rows.lengths, "starts": rows.starts}
    values |= {"S": rows.S, "B": rows.B, "R": rows.R}
    values |= {"I": problem.input_size, "H": problem.hidden_size, "D": problem.directions}
    values |= {"M": problem.met_size}
    values |= {"chunk_rows": chunk}
    kernel = compiled(pass_name, problem.dtype, product.name, problem.cell, problem.heads > 1)
    # Most are numbers already, and there are forty.
    words = (values[name] for name in kernel.fields)
    record = array("q", [word if type(word) is int else _word(word) for word in words])
    team.run(kernel.address, record.buffer_info()[0], count)
    memory.give_back(scratch_memory)


def _bytes_of_lines(sizes: Sizes, B: int) -> tuple[int, int]:
    """Bytes that a thread of a cell that normalises computes with, and of h's gradients there."""
    of_cell, vector = sizes.of_cell, sizes.W * sizes.number_bytes
    lines = B if of_cell.over_batch else sizes.blocks
    rows, panels = (B, 1) if of_cell.over_batch else (sizes.product.rows, sizes.wide_h)
    sections = of_cell.slots + 2 * (of_cell.states + of_cell.values)
    in_lines = (sections * lines + 2 * of_cell.values) * vector
    return in_lines, rows * panels * VECTORS * vector


def _word(value: Any) -> int:
    """A number, or a tensor's address, or 0 for none."""
    if isinstance(value, Tensor):
        return value.data_ptr()
    return 0 if value is None else int(value)


def packable(weights: tuple[Weights, ...]) -> tuple[Weights, ...]:
    """The same weights, each contiguous."""
    return unflatten([None if t is None else t.contiguous() for one in weights for t in one])


def operator_forward(
    problem: Problem,
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    *,
    saves: bool,
    recompute: bool = False,
) -> tuple[Tensor | None, ...]:
    """y, h_n, c_n, gates and cells, as `lstm_kernels.common.operators` says."""
    y, h_n, c_n, saved = run_forward(
        run_kernel, problem, x, h0, c0, packable(weights), None, saves=saves
    )
    pairs, panels = x.shape[0] * x.shape[1], problem.directions * sizes_of(problem).panels
    for tensor in saved:
        if tensor is not None:
            # An operator's results must be the same every time, even room for one pair too many.
            tensor.view(panels, _odd(pairs), -1)[:, pairs:].zero_()
    return y, h_n, c_n, *saved


def operator_backward(
    problem: Problem,
    inputs: tuple[Tensor, Tensor, Tensor | None],
    weights: tuple[Weights, ...],
    y: Tensor,
    saved: tuple[Tensor | None, Tensor | None],
    d_outputs: tuple[Tensor, Tensor, Tensor | None],
    needed: tuple[bool, ...],
    *,
    recompute: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of x, h0, c0 and of every weight, as `run_backward` has them."""
    d_y, d_h_n, d_c_n = d_outputs
    return run_backward(
        run_kernel,
        problem,
        d_y.contiguous(),
        d_h_n.contiguous(),
        None if d_c_n is None else d_c_n.contiguous(),
        *inputs,
        y,
        Saved(*saved),
        packable(weights),
        None,
        needed,
    )
