"""A kernel's arguments: one record of addresses and sizes, filled in Python, read by name.

B rows, sorted by descending length, run S = max(lengths) steps of their own: in the reverse
direction a row's step 0 is its last one in time. So the rows that are alive at a step are always
the first ones, and the R = sum(lengths) pairs of step and row, one step after another, are all
there is to compute. `starts` [S + 1] says where each step's pairs begin. A packed batch is in
memory what its pairs are: x, y and their gradients are [R, ...] then, and its rows are sorted
already.

Units come in blocks of W, a vector. Forward, a panel is all gates of as many blocks as fill four
vectors, at least one; backward, always four blocks. Padding is zero in everything padded. Counts in
vectors of a block are in `cell_layout.CellLayout`.
"""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.imputils import lower_getattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import models, register_model

from lstm_kernels.backends.numba_cpu.cell_code import CellType
from lstm_kernels.backends.numba_cpu.simd import INT64, Vector, load_at

# M is the units of a head. The last three: how many pairs a chunk may have, and how many `gates`
# and `cells` have room for. All are odd, so that panels do not begin a power of two apart, where
# they would compete for the same cache sets.
_SIZES = ("S", "B", "I", "H", "M", "D", "R", "packed", "chunk_rows", "gate_rows", "cell_rows")
# int64 [B], [B], [S + 1]: rows in sorted order, their lengths, and the first pair of each step.
_ROWS = ("order", "lengths", "starts")
_SCRATCH = ("pairs", "scratch", "flags")

FORWARD = (
    *_SIZES,
    *_ROWS,
    *_SCRATCH,
    # [T, B, I] and [T, B, D*H], or [R, I] and [R, D*H] of a packed batch; [D, B, H], [D, B, own*H]
    *("x", "y", "h0", "c0", "h_n", "c_n"),
    # One for each direction; biases are 0 if there are none.
    *("w_ih_0", "w_hh_0", "b_ih_0", "b_hh_0", "w_ih_1", "w_hh_1", "b_ih_1", "b_hh_1"),
    *("per_unit_0", "per_unit_1"),
    # Whether gates are kept for all pairs; else only for one chunk.
    "saves_gates",
    # The most elements of h that a panel's units see: H of one head.
    "span",
    # [D, panels, gate_rows, blocks, line, W]: from x, then what the cell saves.
    "gates",
    # [D, panels, cell_rows, blocks, kept_states, W]: other states than h after each pair, or 0
    "cells",
    # [D, panels, I or span, blocks, gates, W] and [D, panels, blocks, slots, W]
    *("packed_w_ih", "packed_w_hh", "packed_b"),
    # [2, D, B, units] before and after a step, [own, D, B, units]
    *("h_state", "c_state"),
    # Where matrices are multiplied in pairs, or as int8, x of a chunk's pairs in their order:
    # [D, pairs, I]
    "x_rows",
)
# Of int8 weights, which come packed: for each thread h as it multiplies it, [D, B, H].
FORWARD_W8 = (*FORWARD, "h_rows")

BACKWARD = (
    *_SIZES,
    *_ROWS,
    *_SCRATCH,
    *("x", "y", "h0", "c0", "d_y", "d_h_n", "d_c_n", "gates", "cells"),
    *("w_ih_0", "w_hh_0", "w_ih_1", "w_hh_1", "per_unit_0", "per_unit_1"),
    # Each 0 if it is not needed; d_unit [D, d_units, units], sums over pairs, always is.
    *("d_x", "d_w_ih_0", "d_w_hh_0", "d_w_ih_1", "d_w_hh_1"),
    *("d_h0", "d_c0", "d_unit"),
    # The most units, of whole blocks, that see a panel of H's columns: all of one head.
    "span",
    # [D, panels, gates*span or gates*units, 4, W], of H's and of I's columns
    *("packed_w_hh", "packed_w_ih"),
    # Slots' gradients of a chunk, and of the one before: [2, D, d_units, blocks, chunk_rows, W], or
    # in pairs [2, D, chunk_rows, d_units, blocks, W] and a vector of zeros behind each row
    "d_gates",
    # What they meet in weights' gradients: [D, panels, chunk_rows, 4, W], h's and x's columns
    *("packed_h", "packed_x"),
    # [D, B, units] and [own, D, B, units]: what a step hands the one before it
    *("d_h_carry", "d_c_carry"),
    # In pairs: slots' gradients of a chunk as rows of units, [D, slots, units, chunk_rows], and
    # what the chunks before it have added to weights' gradients, [D, panels, slots, units, 4, W]
    *("d_gates_turned", "d_w_sums"),
)


# Of a cell that normalises: for each thread what it computes with (`norms`), and h's gradients
# through the step after, [rows, panels, 4, W] of what it has to itself; and both in bytes.
FORWARD_NORMED = (*FORWARD, "line_memory", "line_bytes")
BACKWARD_NORMED = (*BACKWARD, "line_memory", "line_bytes", "d_h_memory", "d_h_bytes")

# Of a kernel that notes its phases: for each thread a line of `stamp_lines`.
STAMPS = "stamps"


class Arguments(types.Type):  # type: ignore[misc]  # numba ships no types
    """The address of a record of int64, one for each field, and the facts known at compile time.

    `a.cell` and `a.like`, a vector of the tensors' dtype, are such facts; every other name is a
    field.
    """

    def __init__(self, fields: tuple[str, ...], dtype: str, product: str, cell: CellType) -> None:
        self.fields, self.cell = fields, cell
        # Products in pairs are summed in float32.
        summed = dtype if product == "fma" else "float32"
        self.like = Vector(numba.from_dtype(np.dtype(summed)), product)
        super().__init__(name=f"Arguments({fields}, {dtype}, {product}, {cell})")


@register_model(Arguments)
class ArgumentsModel(models.PrimitiveModel):  # type: ignore[misc]  # numba ships no types
    """An address."""

    def __init__(self, dmm: Any, fe_type: Arguments) -> None:
        super().__init__(dmm, fe_type, INT64)


@infer_getattr
class _Attributes(AttributeTemplate):  # type: ignore[misc]  # numba ships no types
    key = Arguments

    def generic_resolve(self, a: Arguments, name: str) -> Any:
        if name in ("cell", "like"):
            return getattr(a, name)
        return types.int64 if name in a.fields else None


@lower_getattr_generic(Arguments)  # type: ignore[untyped-decorator]  # numba ships no types
def _lower_attribute(context: Any, builder: Any, a: Arguments, value: Any, name: str) -> Any:
    if name == "cell":
        return context.get_dummy_value()
    if name == "like":
        return ir.Constant(a.like.ir, None)
    return load_field(builder, a, value, name)


def load_field(builder: Any, a: Arguments, record: Any, name: str) -> Any:
    """The IR of a field of the record at an address."""
    loaded = load_at(builder, INT64, builder.add(record, INT64(8 * a.fields.index(name))), 8)
    # A kernel never changes its record.
    loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
    return loaded


def signature_of(fields: tuple[str, ...], dtype: str, product: str, cell: CellType) -> Any:
    """The C signature of a kernel: the address of its record."""
    return types.void(Arguments(fields, dtype, product, cell))
