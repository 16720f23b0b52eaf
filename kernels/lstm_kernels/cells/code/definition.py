"""What a cell is: its gates, its states, and one step past the products as a Python function."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from keyword import iskeyword
from typing import Any, NamedTuple

Step = Callable[..., Any]

# What generated code calls its own: arguments, languages and their functions, and what it makes.
RESERVED = frozenset(
    [
        "p",
        "before",
        "after",
        "per_unit",
        "saved",
        "d_after",
        "products",
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
    ]
)
RESERVED_FORMS = re.compile(r"^[vs]_\d+$|^[dp]_|_(before|after)$")

# What a gate may be beside the sum of two products.
KINDS = ("apart", "from_x", "again")


class Slot(NamedTuple):
    """One pre-activation of a unit, and the blocks of H rows that it comes from.

    `x` is the block of w_ih, `h` that of w_hh; None where it meets that one not.
    """

    name: str
    x: int | None
    h: int | None


@dataclass(frozen=True)
class Cell:
    """One step's arithmetic, and the sizes that follow from it.

    `gates` are the blocks of w_ih and w_hh in their order. A gate of `apart` arrives in two parts,
    `p.n_x` and `p.n_h`; one of `from_x` meets x alone, and has no block in w_hh. A gate of `again`,
    of the last ones, is a function: `p.n(v)` has the product of W_hh's block with v in place of h.
    `states` are h, which is multiplied, then those that belong to a unit alone. `per_unit` are
    parameters [H].
    `positive` are states that a step keeps above 0 where they begin there, and divides by.
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

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The pre-activations: one a gate, in order; then the parts from h of those apart."""
        rows = [gate for gate in self.gates if gate not in self.from_x]
        first = []
        for x, gate in enumerate(self.gates):
            if gate in (*self.apart, *self.again):
                first.append(Slot(f"{gate}_x", x, None))
            else:
                first.append(Slot(gate, x, rows.index(gate) if gate in rows else None))
        last = [Slot(f"{gate}_h", None, rows.index(gate)) for gate in self.apart]
        return (*first, *last)

    @property
    def x_blocks(self) -> int:
        """Blocks of H rows of w_ih and b_ih."""
        return len(self.gates)

    @property
    def h_blocks(self) -> int:
        """Blocks of H rows of w_hh and b_hh; 0 where the cell makes no product with h."""
        return len(self.gates) - len(self.from_x)

    @property
    def own_states(self) -> int:
        """States beside h: side by side they are c, [.., own_states * H]."""
        return len(self.states) - 1

    @property
    def has_cell_state(self) -> bool:
        """Whether a unit has states beside h."""
        return self.own_states > 0

    def positive_columns(self, H: int) -> tuple[slice, ...]:
        """Where the states that are positive lie in c."""
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
) -> Callable[[Step], Cell]:
    """A cell from a function of one step past the products, whose name is the cell's.

    The function takes `p`, the pre-activations by gate with the biases added, then the states
    before the step, then the parameters a unit, and returns the states after it. It is run once,
    on symbols: it may use + - * /, comparisons inside `where`, and this package's functions.

    Args:
        gates, states, per_unit, apart, from_x, positive, again: names with spaces between, as on
            `Cell`'s page.
    Raises:
        ValueError: a name is unfit or stands twice, `apart` or `from_x` names no gate, or
            `positive` no state beside h.
    """
    named = {
        "gates": tuple(gates.split()),
        "states": tuple(states.split()),
        "per_unit": tuple(per_unit.split()),
        "apart": tuple(apart.split()),
        "from_x": tuple(from_x.split()),
        "positive": tuple(positive.split()),
        "again": tuple(again.split()),
    }

    def defined(step: Step) -> Cell:
        name = step.__name__
        check_names(name, named)
        return Cell(name=name, step=step, **named)

    return defined


def check_names(cell: str, named: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse names that a cell of that name cannot have, by the field of `Cell` they stand in.

    Raises:
        ValueError: as `cell` tells.
    """
    for field in ("gates", "states"):
        if not named[field]:
            raise ValueError(f"cell {cell!r} has no {field}; name one at least")
    every = (*named["gates"], *named["states"], *named["per_unit"])
    for each in every:
        if not each.isidentifier() or iskeyword(each) or each.startswith("_"):
            raise ValueError(f"cell {cell!r} names {each!r}; expected a plain Python name")
        if each in RESERVED or RESERVED_FORMS.search(each):
            raise ValueError(
                f"cell {cell!r} names {each!r}, which the code made of it calls something else; "
                "give it another name"
            )
        if every.count(each) > 1:
            raise ValueError(f"cell {cell!r} names {each!r} twice; expected names apart")
    known_of = {"positive": named["states"][1:], **dict.fromkeys(KINDS, named["gates"])}
    for field, known in known_of.items():
        for each in named[field]:
            if each not in known:
                choice = ", ".join(known) or "none"
                raise ValueError(f"cell {cell!r} has {field}={each!r}; expected of: {choice}")
    _check_kinds(cell, named)


def _check_kinds(cell: str, named: Mapping[str, tuple[str, ...]]) -> None:
    gates, again = named["gates"], named["again"]
    for each in gates:
        of = [kind for kind in KINDS if each in named[kind]]
        if len(of) > 1:
            raise ValueError(f"cell {cell!r} has {each!r} both {' and '.join(of)}; choose one")
    if again and gates[-len(again) :] != again:
        raise ValueError(f"cell {cell!r} has again={' '.join(again)!r}; expected its last gates")
