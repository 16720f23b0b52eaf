"""A step that normalises, in stages: what is computed unit by unit from one norm to the next.

A norm's results are known when its values are, those of all units. So a kernel computes the values
of the first norms, their statistics, then the values of the norms that use their results, and so
on: each such set of norms is a level. Its backward goes through the levels from the last to the
first, from the gradients of a norm's results to those of its values.
"""

from dataclasses import dataclass
from functools import cache, cached_property

from lstm_kernels.cells.code.definition import Cell
from lstm_kernels.cells.code.derive import Gradients, every_gradient, gradients_of
from lstm_kernels.cells.code.symbols import NORMS, ZERO, Node, input_node, part
from lstm_kernels.cells.code.trace import Step, beyond_a_unit, in_order, traced


@dataclass(frozen=True)
class Staged:
    """A step and its norms, level by level.

    `norms` are in the order of their levels, which begin with 1 (`levels`). `values` are what they
    take, norm by norm, and `results` what they make of it.
    """

    step: Step
    norms: tuple[Node, ...]
    levels: tuple[int, ...]

    @cached_property
    def values(self) -> tuple[Node, ...]:
        """Every value of every norm."""
        return tuple(value for norm in self.norms for value in norm.args)

    @cached_property
    def results(self) -> tuple[Node, ...]:
        """For each value its normalised one."""
        return tuple(part(norm, at) for norm in self.norms for at in range(len(norm.args)))

    @cached_property
    def norm_of(self) -> tuple[int, ...]:
        """For each value its norm's place."""
        return tuple(at for at, norm in enumerate(self.norms) for _ in norm.args)

    @property
    def depth(self) -> int:
        """How many levels there are."""
        return max(self.levels, default=0)

    @cached_property
    def d_after(self) -> tuple[Node, ...]:
        """The gradients of the states after the step, in the order of the states before it."""
        return tuple(input_node(f"d_{node.name}") for node in self.step.before)

    @cached_property
    def d_values(self) -> tuple[Node, ...]:
        """The gradients of values that come through their norms."""
        return tuple(input_node(f"d_norm_{at}_before") for at in range(len(self.values)))

    def of_level(self, level: int) -> tuple[int, ...]:
        """The places of a level's values."""
        return tuple(at for at, norm in enumerate(self.norm_of) if self.levels[norm] == level)

    def d_results(self, level: int) -> tuple[Node, ...]:
        """The gradients of a level's results, from those of later levels' values."""
        later = [at for at, norm in enumerate(self.norm_of) if self.levels[norm] > level]
        outputs = [(self.values[at], self.d_values[at]) for at in later]
        outputs += zip(self.step.after, self.d_after, strict=True)
        found = every_gradient(self.step, outputs)
        return tuple(found.get(self.results[at], ZERO) for at in self.of_level(level))

    @cached_property
    def gradients(self) -> Gradients:
        """The gradients of the step's arguments, from those of all values."""
        outputs = [*zip(self.values, self.d_values, strict=True)]
        outputs += zip(self.step.after, self.d_after, strict=True)
        return gradients_of(self.step, outputs)


@cache
def staged(cell: Cell) -> Staged | None:
    """The stages of a cell that normalises, or takes bare products; None for any other."""
    if beyond_a_unit(cell) is None or cell.again:
        return None
    step = traced(cell)
    levels: dict[Node, int] = {}
    for node in in_order(step.after):
        if node.op in NORMS:
            within = (levels[each] for each in in_order(node.args) if each in levels)
            levels[node] = 1 + max(within, default=0)
    norms = sorted(levels, key=levels.__getitem__)
    return Staged(step, tuple(norms), tuple(levels[norm] for norm in norms))
