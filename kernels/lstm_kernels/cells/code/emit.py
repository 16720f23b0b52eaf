"""A cell's step and its gradients as source code for PyTorch, Triton or Numba.

The source has two functions, whose arguments and results are tuples:

    next_state(p, before, per_unit) -> after, saved
    gradients(d_after, saved, before, after, per_unit) -> d_p, d_before, d_per_unit

If a step does more than work unit by unit (`trace.beyond_a_unit`), there are no gradients:
PyTorch makes them. If it calls functions, `next_state` takes them as a fourth argument, by name:
a gate's product with W_hh, `layer_norm` and `batch_norm`, which return a tuple of as many values as
they take.

In a dialect that is `staged`, a step that normalises is several functions instead, for a kernel
that computes the norms between them (`stages`). `normed` are the norms' results and `values` what
they take, each function using those of earlier levels only:

    values_1(p, before, per_unit, normed, values) -> the first level's values; values_2 and so on
    next_state(p, before, per_unit, normed, values) -> after
    d_normed_1(d_after, d_values, p, before, per_unit, normed, values) -> of that level's results
    gradients(d_after, d_values, p, before, per_unit, normed, values) -> d_p, d_before, d_per_unit

p and d_p are in the order of `Cell.slots`, states in that of `Cell.states`. The gradients use those
parts of `before` and `after` that `Derived` names; the rest may be anything.
"""

import hashlib
import linecache
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from lstm_kernels.cells.code.definition import Cell
from lstm_kernels.cells.code.derive import Derived, derived
from lstm_kernels.cells.code.stages import Staged, staged
from lstm_kernels.cells.code.symbols import CHOICES, FUNCTIONS, NORMS, Node
from lstm_kernels.cells.code.trace import Step, beyond_a_unit, in_order, traced

OPERATORS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "less": "<", "less_equal": "<="}
# How tightly each binds, so that only necessary parentheses are written.
BINDING = {"less": 1, "less_equal": 1, "add": 2, "sub": 2, "mul": 3, "div": 3, "neg": 4}
# The longest line in which results are written side by side.
WIDTH = 90


@dataclass(frozen=True)
class Dialect:
    """How a language spells what Python's operators do not cover.

    `functions` is put before the names of `symbols.FUNCTIONS` and `CHOICES`. `number` has a place
    {} for a constant; `filled` one for something as wide as results are, and one for a constant
    that is a result. `decorator` is written above each function. `staged` says that norms are
    computed between functions, and not called by one.
    """

    name: str
    functions: str = ""
    number: str = "{}"
    filled: str = "full_like({}, {})"
    decorator: str = ""
    staged: bool = False


TORCH = Dialect("torch", functions="torch.", filled="torch.full_like({}, {})")

# What a function takes or returns under one name: the nodes, and their names in it.
Argument = tuple[str, Sequence[tuple[Node, str]]]


