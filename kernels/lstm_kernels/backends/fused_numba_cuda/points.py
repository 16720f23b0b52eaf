"""What both regimes do for one unit of one sequence at a step: its address, reads and writes.

Tensors are flat, contiguous and indexed in 64 bits. A unit's values of one kind, such as its
pre-activations, are a tuple; their number depends on the cell, so the functions that
take them are generated, an element at a time: Numba has no loop over a tuple that makes another.
"""

# Device code is not Python: Numba types these functions itself.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from lstm_kernels.backends.fused_numba_cuda.cells import NUMBERS, ZERO, kept_states
from lstm_kernels.backends.fused_numba_cuda.exchange import tell
from lstm_kernels.backends.fused_numba_cuda.memory import load_shared
from lstm_kernels.cells import CELLS
from lstm_kernels.cells.code.derive import derived
from lstm_kernels.gpu.numba_launching import device_function


@device_function
def length_of(lengths, ragged, sequence, T):
    """Steps of a sequence; `lengths` is read where the batch is ragged."""
    if ragged:
        return lengths[sequence]
    return T


@device_function
def position(step, length, direction):
    """The place in its sequence of a step, which counts in the order of computing."""
    if direction == 1:
        return length - 1 - step
    return step


@device_function
def sum_of_parts(shared, at, apart, parts):
    """The sum of what the parts of a block made of one column."""
    total = ZERO
    for part in range(parts):
        total += load_shared(shared, at + part * apart)
    return total


def zeros(count: int, dtype: str) -> tuple[Any, ...]:
    """As many values, not set yet."""
    return (NUMBERS[dtype](0),) * count


@cache
def load_blocks(count: int) -> Callable[..., Any]:
    """A unit's element of each of this many blocks, which begin so far apart."""
    return _tuple("array, at, apart", [f"array[at + {n} * apart]" for n in range(count)])


@cache
def store_blocks(count: int) -> Callable[..., Any]:
    """Store a unit's element of each of this many blocks."""
    return _does(
        "array, at, apart, values",
        [f"array[at + {n} * apart] = values[{n}]" for n in range(count)],
    )


@cache
def tell_blocks(count: int) -> Callable[..., Any]:
    """Store a unit's element of each of this many blocks, for other blocks that wait for them."""
    told = [f"tell(array, at + {n} * apart, values[{n}])" for n in range(count)]
    return _does("array, at, apart, values", told, tell=tell)


@cache
def add_to_blocks(count: int) -> Callable[..., Any]:
    """Add to a unit's element of each of this many blocks."""
    return _does(
        "array, at, apart, values",
        [f"array[at + {n} * apart] += values[{n}]" for n in range(count)],
    )


@cache
def sums(count: int) -> Callable[..., Any]:
    """The sums of two tuples of this many values."""
    return _tuple("a, b", [f"a[{n}] + b[{n}]" for n in range(count)])


@cache
def sums_of_parts(count: int) -> Callable[..., Any]:
    """A unit's products, which a block's parts made: this many columns, `units` apart."""
    columns = [f"of_column(shared, at + {n} * units, apart, parts)" for n in range(count)]
    return _tuple("shared, at, units, apart, parts", columns, of_column=sum_of_parts)


@cache
def preactivations(cell: str) -> Callable[..., Any]:
    """For each slot of a cell, the part from x, from h, or the sum of both."""
    slots = CELLS[cell].slots
    parts = [
        [f"{of}[{at}]" for of, at in (("x", s.x), ("h", s.h)) if at is not None] for s in slots
    ]
    return _tuple("x, h", [" + ".join(each) for each in parts])


@cache
def with_products(cell: str) -> Callable[..., Any]:
    """Pre-activations, given without the product of h, with it."""
    products = ["" if slot.h is None else f" + h[{slot.h}]" for slot in CELLS[cell].slots]
    return _tuple("p, h", [f"p[{n}]{product}" for n, product in enumerate(products)])


