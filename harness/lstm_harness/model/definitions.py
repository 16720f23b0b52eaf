"""The cells of a run that are not built in: as plain data, which files keep and processes pass on.

Whoever reads a run with such a cell knows it from there, and needs no plugin. It is the kernels who
check such data and make cells of it; they know one cell a name.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from lstm_harness.model.case import Case
from lstm_harness.model.errors import UserError
from lstm_kernels.cells import BUILT_IN, CELLS, add_cells, from_data, to_data

Definitions = tuple[Mapping[str, Any], ...]

MOST = 1000


def definitions_of(cases: Iterable[Case]) -> Definitions:
    """Of those cells of cases that are not built in."""
    return definitions_named(dict.fromkeys(case.problem.cell for case in cases))


def definitions_named(names: Iterable[str]) -> Definitions:
    """Of those of these cells that are not built in."""
    return tuple(to_data(CELLS[name]) for name in names if name not in BUILT_IN)


def kept_with(cases: Iterable[Case]) -> dict[str, Any]:
    """The same, as a field of a file; none where there are no such cells."""
    found = definitions_of(cases)
    return {"definitions": list(found)} if found else {}


def learn(stored: Any, origin: str) -> None:
    """Know the cells that a file keeps, which may be none.

    Args:
        origin: where they lie, for a message.
    Raises:
        ValueError: one is no cell.
        UserError: one is another than is known by its name.
    """
    if stored is None:
        return
    if not isinstance(stored, list) or len(stored) > MOST:
        raise ValueError(f"definitions are no list of {MOST} cells at most")
    cells = [from_data(each) for each in stored]
    try:
        add_cells(cells, origin)
    except ValueError as error:
        raise UserError(str(error)) from None
