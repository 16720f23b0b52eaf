"""The cells of a run that are not built in: as plain data, which files keep and processes pass on.

A reader of such a run gets the cell from there, and needs no plugin. The kernels
check such data and make cells of it; they know one cell for each name.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from lstm_harness.model.case import Case
from lstm_harness.model.errors import UserError
from lstm_kernels.cells import BUILT_IN, CELLS, add_cells, from_data, to_data

Definitions = tuple[Mapping[str, Any], ...]

MOST = 1000


def definitions_of(cases: Iterable[Case]) -> Definitions:
    """The cells of these cases that are not built in, as data."""
    return definitions_named(dict.fromkeys(case.problem.cell for case in cases))


def definitions_named(names: Iterable[str]) -> Definitions:
    """Those of these cells that are not built in, as data."""
    return tuple(to_data(CELLS[name]) for name in names if name not in BUILT_IN)


def kept_with(cases: Iterable[Case]) -> dict[str, Any]:
    """The same, as a field of a file; no field if there are no such cells."""
    found = definitions_of(cases)
    return {"definitions": list(found)} if found else {}


def learn(stored: Any, origin: str) -> None:
    """Make known the cells that a file stores, if any.

    Args:
        origin: where they come from, for a message.
    Raises:
        ValueError: one is not a cell.
        UserError: another cell is already known by the same name.
    """
    if stored is None:
        return
    if not isinstance(stored, list) or len(stored) > MOST:
        raise ValueError(f"definitions are not a list; expected at most {MOST} cells")
    cells = [from_data(each) for each in stored]
    try:
        add_cells(cells, origin)
    except ValueError as error:
        raise UserError(str(error)) from None
