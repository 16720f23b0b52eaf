"""A cell as plain data, for processes and files; and a cell made from such data.

    {"name": "mine", "gates": ["f", "n"], "states": ["h"],
     "per_unit": [], "apart": [], "from_x": [], "positive": [], "again": [],
     "nodes": [["input", "p_f"], ["sigmoid", 0], ["input", "h"], ["mul", 1, 2]], "after": [3]}

A node is an operation, then its arguments: a name, a number, or the places of earlier nodes; for
a product the gate's name, then a place; for a part the place of a norm, then which of its values.
`after` are the places of the states after a step. There may also be `bare`, like `again`, and
`starts`, {"a per-unit parameter": 0.1}. Data may come from a stranger: all of it is checked, it
contains no code, and its size is bounded.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lstm_kernels.cells.code import symbols
from lstm_kernels.cells.code.definition import (
    Cell,
    check_names,
    checked_starts,
    is_finite,
)
from lstm_kernels.cells.code.symbols import CHOICES, FUNCTIONS, NORMS, Node, constant
from lstm_kernels.cells.code.trace import in_order, traced

Data = dict[str, Any]
# The type of a node: a number, a condition, or this many values side by side.
Kind = str | int
NUMBER, CONDITION = "number", "condition"

# Several times the largest cell of this package.
MOST_NODES = 256
MOST_NAMES = 32
LONGEST_NAME = 60

_NAMES = ("gates", "states", "per_unit", "apart", "from_x", "positive", "again")
_FIELDS = ("name", *_NAMES, "nodes", "after")
# Left out if they are empty, so that older kernels read a cell that has none of these.
_MORE_NAMES = ("bare",)
_MORE = (*_MORE_NAMES, "starts")
_COMPARISONS = ("less", "less_equal")
_OPERATIONS: Mapping[str, Callable[..., Node]] = {
    "add": symbols.add,
    "sub": symbols.subtract,
    "mul": symbols.multiply,
    "div": symbols.divide,
    "neg": symbols.negate,
    "less": lambda a, b: a < b,
    "less_equal": lambda a, b: a <= b,
    **{name: getattr(symbols, name) for name in (*FUNCTIONS, *CHOICES)},
}
_ARGUMENTS = {
    **dict.fromkeys(_OPERATIONS, 2),
    **dict.fromkeys((*FUNCTIONS, "neg", "product"), 1),
    "where": 3,
}


@dataclass(frozen=True)
class Replayed:
    """A cell's step from data: its operations on its arguments. `names` are the parameters."""

    names: tuple[str, ...]
    nodes: tuple[tuple[Any, ...], ...]
    after: tuple[int, ...]

    def __call__(self, p: Any, *others: Node) -> tuple[Node, ...]:
        """The states after the step."""
        given = {f"p_{name}": node for name, node in vars(p).items()}
        given |= dict(zip(self.names, others, strict=True))
        made: list[Node] = []
        for op, *args in self.nodes:
            if op == "input":
                made.append(given[args[0]])
            elif op == "constant":
                made.append(constant(args[0]))
            elif op == "product":
                made.append(symbols.product(args[0], made[args[1]]))
            elif op == "part":
                made.append(symbols.part(made[args[0]], args[1]))
            elif op in NORMS:
                made.append(symbols.norm(op, [made[place] for place in args]))
            else:
                made.append(_OPERATIONS[op](*(made[place] for place in args)))
        return tuple(made[place] for place in self.after)


def to_data(cell: Cell) -> Data:
    """A cell as a JSON object.

    Raises:
        TypeError, ValueError: its step cannot be traced, or it is not what `from_data` takes.
    """
    step = traced(cell)
    places: dict[Node, int] = {}
    nodes: list[list[Any]] = []
    for node in in_order(step.after):
        leaf = {"input": node.name, "constant": node.value}
        of = [leaf[node.op]] if node.op in leaf else [places[each] for each in node.args]
        of = [node.name, *of] if node.op == "product" else of
        of = [*of, int(node.value)] if node.op == "part" else of
        places[node] = len(nodes)
        nodes.append([node.op, *of])
    data: Data = {"name": cell.name}
    data |= {field: list(getattr(cell, field)) for field in _NAMES}
    data |= {"nodes": nodes, "after": [places[node] for node in step.after]}
    more: Data = {field: list(getattr(cell, field)) for field in _MORE_NAMES}
    more["starts"] = dict(cell.starts)
    data |= {field: given for field, given in more.items() if given}
    _check(data)
    return data


def from_data(data: Any) -> Cell:
    """The cell from the result of `to_data`.

    Raises:
        ValueError: it is not a cell; the message says why.
    """
    _check(data)
    named = _named(data)
    step = Replayed(
        (*named["states"], *named["per_unit"]),
        tuple(tuple(node) for node in data["nodes"]),
        tuple(data["after"]),
    )
    starts = checked_starts(data["name"], named["per_unit"], data.get("starts", {}))
    cell = Cell(name=data["name"], step=step, starts=starts, **named)
    try:
        traced(cell)
    except (TypeError, ZeroDivisionError) as error:
        raise ValueError(str(error)) from None
    return cell


