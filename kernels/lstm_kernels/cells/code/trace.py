"""A cell's step as a graph: its function run once, on symbols."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, partial
from types import SimpleNamespace

from lstm_kernels.cells.code.definition import Cell
from lstm_kernels.cells.code.symbols import NORMS, Node, Number, as_node, input_node, product


@dataclass(frozen=True)
class Step:
    """The arguments and results of a step, one node each: `after` are the states after it."""

    slots: tuple[Node, ...]
    before: tuple[Node, ...]
    per_unit: tuple[Node, ...]
    after: tuple[Node, ...]

    @property
    def inputs(self) -> tuple[Node, ...]:
        """Everything that the step takes."""
        return (*self.slots, *self.before, *self.per_unit)

    @cached_property
    def functions(self) -> tuple[str, ...]:
        """The functions that a step calls and that are not unit by unit, in order.

        A gate's name is its product with W_hh; the others are of `NORMS`.
        """
        calls = (each for each in in_order(self.after) if each.op in (*NORMS, "product"))
        return tuple(dict.fromkeys(each.name or each.op for each in calls))


@cache
def traced(cell: Cell) -> Step:
    """The graph of a cell's step.

    Raises:
        TypeError, ValueError: the step cannot be traced, or returns anything but its
            states; the message names the cell.
    """
    slots = tuple(input_node(f"p_{slot.name}") for slot in cell.slots)
    before = tuple(input_node(name) for name in cell.states)
    per_unit = tuple(input_node(name) for name in cell.per_unit)
    p = SimpleNamespace(**{s.name: node for s, node in zip(cell.slots, slots, strict=True)})
    for gate in cell.again:
        setattr(p, gate, partial(_met_again, getattr(p, f"{gate}_x"), gate))
    try:
        found = cell.step(p, *before, *per_unit)
        after = found if isinstance(found, tuple) else (found,)
        nodes = tuple(as_node(each) for each in after)
    except (TypeError, AttributeError) as error:
        raise TypeError(f"cell {cell.name!r}: {error}") from error
    if len(nodes) != len(cell.states):
        raise ValueError(
            f"cell {cell.name!r} returns {len(nodes)} states; "
            f"expected {len(cell.states)}: {', '.join(cell.states)}"
        )
    return Step(slots, before, per_unit, nodes)


def beyond_a_unit(cell: Cell) -> str | None:
    """What a cell's step does that is not unit by unit, in words; None for most cells.

    A step without that is pointwise: it has gradients by itself, and a kernel may run it.
    """
    if cell.again:
        return "multiplies by W_hh again"
    norms = {"layer_norm": "normalises over all units", "batch_norm": "normalises over the batch"}
    called = traced(cell).functions
    if called:
        return norms[called[0]]
    return "takes products without their biases" if cell.bare else None


def mixes_batch(cell: Cell) -> bool:
    """Whether a sequence's states depend on the others of its batch."""
    return "batch_norm" in traced(cell).functions


def _met_again(from_x: Node, gate: str, value: Number) -> Node:
    return from_x + product(gate, value)


def in_order(outputs: Iterable[Node], leaves: Iterable[Node] = ()) -> Iterator[Node]:
    """Every node that outputs depend on, once, each after its own arguments.

    Args:
        leaves: nodes that are given: their arguments are left out.
    """
    stop, seen = set(leaves), set()
    # Each node twice: first to visit its arguments, then to yield it.
    pending = [(node, False) for node in reversed(list(outputs))]
    while pending:
        node, is_made = pending.pop()
        if is_made:
            yield node
        elif node not in seen:
            seen.add(node)
            pending.append((node, True))
            if node not in stop:
                pending += [(each, False) for each in reversed(node.args)]
