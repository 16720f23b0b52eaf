"""Tables that fit their reader: a terminal of any width, or a pipe, where a row is a line.

On a terminal a column is as wide as its widest cell where there is room, and else wraps between
words. Where even the words do not fit side by side, or the names at the left become tall, each row
is a block: its first cell, and below it every other cell with its header.
"""

from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

GAP = 2
# A longer word is folded where room is scarce: few names of backends have more letters.
LONGEST_WORD = 32
# A name over more lines than this is hard to read.
TALLEST_NAME = 3
# A column this narrow never wraps: a time stays next to its unit.
NARROW = 10


def show(table: Table, console: Console) -> None:
    """Print a table on a console: on a terminal no line is wider, elsewhere a row is a line.

    Args:
        table: a container of headers and cells, of which rich lays nothing out.
    """
    headers = [Text(str(column.header), style="bold") for column in table.columns]
    rows = [
        [_text(cell) for cell in row]
        for row in zip(*(column.cells for column in table.columns), strict=True)
    ]
    columns = [list(column) for column in zip(headers, *rows, strict=True)]
    widths = fitted(columns, console.width) if console.is_terminal else _whole(columns)
    if widths is None or max(_heights(columns[0], widths[0], console)) > TALLEST_NAME:
        lines = (line for row in rows for line in _block(headers, row, console))
    else:
        lines = (line for row in (headers, *rows) for line in _row(row, widths, console))
    for line in lines:
        line.rstrip()
        console.print(line, soft_wrap=True)


def fitted(columns: Sequence[Sequence[Text]], width: int) -> list[int] | None:
    """How wide each column is where all have this much room; None where words do not fit.

    Every column gets its longest word. The rest goes first to those that need least to be whole.
    """
    whole = _whole(columns)
    widths = [
        all_of_it if all_of_it <= NARROW else max(map(_longest_word, cells))
        for cells, all_of_it in zip(columns, whole, strict=True)
    ]
    needs = [all_of_it - least for all_of_it, least in zip(whole, widths, strict=True)]
    spare = width - sum(widths) - GAP * (len(columns) - 1)
    if spare < 0:
        return None
    by_need = sorted(range(len(columns)), key=needs.__getitem__)
    for place, each in enumerate(by_need):
        given = min(needs[each], spare // (len(by_need) - place))
        widths[each] += given
        spare -= given
    return widths


def _heights(cells: Sequence[Text], width: int, console: Console) -> Iterator[int]:
    """How many lines each cell of a column takes."""
    return (len(cell.wrap(console, max(width, 1), overflow="fold")) for cell in cells)


def _row(cells: Sequence[Text], widths: Sequence[int], console: Console) -> Iterator[Text]:
    """The lines of a row, each cell wrapped to its column."""
    wrapped = [
        cell.wrap(console, max(width, 1), overflow="fold")
        for cell, width in zip(cells, widths, strict=True)
    ]
    for number in range(max(map(len, wrapped))):
        line, start = Text(), 0
        for lines, width in zip(wrapped, widths, strict=True):
            if number < len(lines):
                line.append(" " * (start - line.cell_len)).append_text(lines[number])
            start += width + GAP
        yield line


def _block(headers: Sequence[Text], cells: Sequence[Text], console: Console) -> Iterator[Text]:
    """A row as a block: its first cell, then each other that is not empty, after its header."""
    pairs = [
        Text.assemble(header, " " if header.plain else "", cell)
        for header, cell in zip(headers, cells, strict=True)
    ]
    yield from pairs[0].wrap(console, console.width, overflow="fold")
    told = (pair for pair, cell in zip(pairs[1:], cells[1:], strict=True) if cell.plain)
    for line in _filled(told, console.width - GAP, console):
        yield Text.assemble(" " * GAP, line)


def _filled(parts: Iterable[Text], width: int, console: Console) -> list[Text]:
    """Lines of parts, each part whole where a line holds it, else wrapped between its words."""
    lines: list[Text] = []
    for part in parts:
        joined = Text.assemble(lines[-1], " " * GAP, part) if lines else part
        if lines and joined.cell_len <= width:
            lines[-1] = joined
        else:
            lines += part.wrap(console, width, overflow="fold")
    return lines


def _whole(columns: Sequence[Sequence[Text]]) -> list[int]:
    """How wide each column is with every cell on one line."""
    return [max(map(_longest_line, cells)) for cells in columns]


def _text(cell: object) -> Text:
    return cell if isinstance(cell, Text) else Text(str(cell))


def _longest_word(cell: Text) -> int:
    words = max(map(cell_len, cell.plain.split()), default=0)
    return min(words, LONGEST_WORD)


def _longest_line(cell: Text) -> int:
    return max(map(cell_len, cell.plain.splitlines()), default=0)
