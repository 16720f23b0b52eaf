"""Cells drawn by hypothesis, and layers of them: operations in a row, each on any before it."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from lstm_kernels.cells import (
    Cell,
    cell,
    exp,
    log,
    maximum,
    minimum,
    relu,
    sigmoid,
    tanh,
    to_data,
    where,
)

Operation = Callable[[Any, Any, Any], Any]

SMOOTH: list[Operation] = [
    lambda a, b, c: a + b,
    lambda a, b, c: a - b * 0.5,
    lambda a, b, c: a * b,
    lambda a, b, c: a / (1.5 + sigmoid(b)),
    lambda a, b, c: sigmoid(a) * b + sigmoid(-a) * c,
    lambda a, b, c: sigmoid(a),
    lambda a, b, c: tanh(a - b),
    lambda a, b, c: exp(-sigmoid(a)),
    lambda a, b, c: log(2 + sigmoid(a)),
]
# Of two values that are nearly equal float32 may take the other one, or the other one's gradient.
CHOOSING: list[Operation] = [
    lambda a, b, c: relu(a),
    lambda a, b, c: exp(-relu(a)),
    lambda a, b, c: maximum(a, b),
    lambda a, b, c: minimum(a, b),
    lambda a, b, c: where(a < c, b, 1 - a),
]
# How a gate arrives: the sum of both products, each apart, or that of x alone.
KINDS = ("summed", "apart", "from_x")
# A step or several, units that fill no vector and more than one of eight float64.
SIZES: dict[str, tuple[Any, ...]] = {
    "seq_len": (1, 3),
    "batch": (1, 2, 3),
    "input_size": (1, 3),
    "hidden_size": (1, 5, 9),
    "bias": (True, False),
    "bidirectional": (True, False),
    "is_ragged": (True, False),
}


@st.composite
def random_cells(draw: Any, *, is_smooth: bool = False) -> Cell:
    """A cell of 1 to 4 gates, 1 to 3 states and up to 2 parameters a unit.

    Each operation's value is bounded by a tanh. Its name tells what it is made of: two of a name
    are one, as the backends have it, which keep a cell's code by its name.
    """
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    states, per_unit = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    operations = SMOOTH if is_smooth else SMOOTH + CHOOSING
    number = st.integers(0, 1000)
    step = st.tuples(st.sampled_from(operations), number, number, number)
    plan = draw(st.lists(step, min_size=1, max_size=12))
    ends = draw(st.lists(number, min_size=states, max_size=states))
    gates = {f"g{at}": kind for at, kind in enumerate(kinds)}

    def drawn(p, *others):
        values = [*vars(p).values(), *others]
        for make, *places in plan:
            values.append(tanh(make(*(values[at % len(values)] for at in places))))
        return tuple(values[-1 - at % len(values)] for at in ends)

    made = cell(
        gates=" ".join(gates),
        states=" ".join(["h", "c", "d"][:states]),
        per_unit=" ".join(["u", "v"][:per_unit]),
        apart=" ".join(gate for gate, kind in gates.items() if kind == "apart"),
        from_x=" ".join(gate for gate, kind in gates.items() if kind == "from_x"),
    )(drawn)
    digest = hashlib.sha256(repr(to_data(made)).encode()).hexdigest()
    return replace(made, name=f"drawn_{digest[:16]}")


@st.composite
def random_layers(draw: Any) -> tuple[Cell, dict[str, Any]]:
    """A cell, and the fields of a problem; one that chooses between values is float64."""
    is_smooth = draw(st.booleans())
    fields = {name: draw(st.sampled_from(sizes)) for name, sizes in SIZES.items()}
    if fields.pop("is_ragged"):
        fields["lengths"] = f"uniform:1:{fields['seq_len']}"
    dtype = "float32" if is_smooth else "float64"
    return draw(random_cells(is_smooth=is_smooth)), fields | {"dtype": dtype}
