"""The definition of a cell: gates, states, and one step after the products as a function."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from keyword import iskeyword
from math import isfinite
from typing import Any, NamedTuple

Step = Callable[..., Any]

# Names that generated code uses itself: arguments, languages and their functions, and results.
RESERVED = frozenset(
    [
        "p",
        "before",
        "after",
        "per_unit",
        "saved",
        "d_after",
        "functions",
        "torch",
        "tl",
        "triton",
        "inlined",
        "full_like",
        "number",
        "sigmoid",
        "tanh",
        "relu",
        "exp",
        "log",
        "maximum",
        "minimum",
        "where",
        "layer_norm",
        "batch_norm",
    ]
)
RESERVED_FORMS = re.compile(r"^[vs]_\d+$|^[dp]_|_(before|after)$")

# What a gate may be, other than the sum of two products.
KINDS = ("apart", "from_x", "again", "bare")


class Slot(NamedTuple):
    """One pre-activation of a unit, and the blocks of H rows that it comes from.

    `x` is the block of w_ih, `h` that of w_hh; None if it has no part of that product. Both are
    None for a separate bias.
    """

    name: str
    x: int | None
    h: int | None


@dataclass(frozen=True)
class Cell:
    """One step's arithmetic, and the sizes that follow from it.

    `gates` are the blocks of w_ih and w_hh in their order. A gate of `apart` arrives in two parts,
    `p.n_x` and `p.n_h`; one of `from_x` sees only x, and has no block in w_hh. A gate of `again`,
    one of the last, is a function: `p.n(v)` is the product of W_hh's block with v in place of h.
    A gate of `bare`, one of the first, comes in three parts: both products without a bias, `p.n_x`
    and `p.n_h`, and `p.n_b`, the sum of the biases, 0 if there are none.
    `states` are h, which is multiplied, then those that only their unit uses. `per_unit` are
    parameters [H]; `starts` has the initial values of some of them, and the others are drawn.
    `positive` are states that a step keeps above 0 if they start there, and divides by.
    """

    name: str
    gates: tuple[str, ...]
    states: tuple[str, ...]
    step: Step
    per_unit: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    from_x: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()
    starts: tuple[tuple[str, float], ...] = ()

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The pre-activations: one for each gate, in order; then more parts, those of h first."""
        rows = [gate for gate in self.gates if gate not in self.from_x]
        first = []
        for x, gate in enumerate(self.gates):
            if gate in (*self.apart, *self.again, *self.bare):
                first.append(Slot(f"{gate}_x", x, None))
            else:
                first.append(Slot(gate, x, rows.index(gate) if gate in rows else None))
        apart = (*self.apart, *self.bare)
        last = [Slot(f"{gate}_h", None, rows.index(gate)) for gate in apart]
        return (*first, *last, *(Slot(f"{gate}_b", None, None) for gate in self.bare))

    @property
    def x_blocks(self) -> int:
        """Blocks of H rows of w_ih and b_ih."""
        return len(self.gates)

    @property
    def h_blocks(self) -> int:
        """Blocks of H rows of w_hh and b_hh; 0 if the cell makes no product with h."""
        return len(self.gates) - len(self.from_x)

    @property
    def own_states(self) -> int:
        """States other than h: side by side they are c, [.., own_states * H]."""
        return len(self.states) - 1

    @property
    def has_cell_state(self) -> bool:
        """Whether a unit has states other than h."""
        return self.own_states > 0

    def positive_columns(self, H: int) -> tuple[slice, ...]:
        """The places of the positive states in c."""
        own = enumerate(self.states[1:])
        return tuple(slice(at * H, at * H + H) for at, name in own if name in self.positive)


