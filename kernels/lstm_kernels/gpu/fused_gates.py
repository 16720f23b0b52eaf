"""One step's arithmetic, past the products, as Triton device functions: `DeviceCell`.

A cell's `next_state` and `gradients` are written from its definition (`lstm_kernels.cells`), over
the functions of this file. They take and give tuples of tiles of any shape, all float32 or all
float64; what is not looked at costs nothing. Of float32 no call of libdevice, and no assembly, so
that Triton's interpreter runs it too.

Source: `tanh` near 0 from Cephes, `tanhf` and `tanh`.
"""

# Device code is not Python: Triton reads these functions' source, and types them itself.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any

import triton
import triton.language as tl

from lstm_kernels.cells import Cell
from lstm_kernels.cells.code.derive import derived
from lstm_kernels.cells.code.emit import Dialect, compiled, source_of
from lstm_kernels.cells.code.trace import in_order

TRITON = Dialect("triton", decorator="@triton.jit")


@triton.jit
def widened(value):
    """A value in the type that is computed in: float64 stays, everything else becomes float32."""
    if value.dtype != tl.float64:
        value = value.to(tl.float32)
    return value


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x)), from the exponential of a negative number alone: nothing overflows."""
    e = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, e) / (1.0 + e)


@triton.jit
def tanh(x):
    """The hyperbolic tangent, small x to full relative precision too."""
    a = tl.abs(x)
    e = tl.exp(-2.0 * a)
    far = (1.0 - e) / (1.0 + e)
    # Where 1 - e would cancel; held below 0.625, so that the branch not taken cannot overflow.
    near = tl.minimum(a, 0.625)
    q = near * near
    p = _near_0_float64(q) if x.dtype == tl.float64 else _near_0_float32(q)
    near += near * (q * p)
    t = tl.where(a < 0.625, near, far)
    return tl.where(x < 0, -t, t)


@triton.jit
def _near_0_float32(q):
    """(tanh(x) / x - 1) / x^2 of q = x^2, below 0.625: a polynomial."""
    p = -5.70498872745e-3
    p = p * q + 2.06390887954e-2
    p = p * q - 5.37397155531e-2
    p = p * q + 1.33314422036e-1
    return p * q - 3.33332819422e-1


@triton.jit
def _near_0_float64(q):
    """The same by a quotient of polynomials."""
    p = -9.64399179425052238628e-1 * q - 9.92877231001918586564e1
    p = p * q - 1.61468768441708447952e3
    d = q + 1.12811678491632931402e2
    d = d * q + 2.23548839060100448583e3
    d = d * q + 4.84406305325125486048e3
    return p / d


@triton.jit
def relu(x):
    """The greater of x and 0, and NaN of NaN, which maximum would turn into 0."""
    return tl.where(x < 0, 0.0, x)


@triton.jit
def exp(x):
    """e^x."""
    return tl.exp(x)


@triton.jit
def log(x):
    """The natural logarithm; in float32 right to 2e-7 near 1, and to its last digits elsewhere."""
    return tl.log(x)


@triton.jit
def maximum(a, b):
    """The greater of two; NaN where one is."""
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def minimum(a, b):
    """The smaller of two; NaN where one is."""
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def where(condition, a, b):
    """One value where a comparison holds, else the other."""
    return tl.where(condition, a, b)


@triton.jit
def full_like(x, value):
    """A constant, as wide as x."""
    return tl.full(x.shape, value, x.dtype)


# What the generated functions call; Triton's interpreter looks for its language there.
_NAMESPACE = {
    "triton": triton,
    "tl": tl,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "relu": relu,
    "exp": exp,
    "log": log,
    "maximum": maximum,
    "minimum": minimum,
    "where": where,
    "full_like": full_like,
}


@dataclass(frozen=True, eq=False, repr=False)
class DeviceCell:
    """A cell as a kernel takes it, one constexpr: its functions and the facts about its shape.

    `next_state` and `gradients` are explained in `lstm_kernels.cells.code.emit`, and `uses_before`,
    `uses_after` and `carries` in `derive`. By state, `steps_with` and `saves_with` say whether a
    step, and what it saves, use it, and `absent` is the value if there is none: not 0
    if something is divided by it. By slot, `x_block` and `h_block` are the blocks of w_ih and w_hh
    that it comes from, or None; `h_slot` is the slot by block of w_hh. A product has `width`
    columns a unit, slots in their order and then none, and `column_block` is `h_block` by column.

    Triton identifies a kernel by the texts of its constexprs while a process lives, and by their
    `cache_key` on disk: the text of this contains a digest of the functions' source.
    """

    name: str
    digest: str
    next_state: Any
    gradients: Any
    x_block: tuple[int | None, ...]
    h_block: tuple[int | None, ...]
    h_slot: tuple[int, ...]
    column_block: tuple[int | None, ...]
    uses_before: tuple[bool, ...]
    uses_after: tuple[bool, ...]
    steps_with: tuple[bool, ...]
    saves_with: tuple[bool, ...]
    carries: tuple[bool, ...]
    absent: tuple[float, ...]
    slots: int
    width: int
    states: int
    x_blocks: int
    h_blocks: int
    saved: int
    per_unit: int

    @property
    def uses(self) -> tuple[tuple[bool, ...], ...]:
        """By state, whether a step uses it; and whether its gradients do, before and after it."""
        # An attribute, not an argument: Triton 3.6 takes no tuple as a constexpr.
        return self.steps_with, self.uses_before, self.uses_after

    @property
    def cache_key(self) -> str:
        """A key that differs if the functions, or those they call, differ; not if interpreted."""
        return f"{self!r} {self.next_state.cache_key} {self.gradients.cache_key}"

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        # Triton makes names from it.
        return f"{self.name}_{self.digest}"


def product_width(definition: Cell) -> int:
    """Columns of a unit in the product with h: a power of two, also for slots without one."""
    return 1 << (len(definition.slots) - 1).bit_length()


@cache
def device_cell(definition: Cell) -> DeviceCell:
    """The functions of a cell for kernels."""
    made, slots = derived(definition), definition.slots
    source = source_of(definition, TRITON)
    h_blocks, width = [slot.h for slot in slots], product_width(definition)
    h_slot = tuple(h_blocks.index(block) for block in range(definition.h_blocks))
    in_step, in_saved = set(in_order(made.step.after)), set(in_order(made.saved))
    return DeviceCell(
        name=definition.name,
        digest=hashlib.sha256(f"{source}{slots}{definition.positive}".encode()).hexdigest()[:16],
        **compiled(definition, TRITON, _NAMESPACE),
        x_block=tuple(slot.x for slot in slots),
        h_block=tuple(h_blocks),
        h_slot=h_slot,
        uses_before=made.uses_before,
        uses_after=made.uses_after,
        steps_with=tuple(state in in_step for state in made.step.before),
        saves_with=tuple(state in in_saved for state in made.step.before),
        carries=made.carries,
        absent=tuple(float(name in definition.positive) for name in definition.states),
        column_block=tuple(h_blocks + [None] * (width - len(slots))),
        slots=len(slots),
        width=width,
        states=len(definition.states),
        x_blocks=definition.x_blocks,
        h_blocks=definition.h_blocks,
        saved=len(made.saved),
        per_unit=len(definition.per_unit),
    )
