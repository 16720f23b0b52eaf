"""A cell as plain data, which crosses processes and lies in files; and a cell made of such data.

    {"name": "mine", "gates": ["f", "n"], "states": ["h"],
     "per_unit": [], "apart": [], "from_x": [], "positive": [], "again": [],
     "nodes": [["input", "p_f"], ["sigmoid", 0], ["input", "h"], ["mul", 1, 2]], "after": [3]}

A node is an operation, then what it is of: a name, a number, or the places of nodes before it; of
a product the gate's name, then a place.
`after` are the places of the states after a step. Data may be a stranger's: it is checked whole, no
code is in it, and its size is bounded.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lstm_kernels.cells.code import symbols
from lstm_kernels.cells.code.definition import Cell, check_names
from lstm_kernels.cells.code.symbols import CHOICES, FUNCTIONS, Node, constant
from lstm_kernels.cells.code.trace import in_order, traced

Data = dict[str, Any]

# Several times what any cell of this package has.
MOST_NODES = 256
MOST_NAMES = 32
LONGEST_NAME = 60

_NAMES = ("gates", "states", "per_unit", "apart", "from_x", "positive", "again")
_FIELDS = ("name", *_NAMES, "nodes", "after")
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
    """A cell's step from data: its operations, on what it is given. `names` are the parameters."""

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
            else:
                made.append(_OPERATIONS[op](*(made[place] for place in args)))
        return tuple(made[place] for place in self.after)


def to_data(cell: Cell) -> Data:
    """A cell as JSON holds it.

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
        places[node] = len(nodes)
        nodes.append([node.op, *of])
    data: Data = {"name": cell.name}
    data |= {field: list(getattr(cell, field)) for field in _NAMES}
    data |= {"nodes": nodes, "after": [places[node] for node in step.after]}
    _check(data)
    return data


def from_data(data: Any) -> Cell:
    """The cell of what `to_data` made.

    Raises:
        ValueError: it is no cell; the message says why.
    """
    _check(data)
    named = {field: tuple(data[field]) for field in _NAMES}
    step = Replayed(
        (*named["states"], *named["per_unit"]),
        tuple(tuple(node) for node in data["nodes"]),
        tuple(data["after"]),
    )
    cell = Cell(name=data["name"], step=step, **named)
    try:
        traced(cell)
    except (TypeError, ZeroDivisionError) as error:
        raise ValueError(str(error)) from None
    return cell


def _check(data: Any) -> None:
    """Refuse what is no cell's data."""
    if not isinstance(data, dict) or data.keys() != set(_FIELDS):
        raise ValueError(f"a cell's data is {_shown(data)}; expected {', '.join(_FIELDS)}")
    name = data["name"]
    if not _is_name(name):
        raise ValueError(f"a cell is named {_shown(name)}; expected a plain Python name")
    for field in _NAMES:
        of_field = data[field]
        if not isinstance(of_field, list) or len(of_field) > MOST_NAMES:
            raise ValueError(
                f"cell {name!r} has {field} {_shown(of_field)}; "
                f"expected a list of {MOST_NAMES} names at most"
            )
        for each in of_field:
            if not _is_name(each):
                raise ValueError(
                    f"cell {name!r} names {_shown(each)}; expected a plain Python name"
                )
    check_names(name, {field: tuple(data[field]) for field in _NAMES})
    _check_graph(data)


def _check_graph(data: Data) -> None:
    name, nodes, after = data["name"], data["nodes"], data["after"]
    if not isinstance(nodes, list) or len(nodes) > MOST_NODES:
        count = len(nodes) if isinstance(nodes, list) else _shown(nodes)
        raise ValueError(
            f"the step of cell {name!r} has {count} operations; expected {MOST_NODES} at most"
        )
    inputs = _inputs(data)
    is_number: list[bool] = []
    for node in nodes:
        if not _is_node(node, inputs, data["again"], is_number):
            raise ValueError(
                f"the step of cell {name!r} has {_shown(node)}; expected an operation, then what "
                "it is of"
            )
        is_number.append(node[0] not in _COMPARISONS)
    if (
        not isinstance(after, list)
        or len(after) != len(data["states"])
        or not all(_is_place(each, is_number) and is_number[each] for each in after)
    ):
        raise ValueError(
            f"cell {name!r} has {_shown(after)} after a step; expected a node of numbers a state"
        )


def _inputs(data: Data) -> frozenset[str]:
    """What a step may be given."""
    named = {field: tuple(data[field]) for field in _NAMES}
    slots = Cell(name=data["name"], step=lambda: None, **named).slots
    return frozenset((*(f"p_{slot.name}" for slot in slots), *data["states"], *data["per_unit"]))


def _is_node(node: Any, inputs: frozenset[str], again: list[str], is_number: list[bool]) -> bool:
    """Whether it is an operation on what stands before it; numbers, but for a condition."""
    if not isinstance(node, list) or not node or not isinstance(node[0], str):
        return False
    op, *args = node
    if op == "input":
        return len(args) == 1 and isinstance(args[0], str) and args[0] in inputs
    if op == "constant":
        return len(args) == 1 and type(args[0]) in (int, float) and _is_finite(args[0])
    if op == "product":
        gate, *args = args or [""]
        if gate not in again:
            return False
    if len(args) != _ARGUMENTS.get(op) or not all(_is_place(each, is_number) for each in args):
        return False
    numbers = [is_number[place] for place in args]
    return all(numbers) if op != "where" else numbers == [False, True, True]


def _is_place(value: Any, nodes: list[bool]) -> bool:
    return type(value) is int and 0 <= value < len(nodes)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond any float
        return False


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value.isidentifier() and len(value) <= LONGEST_NAME


def _shown(value: Any) -> str:
    """A value in few words."""
    text = repr(value)
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 3] + "..."