def cell(
    *,
    gates: str,
    states: str,
    per_unit: str = "",
    apart: str = "",
    from_x: str = "",
    positive: str = "",
    again: str = "",
    bare: str = "",
    starts: Mapping[str, float] | None = None,
) -> Callable[[Step], Cell]:
    """A cell from a function of one step after the products; it has the function's name.

    The function takes `p`, the pre-activations by gate with the biases added, then the states
    before the step, then the per-unit parameters, and returns the states after it. It is run once,
    on symbols: it may use + - * /, comparisons inside `where`, and this package's functions.

    Args:
        gates, states, per_unit, apart, from_x, positive, again, bare: names separated by spaces, as
            in `Cell`.
        starts: the initial values of per-unit parameters, by their names.
    Raises:
        ValueError: a name is not allowed or appears twice, a kind of gate names none or not the
            gates that it may, `positive` names no state other than h, or `starts` has no parameter
            or no number.
    """
    named = {
        "gates": tuple(gates.split()),
        "states": tuple(states.split()),
        "per_unit": tuple(per_unit.split()),
        "apart": tuple(apart.split()),
        "from_x": tuple(from_x.split()),
        "positive": tuple(positive.split()),
        "again": tuple(again.split()),
        "bare": tuple(bare.split()),
    }
    begun = dict(starts or {})

    def defined(step: Step) -> Cell:
        name = step.__name__
        check_names(name, named)
        return Cell(
            name=name, step=step, starts=checked_starts(name, named["per_unit"], begun), **named
        )

    return defined


def check_names(cell: str, named: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse names that a cell cannot have, by their field of `Cell`.

    Raises:
        ValueError: as for `cell`.
    """
    for field in ("gates", "states"):
        if not named[field]:
            raise ValueError(f"cell {cell!r} has no {field}; name at least one")
    every = (*named["gates"], *named["states"], *named["per_unit"])
    for each in every:
        if not each.isidentifier() or iskeyword(each) or each.startswith("_"):
            raise ValueError(f"cell {cell!r} names {each!r}; expected a plain Python name")
        if each in RESERVED or RESERVED_FORMS.search(each):
            raise ValueError(
                f"cell {cell!r} names {each!r}, a name that the generated code uses itself; "
                "give it another name"
            )
        if every.count(each) > 1:
            raise ValueError(f"cell {cell!r} names {each!r} twice; expected different names")
    known_of = {"positive": named["states"][1:], **dict.fromkeys(KINDS, named["gates"])}
    for field, known in known_of.items():
        for each in named[field]:
            if each not in known:
                choice = ", ".join(known) or "none"
                raise ValueError(f"cell {cell!r} has {field}={each!r}; expected one of: {choice}")
    _check_kinds(cell, named)


def _check_kinds(cell: str, named: Mapping[str, tuple[str, ...]]) -> None:
    gates, again = named["gates"], named["again"]
    for each in gates:
        of = [kind for kind in KINDS if each in named[kind]]
        if len(of) > 1:
            raise ValueError(f"cell {cell!r} has {each!r} both {' and '.join(of)}; choose one")
        parts = [f"{each}_{part}" for part in "xhb"] if of and of != ["from_x"] else []
        for part in parts:
            if part in gates:
                raise ValueError(
                    f"cell {cell!r} names a gate {part!r}, which may be a part of {each!r}; "
                    "give it another name"
                )
    if again and gates[-len(again) :] != again:
        raise ValueError(f"cell {cell!r} has again={' '.join(again)!r}; expected its last gates")
    bare = named["bare"]
    if gates[: len(bare)] != bare:
        raise ValueError(f"cell {cell!r} has bare={' '.join(bare)!r}; expected its first gates")


def checked_starts(
    cell: str, per_unit: tuple[str, ...], starts: Mapping[str, float]
) -> tuple[tuple[str, float], ...]:
    """The initial values of per-unit parameters, in their order.

    Raises:
        ValueError: a name is not a parameter's, or its value is not a finite number.
    """
    for name, value in starts.items():
        if name not in per_unit:
            known = ", ".join(per_unit) or "none"
            raise ValueError(f"cell {cell!r} starts {name!r}; expected one of: {known}")
        if type(value) not in (int, float) or not is_finite(value):
            raise ValueError(f"cell {cell!r} starts {name!r} at {value!r}; expected a number")
    return tuple((name, float(starts[name])) for name in per_unit if name in starts)


def is_finite(value: float) -> bool:
    """Whether a float can hold a number."""
    try:
        return isfinite(value)
    except OverflowError:  # an integer that is too large for a float
        return False
