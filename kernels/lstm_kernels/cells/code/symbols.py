"""The symbols that a cell's step is run on: each operation on them becomes a node of a graph.

Two nodes with the same operation on the same nodes are one, so that what a definition repeats is
computed once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn, Union

Number = Union["Node", float, int]

# Operations that are functions of one value, in definitions and in generated code.
FUNCTIONS = ("sigmoid", "tanh", "relu", "exp", "log")
# Functions of more values.
CHOICES = ("maximum", "minimum", "where")
# Functions of all units or all sequences, which return as many values as they take.
NORMS = ("layer_norm", "batch_norm")


@dataclass(frozen=True, eq=False)
class Node:
    """An operation on nodes, an input of the step by its name, or a constant.

    `op` is add, sub, mul, div, neg, one of `FUNCTIONS` or `CHOICES`, less, less_equal, product,
    one of `NORMS`, which is several values, part, one of those by its place `value`, input or
    constant.
    """

    op: str
    args: tuple["Node", ...] = ()
    name: str = ""
    value: float = 0.0

    def __add__(self, other: Number) -> "Node":
        return add(self, as_node(other))

    def __radd__(self, other: Number) -> "Node":
        return add(as_node(other), self)

    def __sub__(self, other: Number) -> "Node":
        return subtract(self, as_node(other))

    def __rsub__(self, other: Number) -> "Node":
        return subtract(as_node(other), self)

    def __mul__(self, other: Number) -> "Node":
        return multiply(self, as_node(other))

    def __rmul__(self, other: Number) -> "Node":
        return multiply(as_node(other), self)

    def __truediv__(self, other: Number) -> "Node":
        return divide(self, as_node(other))

    def __rtruediv__(self, other: Number) -> "Node":
        return divide(as_node(other), self)

    def __neg__(self) -> "Node":
        return negate(self)

    def __lt__(self, other: Number) -> "Node":
        return _node("less", (self, as_node(other)))

    def __gt__(self, other: Number) -> "Node":
        return _node("less", (as_node(other), self))

    def __le__(self, other: Number) -> "Node":
        return _node("less_equal", (self, as_node(other)))

    def __ge__(self, other: Number) -> "Node":
        return _node("less_equal", (as_node(other), self))

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "a cell's step tested whether a value is true, but it runs on symbols; "
            "write where(condition, this, that) in place of `if`"
        )


@cache
def _node(op: str, args: tuple[Node, ...] = (), name: str = "", value: float = 0.0) -> Node:
    return Node(op, args, name, value)


def input_node(name: str) -> Node:
    """The argument of a step with that name."""
    return _node("input", name=name)


def constant(value: float) -> Node:
    """A number in a definition."""
    return _node("constant", value=float(value))


def as_node(value: Number) -> Node:
    """The node itself, or the node of a number.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(value, Node):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return constant(value)
    raise TypeError(
        f"a cell's step computes with {value!r}, a {type(value).__name__}; "
        "expected its arguments, and numbers"
    )


ZERO = constant(0)
ONE = constant(1)


def add(a: Node, b: Node) -> Node:
    """Their sum."""
    if ZERO in (a, b):
        return b if a is ZERO else a
    if b.op == "neg":
        return subtract(a, b.args[0])
    if a.op == "neg":
        return subtract(b, a.args[0])
    return _folded("add", a, b)


def subtract(a: Node, b: Node) -> Node:
    """Their difference."""
    if b is ZERO:
        return a
    if a is ZERO:
        return negate(b)
    if b.op == "neg":
        return add(a, b.args[0])
    return _folded("sub", a, b)


def multiply(a: Node, b: Node) -> Node:
    """Their product; 0 times anything is 0, as a definition means it."""
    if ZERO in (a, b):
        return ZERO
    if ONE in (a, b):
        return b if a is ONE else a
    if a.op == "neg":
        return negate(multiply(a.args[0], b))
    if b.op == "neg":
        return negate(multiply(a, b.args[0]))
    return _folded("mul", a, b)


def divide(a: Node, b: Node) -> Node:
    """Their quotient."""
    if a is ZERO or b is ONE:
        return a
    if a.op == "neg":
        return negate(divide(a.args[0], b))
    return _folded("div", a, b)


def negate(a: Node) -> Node:
    """The same with the other sign."""
    if a.op == "neg":
        return a.args[0]
    if a.op == "constant":
        return constant(-a.value)
    if a.op == "sub":
        return subtract(a.args[1], a.args[0])
    return _node("neg", (a,))


def sigmoid(x: Number) -> Node:
    """1 / (1 + e^-x)."""
    return _node("sigmoid", (as_node(x),))


def tanh(x: Number) -> Node:
    """The hyperbolic tangent."""
    return _node("tanh", (as_node(x),))


def relu(x: Number) -> Node:
    """The greater of x and 0; its gradient at 0 is 0."""
    return _node("relu", (as_node(x),))


def exp(x: Number) -> Node:
    """e^x."""
    return _node("exp", (as_node(x),))


def log(x: Number) -> Node:
    """The natural logarithm."""
    return _node("log", (as_node(x),))


def product(gate: str, value: Number) -> Node:
    """The product of a gate's block of W_hh with a value, plus its bias."""
    return _node("product", (as_node(value),), name=gate)


def layer_norm(*values: Number) -> Any:
    """Values less their mean over all units, over their deviation, as `batch_norm`.

    Several are normalised as one value of all their units, and come as a tuple.
    """
    return _parts(norm("layer_norm", values))


def batch_norm(*values: Number) -> Any:
    """Each value's units less their mean over the batch: (v - mean) / sqrt(variance + 1e-5).

    The mean and the variance, whose divisor is the count, are of the sequences that still run at
    the step. There is neither gain nor shift; several values come as a tuple.
    """
    return _parts(norm("batch_norm", values))


def norm(op: str, values: Iterable[Number]) -> Node:
    """The result of `layer_norm` or `batch_norm` for some values; `part` selects one.

    Raises:
        TypeError: there is no value.
    """
    nodes = tuple(as_node(value) for value in values)
    if not nodes:
        raise TypeError(f"{op}() got no value; expected one or more")
    return _node(op, nodes)


def part(of: Node, place: int) -> Node:
    """One of the values that a norm makes."""
    return _node("part", (of,), value=place)


def _parts(of: Node) -> Node | tuple[Node, ...]:
    parts = tuple(part(of, place) for place in range(len(of.args)))
    return parts if len(parts) > 1 else parts[0]


def where(condition: Node, a: Number, b: Number) -> Node:
    """One value where a comparison holds, else the other.

    Raises:
        TypeError: the condition is not a comparison.
    """
    if not isinstance(condition, Node) or condition.op not in ("less", "less_equal"):
        raise TypeError("where() takes a comparison first, such as c < 1; then two values")
    a, b = as_node(a), as_node(b)
    return a if a is b else _node("where", (condition, a, b))


def maximum(a: Number, b: Number) -> Node:
    """The greater of two; NaN where one is. The gradient is that of the one taken."""
    return _node("maximum", (as_node(a), as_node(b)))


def minimum(a: Number, b: Number) -> Node:
    """The smaller of two; NaN where one is. The gradient is that of the one taken."""
    return _node("minimum", (as_node(a), as_node(b)))


def _folded(op: str, a: Node, b: Node) -> Node:
    if a.op == b.op == "constant":
        x, y = a.value, b.value
        if op == "div" and y == 0:
            raise ZeroDivisionError(f"a cell's step divides {x} by 0")
        return constant({"add": x + y, "sub": x - y, "mul": x * y, "div": x / (y or 1)}[op])
    return _node(op, (a, b))
