"""The known cells: those of this package's files, and those of plugins."""

from collections.abc import Iterable
from importlib import import_module
from pkgutil import iter_modules

from lstm_kernels.cells.code.data import to_data
from lstm_kernels.cells.code.definition import Cell

CELLS: dict[str, Cell] = {}
# The origin of each cell, for a message.
_origins: dict[str, str] = {}


def add_cells(cells: Iterable[Cell], origin: str) -> None:
    """Make cells known: all or, if one is refused, none. An identical known cell is accepted.

    Args:
        origin: where they come from, for the message.
    Raises:
        TypeError: one is not a cell.
        ValueError: another cell has the same name.
    """
    added: dict[str, Cell] = {}
    for each in cells:
        if not isinstance(each, Cell):
            raise TypeError(f"{origin} has {each!r} among its cells; expected what @cell returns")
        known = CELLS.get(each.name) or added.setdefault(each.name, each)
        if known is not each and to_data(known) != to_data(each):
            other = _origins.get(each.name, origin)
            raise ValueError(
                f"{origin} defines cell {each.name!r}, but {other} has another cell of that name; "
                "give one of them another name"
            )
    CELLS.update(added)
    _origins.update(dict.fromkeys(added, origin))


def add_files_beside(package: str, path: Iterable[str]) -> None:
    """Make the cells known that the modules of a package define."""
    for found in iter_modules(path):
        if not found.ispkg and found.name != "known":
            module = import_module(f"{package}.{found.name}")
            add_cells((v for v in vars(module).values() if isinstance(v, Cell)), module.__name__)