@cache
def slot_of_gate(cell: str) -> Callable[..., Any]:
    """The slot that a block of W_hh belongs to, by its number."""
    text = "gate"
    offsets = [slot - gate for gate, slot in enumerate(_slots_from_h(cell))]
    for gate in range(len(offsets) - 1, -1, -1):
        before = offsets[gate - 1] if gate else 0
        if offsets[gate] != before:
            text += f" + ({offsets[gate] - before} if gate >= {gate} else 0)"
    return _function("gate", [f"return {text}"], {})


@cache
def store_from_h(cell: str) -> Callable[..., Any]:
    """Store the gradients of a step's product with h, as W_hh's rows are ordered."""
    slots = _slots_from_h(cell)
    return _does(
        "array, at, apart, d_p",
        [f"array[at + {n} * apart] = d_p[{slot}]" for n, slot in enumerate(slots)],
    )


@cache
def load_states(cell: str) -> Callable[..., Any]:
    """All states of a unit, h of one array and the others of another."""
    own = [f"c[at_c + {n} * H]" for n in range(CELLS[cell].own_states)]
    return _tuple("h, at_h, c, at_c, H", ["h[at_h]", *own])


@cache
def store_states(cell: str) -> Callable[..., Any]:
    """Store all states of a unit, where `load_states` finds them."""
    own = [f"c[at_c + {n} * H] = states[{n + 1}]" for n in range(CELLS[cell].own_states)]
    return _does("h, at_h, c, at_c, H, states", ["h[at_h] = states[0]", *own])


@cache
def with_h(cell: str) -> Callable[..., Any]:
    """All states of a unit, with another value for h."""
    own = [f"states[{n + 1}]" for n in range(CELLS[cell].own_states)]
    return _tuple("h, states", ["h", *own])


@cache
def store_kept(cell: str) -> Callable[..., Any]:
    """Store those of a unit's states, other than h, that its gradients will use."""
    return _does(
        "cells, at, H, states",
        [f"cells[at + {n} * H] = states[{state}]" for n, state in enumerate(kept_states(cell))],
    )


@cache
def load_after(cell: str, dtype: str) -> Callable[..., Any]:
    """A unit's states after a step, from y and cells, if its gradients use them; else 0."""
    return _states(derived(CELLS[cell]).uses_after, kept_states(cell), dtype)


@cache
def load_before(cell: str, dtype: str) -> Callable[..., Any]:
    """A unit's states before a step: the same for the step before."""
    return _states(derived(CELLS[cell]).uses_before, kept_states(cell), dtype)


@cache
def load_first(cell: str, dtype: str) -> Callable[..., Any]:
    """A unit's states before the first step: the same from h0 and c0."""
    own = tuple(range(1, len(CELLS[cell].states)))
    return _states(derived(CELLS[cell]).uses_before, own, dtype)


def _states(uses: Sequence[bool], places: Sequence[int], dtype: str) -> Callable[..., Any]:
    """States from two arrays; `places` are the states whose blocks are in the second."""
    of_h = "h[at_h]" if uses[0] else "none"
    own = [
        f"c[at_c + {places.index(state)} * H]" if is_used else "none"
        for state, is_used in enumerate(uses)
        if state > 0
    ]
    return _tuple("h, at_h, c, at_c, H", [of_h, *own], none=NUMBERS[dtype](0))


def _slots_from_h(cell: str) -> list[int]:
    """For each block of W_hh the slot that it belongs to."""
    found = [(slot.h, at) for at, slot in enumerate(CELLS[cell].slots) if slot.h is not None]
    return [at for _, at in sorted(found)]


def _tuple(arguments: str, elements: Sequence[str], **called: Any) -> Callable[..., Any]:
    """A device function that returns these expressions."""
    return _function(arguments, [f"return ({', '.join((*elements, ''))})"], called)


def _does(arguments: str, statements: Sequence[str], **called: Any) -> Callable[..., Any]:
    """A device function that runs these statements, if there are any."""
    return _function(arguments, statements or ["pass"], called)


def _function(
    arguments: str, statements: Sequence[str], called: dict[str, Any]
) -> Callable[..., Any]:
    lines = "".join(f"    {each}\n" for each in statements)
    made = dict(called)
    exec(compile(f"def written({arguments}):\n{lines}", "<a unit's tuple>", "exec"), made)
    return device_function(made["written"])  # type: ignore[no-any-return] # of a dict of anything
