"""A cell as a compile-time argument of the kernels: its layout's numbers and its arithmetic.

The value has no bits: it is only a type. `cell.slots` and the rest of `CellLayout` are
constants, `cell.next_state` and `cell.gradients` the functions generated from the cell's
definition, on vectors.
"""

from functools import cache
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core.imputils import lower_getattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import models, register_model

from lstm_kernels.backends.numba_cpu import activations, choices
from lstm_kernels.backends.numba_cpu.cell_layout import CellLayout, layout_of
from lstm_kernels.backends.numba_cpu.cell_source import NUMBA_CPU, digest_of
from lstm_kernels.backends.numba_cpu.simd import INT64, inlined
from lstm_kernels.cells import Cell
from lstm_kernels.cells.code.emit import compiled

# What generated code calls.
_NAMES = {
    "inlined": inlined,
    **{name: getattr(activations, name) for name in ("sigmoid", "tanh", "exp", "log")},
    **{
        name: getattr(choices, name)
        for name in ("relu", "where", "maximum", "minimum", "full_like")
    },
}
_ATTRIBUTES: dict[str, dict[str, Any]] = {}


class CellType(types.Type):  # type: ignore[misc]  # numba ships no types
    """The type of one cell, whose name identifies all its sources.

    It holds only names, because Numba keeps types on disk with what it compiled.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=f"Cell({name})")
        self.of = name

    def attribute(self, name: str) -> Any:
        """A number, several, or a compiled function."""
        return _ATTRIBUTES[self.of].get(name)


@cache
def type_of(cell: Cell, by_head: bool = False) -> CellType:
    """The type of a cell, with one head or by head."""
    name = f"{cell.name}_{digest_of(cell, by_head)}"
    functions = compiled(cell, NUMBA_CPU, _NAMES)
    _ATTRIBUTES[name] = {**vars(layout_of(cell, by_head)), **functions}
    return CellType(name)


def cell_layout(cell: CellType) -> CellLayout:
    """The layout behind a type, for code generation."""
    fields = CellLayout.__dataclass_fields__
    return CellLayout(**{name: cell.attribute(name) for name in fields})


@register_model(CellType)
class CellModel(models.OpaqueModel):  # type: ignore[misc]  # numba ships no types
    """Nothing is stored for a cell."""


@infer_getattr
class _Attributes(AttributeTemplate):  # type: ignore[misc]  # numba ships no types
    key = CellType

    def generic_resolve(self, cell: CellType, name: str) -> Any:
        found = cell.attribute(name)
        if isinstance(found, int):
            return types.literal(found)
        if isinstance(found, tuple):
            return types.UniTuple(types.int64, len(found))
        return None if found is None else numba.typeof(found)


@lower_getattr_generic(CellType)  # type: ignore[untyped-decorator]  # numba ships no types
def _lower_attribute(context: Any, builder: Any, cell: CellType, value: Any, name: str) -> Any:
    found = cell.attribute(name)
    if isinstance(found, int):
        return INT64(found)
    if isinstance(found, tuple):
        return ir.Constant(ir.ArrayType(INT64, len(found)), [INT64(each) for each in found])
    return context.get_dummy_value()