class _Writer:
    """The lines of one function."""

    def __init__(
        self,
        dialect: Dialect,
        names: dict[Node, str],
        outputs: Sequence[Node],
        per_unit: Collection[Node],
        first: Sequence[Node] = (),
    ) -> None:
        self._dialect = dialect
        self._names = dict(names)
        self.lines: list[str] = []
        order = list(in_order((*first, *outputs), names))
        self._first = frozenset(first)
        inputs = [node for node in names if node in set(order)]
        # The value that a constant must be as wide as; without another choice, the first one.
        wide = [node for node in inputs if node not in per_unit]
        like = (wide or list(names))[0]
        self._like = names[like]
        # Values that are equal in every row: per-unit parameters, and what is computed only from
        # them.
        self._narrow = set(per_unit)
        for node in order:
            wider = [each for each in node.args if each not in self._narrow]
            if len(wider) < len(node.args) and all(each.op == "constant" for each in wider):
                self._narrow.add(node)
        self.inputs = frozenset((*inputs, like))
        self._uses = Counter(arg for node in order if node not in names for arg in node.args)
        self._uses.update(outputs)
        for node in order:
            if node not in self._names and self._has_a_line(node):
                text = self.text(node)
                self._names[node] = f"v_{len(self.lines)}"
                self.lines.append(f"{self._names[node]} = {text}")

    def result(self, nodes: Sequence[Node], indent: int) -> str:
        """A tuple of results, all as wide as states are."""
        texts = [self._wide(node) for node in nodes]
        comma = "," if len(texts) == 1 else ""
        return _in_lines("(", texts, f"{comma})", indent=indent)

    def text(self, node: Node) -> str:
        """A node by its name, or as an expression."""
        if node in self._names:
            return self._names[node]
        if node.op == "constant":
            return self._dialect.number.format(node.value)
        args = [self.text(each) for each in node.args]
        if node.op == "where":
            # Two constants must also give something as wide as the others.
            args[1] = self._filled(node.args[1]) if node.args[2].op == "constant" else args[1]
        elif node.op in (*FUNCTIONS, *CHOICES, *NORMS):
            # Functions of some languages do not take a number.
            args = [self._filled(each) for each in node.args]
        if node.op == "product":
            return f"{node.name}({args[0]})"
        if node.op in NORMS:
            return f"{node.op}({', '.join(args)})"
        if node.op == "part":
            return f"{args[0]}[{node.value}]"
        if node.op in (*FUNCTIONS, *CHOICES):
            return f"{self._dialect.functions}{node.op}({', '.join(args)})"
        tight = BINDING[node.op]
        if node.op == "neg":
            return f"-{self._bound(node.args[0], args[0], tight)}"
        left = self._bound(node.args[0], args[0], tight)
        return f"{left} {OPERATORS[node.op]} {self._bound(node.args[1], args[1], tight + 1)}"

    def _filled(self, node: Node) -> str:
        """A node; a constant is made as wide as the others."""
        text = self.text(node)
        return self._dialect.filled.format(self._like, text) if node.op == "constant" else text

    def _wide(self, node: Node) -> str:
        """A node, as wide as states are."""
        if node not in self._narrow:
            return self._filled(node)
        zeros = self._dialect.filled.format(self._like, self._dialect.number.format(0.0))
        return f"{zeros} + {self._bound(node, self.text(node), BINDING['add'] + 1)}"

    def _has_a_line(self, node: Node) -> bool:
        """Nodes that are used again, take long, or have a place in the order."""
        takes_long = node.op in (*FUNCTIONS, *NORMS, "product")
        is_apart = self._uses[node] > 1 or takes_long or node in self._first
        return node.op != "constant" and is_apart

    def _bound(self, node: Node, text: str, least: int) -> str:
        """In parentheses if its operator binds less tightly than the one around it."""
        is_whole = node in self._names or node.op not in BINDING
        return text if is_whole or BINDING[node.op] >= least else f"({text})"


def source_of(cell: Cell, dialect: Dialect) -> str:
    """The functions of a cell, as text."""
    in_stages = staged(cell) if dialect.staged else None
    if in_stages is not None:
        return "\n\n\n".join(_stages(in_stages, dialect)) + "\n"
    if beyond_a_unit(cell):
        return f"{_next_state(cell, traced(cell), (), dialect)}\n"
    made = derived(cell)
    forward = _next_state(cell, made.step, made.saved, dialect)
    return f"{forward}\n\n\n{_gradients(made, dialect)}\n"


def compiled(cell: Cell, dialect: Dialect, namespace: dict[str, Any]) -> dict[str, Any]:
    """The functions of a cell by name, made in a copy of a namespace with the functions they call.

    Python's own tools find their source as usual, under a name in angle brackets.
    """
    source = source_of(cell, dialect)
    # Two cells of a name, one after another, are two texts.
    digest = hashlib.sha256(source.encode()).hexdigest()[:8]
    filename = f"<cell {cell.name} {digest} for {dialect.name}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    made = dict(namespace)
    exec(compile(source, filename, "exec"), made)
    return {name: made[name] for name in made.keys() - namespace.keys() - {"__builtins__"}}


def _next_state(cell: Cell, step: Step, saved: Sequence[Node], dialect: Dialect) -> str:
    arguments = [
        ("p", _as_they_are(step.slots)),
        ("before", _as_they_are(step.before)),
        ("per_unit", _as_they_are(step.per_unit)),
    ]
    return _function(dialect, "next_state", arguments, [step.after, saved], step.functions)


def _gradients(made: Derived, dialect: Dialect) -> str:
    arguments = [("d_after", _as_they_are(made.d_after)), *_of_backward(made)]
    found = made.gradients
    results = [found.d_slots, found.d_before, found.d_per_unit]
    given = [node for _, nodes in arguments for node, _ in nodes]
    first = _shortest_first(found.d_slots, given)
    return _function(dialect, "gradients", arguments, results, first=first)


def _shortest_first(nodes: Sequence[Node], given: Iterable[Node]) -> list[Node]:
    """In each place the node that adds the fewest operations; none if none is made of another.

    What is finished early takes no register while the rest is computed, and Triton's compiler
    keeps to the order: with GRU's slots in their own order, a backward that recomputes took up to
    9 registers more. Gradients of which none is made of another may stand in any order: four
    orders of LSTM's gave the same machine code (Triton 3.7.1).
    """
    done, left, ordered = set(given), list(dict.fromkeys(nodes)), []
    made_of = {node: set(in_order([node], done)) for node in left}
    if not any(other in made_of[node] for node in left for other in left if other is not node):
        return []
    while left:
        node = min(left, key=lambda each: len(made_of[each] - done))
        left.remove(node)
        done |= made_of[node]
        ordered.append(node)
    return ordered


