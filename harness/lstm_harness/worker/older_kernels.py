"""What older kernels do not have, for `ab` and CI: definitions of cells, heads, autocast.

Kernels from before cells were definitions have only PyTorch's four, and report fewer sizes.
"""

from collections.abc import Callable
from typing import NamedTuple

from lstm_kernels import registry
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Unsupported

# How the name of a plugin's module begins.
PLUGIN: str = getattr(registry, "PLUGIN", "lstm_plugin_")


class CellSizes(NamedTuple):
    """For a layer's cell: elements of c, blocks of W_hh, parameters of a unit, positive states."""

    c: int
    h_gates: int
    units: int
    positive: tuple[slice, ...]


def cell_sizes(problem: Problem) -> CellSizes:
    """The sizes of a problem's cell."""
    if not hasattr(problem, "definition"):
        c = problem.hidden_size if problem.has_cell_state else 0
        return CellSizes(c, problem.gates, 0, ())
    cell = problem.definition
    positive = cell.positive_columns(problem.hidden_size)
    return CellSizes(problem.cell_state_size, problem.h_gates, len(cell.per_unit), positive)


def met_size(problem: Problem) -> int:
    """Columns of W_hh."""
    return problem.met_size if hasattr(problem, "met_size") else problem.state_size


def unsupported(backend: str, problem: Problem, device: str) -> str | None:
    """The reason that a backend does not run a problem, or None."""
    if not hasattr(registry, "unsupported"):
        return registry.load(backend).unsupported(problem, device)  # type: ignore[no-any-return] # a module's
    return registry.unsupported(backend, problem, device)


def autocast_of() -> Callable[..., Outputs]:
    """The function that runs a layer under torch.autocast.

    Raises:
        Unsupported: the kernels have none.
    """
    try:
        from lstm_kernels.autocast import under_autocast
    except ImportError:
        raise Unsupported("the kernels of this revision do not run under autocast") from None
    return under_autocast
