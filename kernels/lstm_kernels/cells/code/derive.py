"""The gradients of a cell's step, and what its forward saves for them.

Reverse mode on the step's graph. What a gradient needs from the forward is loaded or computed
again: of all values that could be saved, the cheapest set is taken, where a value that is stored
and loaded costs `LOAD`, and an operation costs what `COSTS` says. The states before and after a
step, and the per-unit parameters, are available anyway.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property

from lstm_kernels.cells.code.definition import Cell
from lstm_kernels.cells.code.symbols import (
    FUNCTIONS,
    ONE,
    ZERO,
    Node,
    add,
    divide,
    input_node,
    multiply,
    negate,
    where,
)
from lstm_kernels.cells.code.trace import Step, beyond_a_unit, in_order, traced

# In units of an addition: a function is some ten instructions, and memory costs more than that.
COSTS = {**dict.fromkeys(FUNCTIONS, 8), "relu": 1, "div": 4, "input": 0, "constant": 0}
LOAD = 12

# Nodes that are not numbers.
COMPARISONS = ("less", "less_equal")


@dataclass(frozen=True)
class Gradients:
    """The results of a step's backward, each for one step only.

    `d_before` does not contain what reaches h through its product.
    """

    d_slots: tuple[Node, ...]
    d_before: tuple[Node, ...]
    d_per_unit: tuple[Node, ...]

    @property
    def outputs(self) -> tuple[Node, ...]:
        """All of them."""
        return (*self.d_slots, *self.d_before, *self.d_per_unit)


@dataclass(frozen=True)
class Derived:
    """A step, what its forward saves, and its gradients.

    They are computed from `d_after`, `saved`, and the states before and after the step.
    """

    step: Step
    saved: tuple[Node, ...]
    d_after: tuple[Node, ...]
    gradients: Gradients

    @cached_property
    def _used(self) -> frozenset[Node]:
        given = (*self.saved, *self.step.before, *self.step.after, *self.step.per_unit)
        return frozenset(in_order(self.gradients.outputs, given))

    @cached_property
    def uses_before(self) -> tuple[bool, ...]:
        """By state, whether the gradients need it as it was before the step."""
        return tuple(node in self._used for node in self.step.before)

    @cached_property
    def uses_after(self) -> tuple[bool, ...]:
        """By state, whether the gradients need it as it is after the step."""
        return tuple(node in self._used for node in self.step.after)

    @cached_property
    def carries(self) -> tuple[bool, ...]:
        """By state, whether a gradient reaches the step before other than through the product."""
        return tuple(node is not ZERO for node in self.gradients.d_before)


@cache
def derived(cell: Cell) -> Derived:
    """The gradients of a cell's step.

    Raises:
        TypeError: the step does more than work unit by unit.
    """
    beyond = beyond_a_unit(cell)
    if beyond is not None:
        raise TypeError(f"cell {cell.name!r} {beyond}; its step alone has no gradients")
    step = traced(cell)
    d_after = tuple(input_node(f"d_{name}") for name in cell.states)
    gradients = gradients_of(step, zip(step.after, d_after, strict=True))
    return Derived(step, _saved(step, gradients), d_after, gradients)


def gradients_of(step: Step, outputs: Iterable[tuple[Node, Node]]) -> Gradients:
    """The gradients of a step's arguments, from some of its nodes and the gradient of each."""
    found = every_gradient(step, outputs)
    return Gradients(
        *(tuple(found.get(n, ZERO) for n in ns) for ns in (step.slots, step.before, step.per_unit))
    )


def every_gradient(step: Step, outputs: Iterable[tuple[Node, Node]]) -> dict[Node, Node]:
    """The same of every node that has one: none goes through a norm or a product with W_hh."""
    found: dict[Node, Node] = {}
    for node, d in outputs:
        found[node] = _sum(found[node], d) if node in found else d
    for node in reversed(list(in_order((*step.after, *found)))):
        if node in found and node.op in RULES:
            gradients = RULES[node.op](found[node], *node.args, node)
            for arg, d in zip(node.args, gradients, strict=True):
                found[arg] = _sum(found[arg], d) if arg in found else d
    return found


def _sum(d: Node, more: Node) -> Node:
    """Two parts of a gradient together; d - d*z is d*(1 - z), which is exact where z is near 1."""
    if more.op == "neg" and more.args[0].op == "mul" and d in more.args[0].args:
        left, right = more.args[0].args
        return multiply(d, ONE - (right if d is left else left))
    return add(d, more)


def _by_division(d: Node, a: Node, b: Node, quotient: Node) -> tuple[Node, ...]:
    d_a = divide(d, b)
    return d_a, negate(multiply(d_a, quotient))


def _by_choice(d: Node, is_first: Node) -> tuple[Node, ...]:
    return where(is_first, d, ZERO), where(is_first, ZERO, d)


# Of each operation, the gradients of what it takes: from its own, d, what it takes, and itself, y.
RULES: dict[str, Callable[..., tuple[Node, ...]]] = {
    "add": lambda d, a, b, y: (d, d),
    "sub": lambda d, a, b, y: (d, negate(d)),
    "mul": lambda d, a, b, y: (multiply(d, b), multiply(d, a)),
    "div": _by_division,
    "neg": lambda d, a, y: (negate(d),),
    "sigmoid": lambda d, x, y: (multiply(multiply(d, y), ONE - y),),
    "tanh": lambda d, x, y: (multiply(d, ONE - multiply(y, y)),),
    "relu": lambda d, x, y: (where(y <= ZERO, ZERO, d),),
    "exp": lambda d, x, y: (multiply(d, y),),
    "log": lambda d, x, y: (divide(d, x),),
    "maximum": lambda d, a, b, y: _by_choice(d, b < a),
    "minimum": lambda d, a, b, y: _by_choice(d, a < b),
    "where": lambda d, condition, a, b, y: (ZERO, *_by_choice(d, condition)),
}


def _saved(step: Step, gradients: Gradients) -> tuple[Node, ...]:
    """The cheapest values to save: from all pre-activations, change by change while it helps."""
    at_hand = frozenset((*step.before, *step.after, *step.per_unit))
    graph = list(in_order(step.after))
    choices = [n for n in graph if n not in at_hand and n.op not in (*COMPARISONS, "constant")]
    best = frozenset(step.slots) - at_hand
    least = _cost(step, gradients, at_hand, best)
    is_better = True
    while is_better:
        is_better = False
        for changed in _changes(best, choices):
            cost = _cost(step, gradients, at_hand, changed)
            if cost < least:
                best, least, is_better = changed, cost, True
    places = {node: place for place, node in enumerate(graph)}
    return tuple(sorted(best, key=lambda node: (_last_slot(step, node), places[node])))


def _changes(saved: frozenset[Node], choices: Iterable[Node]) -> Iterator[frozenset[Node]]:
    """One value more, less, or in another's place."""
    for less in saved:
        yield saved - {less}
    for more in choices:
        if more not in saved:
            yield saved | {more}
            for less in saved:
                yield saved - {less} | {more}


def _cost(
    step: Step, gradients: Gradients, at_hand: frozenset[Node], saved: frozenset[Node]
) -> float:
    """The cost of saving these and computing gradients from them; infinite if impossible."""
    cost = LOAD * len(saved)
    for node in in_order(gradients.outputs, at_hand | saved):
        if node not in at_hand and node not in saved:
            if node in step.slots:
                return float("inf")
            cost += COSTS.get(node.op, 1)
    return cost


def _last_slot(step: Step, node: Node) -> int:
    made_of = set(in_order([node]))
    return max((at for at, slot in enumerate(step.slots) if slot in made_of), default=-1)