def _stages(made: Staged, dialect: Dialect) -> list[str]:
    """The functions of a step in stages."""
    states = [*zip(made.d_after, (node.name for node in made.d_after), strict=True)]
    gradients = [("d_after", states), ("d_values", _as_they_are(made.d_values))]
    levels = range(1, made.depth + 1)
    written = []
    for level in levels:
        results: list[Sequence[Node]] = [[made.values[at] for at in made.of_level(level)]]
        written.append(_function(dialect, f"values_{level}", _of_stage(made, level), results))
    last = _of_stage(made, made.depth + 1)
    written.append(_function(dialect, "next_state", last, [made.step.after]))
    for level in levels:
        name, results = f"d_normed_{level}", [made.d_results(level)]
        written.append(_function(dialect, name, [*gradients, *last], results))
    found = made.gradients
    results = [found.d_slots, found.d_before, found.d_per_unit]
    written.append(_function(dialect, "gradients", [*gradients, *last], results))
    return written


def _of_stage(made: Staged, level: int) -> list[Argument]:
    """What a stage before a level takes: of values, those of earlier levels."""
    step = made.step
    earlier = sum(made.levels[norm] < level for norm in made.norm_of)
    values = [(node, f"norm_{at}_before") for at, node in enumerate(made.values[:earlier])]
    return [
        ("p", _as_they_are(step.slots)),
        ("before", _as_they_are(step.before)),
        ("per_unit", _as_they_are(step.per_unit)),
        ("normed", [(node, f"norm_{at}_after") for at, node in enumerate(made.results)]),
        ("values", values),
    ]


def _of_backward(made: Derived) -> list[Argument]:
    """What a backward gets from its forward."""
    step = made.step
    names = [node.name for node in step.before]
    return [
        ("saved", [(node, f"s_{at}") for at, node in enumerate(made.saved)]),
        ("before", [(n, f"{name}_before") for n, name in zip(step.before, names, strict=True)]),
        ("after", [(n, f"{name}_after") for n, name in zip(step.after, names, strict=True)]),
        ("per_unit", _as_they_are(step.per_unit)),
    ]


def _as_they_are(nodes: Sequence[Node]) -> list[tuple[Node, str]]:
    return [(node, node.name) for node in nodes]


def _function(
    dialect: Dialect,
    name: str,
    arguments: Sequence[Argument],
    results: Sequence[Sequence[Node]],
    functions: Sequence[str] = (),
    first: Sequence[Node] = (),
) -> str:
    names: dict[Node, str] = {}
    for node, text in chain.from_iterable(nodes for _, nodes in arguments):
        # A constant stays one.
        if node.op != "constant":
            names.setdefault(node, text)
    per_unit = [node for node, _ in dict(arguments)["per_unit"]]
    writer = _Writer(dialect, names, list(chain.from_iterable(results)), per_unit, first)
    lines = [dialect.decorator] if dialect.decorator else []
    taken_in = [argument for argument, _ in arguments] + ["functions"] * bool(functions)
    lines.append(f"def {name}({', '.join(taken_in)}):")
    lines += [f'    {each} = functions["{each}"]' for each in functions]
    for argument, nodes in arguments:
        taken = [
            (text, f"{argument}[{at}]")
            for at, (node, text) in enumerate(nodes)
            if node in writer.inputs and names[node] == text
        ]
        if taken:
            left, right = (", ".join(each) for each in zip(*taken, strict=True))
            lines.append(f"    {left} = {right}")
    lines += [f"    {line}" for line in writer.lines]
    # One alone is not put into a tuple.
    found = [writer.result(nodes, indent=4 if len(results) == 1 else 8) for nodes in results]
    returned = found[0] if len(found) == 1 else _in_lines("(", found, ")", indent=4)
    lines.append(f"    return {returned}")
    return "\n".join(lines)


def _in_lines(begin: str, texts: Sequence[str], end: str, indent: int) -> str:
    """Texts separated by commas, one on each line if they are too long together."""
    whole = f"{begin}{', '.join(texts)}{end}"
    if len(whole) + indent <= WIDTH and "\n" not in whole:
        return whole
    spaces = " " * indent
    lines = [f"{spaces}    {text}," for text in texts]
    return "\n".join((begin, *lines, spaces + end.lstrip(",")))