def _check(data: Any) -> None:
    """Refuse anything but a cell's data."""
    if not isinstance(data, dict) or data.keys() - _MORE != set(_FIELDS):
        raise ValueError(f"a cell's data is {_shown(data)}; expected {', '.join(_FIELDS)}")
    name = data["name"]
    if not _is_name(name):
        raise ValueError(f"a cell is named {_shown(name)}; expected a plain Python name")
    for field in (*_NAMES, *_MORE_NAMES):
        of_field = data.get(field, [])
        if not isinstance(of_field, list) or len(of_field) > MOST_NAMES:
            raise ValueError(
                f"cell {name!r} has {field} {_shown(of_field)}; "
                f"expected a list of at most {MOST_NAMES} names"
            )
        for each in of_field:
            if not _is_name(each):
                raise ValueError(
                    f"cell {name!r} names {_shown(each)}; expected a plain Python name"
                )
    check_names(name, _named(data))
    starts = data.get("starts", {})
    if not isinstance(starts, dict) or not all(
        _is_name(each) and _is_number(value) for each, value in starts.items()
    ):
        raise ValueError(f"cell {name!r} has starts {_shown(starts)}; expected numbers by name")
    checked_starts(name, tuple(data["per_unit"]), starts)
    _check_graph(data)


def _named(data: Data) -> dict[str, Any]:
    """The names of a cell, by the field of `Cell`."""
    return {field: tuple(data.get(field, [])) for field in (*_NAMES, *_MORE_NAMES)}


def _check_graph(data: Data) -> None:
    name, nodes, after = data["name"], data["nodes"], data["after"]
    if not isinstance(nodes, list) or len(nodes) > MOST_NODES:
        count = len(nodes) if isinstance(nodes, list) else _shown(nodes)
        raise ValueError(
            f"the step of cell {name!r} has {count} operations; expected at most {MOST_NODES}"
        )
    inputs = _inputs(data)
    kinds: list[Kind] = []
    for node in nodes:
        kind = _kind(node, inputs, data["again"], kinds)
        if kind is None:
            raise ValueError(
                f"the step of cell {name!r} has {_shown(node)}; expected an operation, then its "
                "arguments"
            )
        kinds.append(kind)
    if (
        not isinstance(after, list)
        or len(after) != len(data["states"])
        or not all(_is_place(each, kinds) and kinds[each] == NUMBER for each in after)
    ):
        raise ValueError(
            f"cell {name!r} has {_shown(after)} after a step; "
            "expected one node of numbers for each state"
        )


def _inputs(data: Data) -> frozenset[str]:
    """The possible arguments of a step."""
    slots = Cell(name=data["name"], step=lambda: None, **_named(data)).slots
    return frozenset((*(f"p_{slot.name}" for slot in slots), *data["states"], *data["per_unit"]))


def _kind(node: Any, inputs: frozenset[str], again: list[str], before: list[Kind]) -> Kind | None:
    """The type of an operation's result; None if it is not an operation on earlier nodes."""
    if not isinstance(node, list) or not node or not isinstance(node[0], str):
        return None
    op, *args = node
    if op in ("input", "constant", "part"):
        is_right = {
            "input": len(args) == 1 and isinstance(args[0], str) and args[0] in inputs,
            "constant": len(args) == 1 and _is_number(args[0]),
            "part": _is_part(args, before),
        }
        return NUMBER if is_right[op] else None
    if op == "product":
        gate, *args = args or [""]
        if gate not in again:
            return None
    if not all(_is_place(each, before) for each in args):
        return None
    of_args = [before[place] for place in args]
    if op in NORMS:
        return len(args) if 0 < len(args) <= MOST_NAMES and set(of_args) == {NUMBER} else None
    wanted = [NUMBER] * _ARGUMENTS.get(op, 0)
    if op == "where":
        wanted[0] = CONDITION
    if not wanted or of_args != wanted:
        return None
    return CONDITION if op in _COMPARISONS else NUMBER


def _is_part(args: list[Any], before: list[Kind]) -> bool:
    """Whether they are the place of several values, and the number of one of them."""
    if len(args) != 2:
        return False
    of, place = args
    values = before[of] if _is_place(of, before) else None
    return isinstance(values, int) and _is_place(place, range(values))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and is_finite(value)


def _is_place(value: Any, nodes: Sequence[Any]) -> bool:
    return type(value) is int and 0 <= value < len(nodes)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value.isidentifier() and len(value) <= LONGEST_NAME


def _shown(value: Any) -> str:
    """A value in few words."""
    text = repr(value)
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 3] + "..."
