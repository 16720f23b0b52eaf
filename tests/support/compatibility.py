"""The page docs/compatibility.md: how an LSTM on each backend fares with PyTorch's own tools.

    python tests/support/compatibility.py docs/compatibility.md

`tests/kernels/test_compatibility.py` finds every cell again and holds the page to it.
"""

import importlib
import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import closeness
import integrations
import interpreted
import torch
from integrations import TORCH_NN, Column, Row

from lstm_kernels import measured, registry
from lstm_kernels.autocast import _onednn_has_bfloat16

# Before anything that imports Triton, as torch's compilers do.
interpreted.begin()
for part in ("modules", "gradients", "compilers"):
    importlib.import_module(f"integrations_of_{part}")
ROWS = integrations.ROWS

INTERPRETED = [b.name for b in registry.BUILT_IN if b.interpreter]
# Libraries other than PyTorch: docs/peers.md says what they can do.
PEERS = [
    each.name for each in registry.BUILT_IN if "peers" in map(registry._EXTRA_OF.get, each.requires)
]
COLUMNS = [
    *(TORCH_NN, "auto"),
    *(
        b.name
        for b in registry.BUILT_IN
        if b.raced and b.name not in PEERS and ("cpu" in b.devices or b.interpreter)
    ),
]
WORKS, ERROR, WRONG = "works", "error", "wrong"
# Of a message's first line so much is told.
LINE = 150

HEAD = """# With PyTorch's own tools

This page is a reference: which of PyTorch's tools work with an `lstm_kernels.LSTM` on each backend,
and with `torch.nn.LSTM`. It was made with torch {torch}, a CPU{onednn} bfloat16 in oneDNN, and one
thread.

- `works`: results, and gradients where there are any, are those of a plain float64 `torch.nn.LSTM`
  with the same numbers. The bound is a relative L2 error of 1e-5 (float64 1e-12, bfloat16 3e-2,
  under autocast twice that, `quantize_dynamic` 5e-2). It is not enough that nothing was raised.
- `error`: it raised an error, or the tool skipped the layer, wholly or in part (`quantize_dynamic`,
  ONNX, the counter of `FlopCounterMode`). The number is that of a line below the table.
- `wrong`: it ran, and the numbers are different.

The backend that computes is not always the one that was named:

- `torch.jit`, `torch.export`, ONNX, `meta` and fake tensors see `torch.nn`'s own path.
- `vmap`, `jvp` and forward mode run on `naive` where they cannot go through a backend.

{operators} are operators of PyTorch. So
`torch.compile`, `torch.export` for any T and the counter of `FlopCounterMode` see them.
`torch.compile` leaves every other backend as it is.

{interpreted} ran under their interpreters, on a CPU.
`graphed` and `cudnn` need CUDA and are not here. The [peers](peers.md) are not here either. Of
ONNX's graph, the operators and their weights were compared; the graph was not run.
`make compatibility-page` makes this page, and `tests/kernels/test_compatibility.py` checks every
cell.

"""

LEFT_ALONE_BY_INTENT = """\
An int8 layer has no backend to choose. So `torch.ao.quantization` leaves a layer of ours as it is.
The layer warns of this and says what to put in its place. Everywhere else ours works where
`torch.nn.LSTM` does."""

# Where a tool passes over ours by intent, and the layer warns of it: rows, and which backends.
LEFT_ALONE = {"`quantize_dynamic`": tuple(COLUMNS[1:])}


@dataclass(frozen=True)
class Cell:
    """What was found: `works`, `error` with its line, or `wrong` with the errors."""

    state: str
    line: str = ""


Cells = dict[tuple[str, str], Cell]  # by the names of row and column


def find(row: Row, column: str) -> Cell:
    """Try one integration of one column."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = row.run(Column(column))
    except Exception as error:  # noqa: BLE001 - whatever it raises is what is told
        torch._dynamo.reset()  # which would not try again what it could not compile
        return Cell(ERROR, line_of(error))
    finally:
        torch.set_num_threads(threads)
    try:
        errors = closeness.relative_errors(found.got, found.want)
    except AssertionError as error:  # of another shape, or one too many or too few
        return Cell(WRONG, line_of(error))
    over = [f"{name} by {error:.1g}" for name, error in errors.items() if not error <= found.bound]
    return Cell(WRONG, ", ".join(over)) if over else Cell(WORKS)


def line_of(error: BaseException) -> str:
    """An error in one line that is the same everywhere: no addresses, no folders."""
    text = next((line for line in str(error).splitlines() if line.strip()), "").strip()
    text = re.sub(r"0x[0-9a-f]+", "0x...", text)
    text = re.sub(r"(?<![\w.])/[\w./+-]+/", "", text).replace("`", "'")
    text = text if len(text) <= LINE else text[: LINE - 3] + "..."
    return f"{type(error).__name__}: {text}"


def worse(cells: Cells) -> dict[str, tuple[str, ...]]:
    """Rows that torch.nn's works in, with those of ours that do not."""
    names = list(dict.fromkeys(row for row, _ in cells))
    ours = COLUMNS[1:]
    found = {
        name: tuple(column for column in ours if cells[name, column].state != WORKS)
        for name in names
        if cells[name, TORCH_NN].state == WORKS
    }
    return {name: columns for name, columns in found.items() if columns}


def page_of(cells: Cells, *, version: str, onednn: bool) -> str:
    """The page."""
    lines = list(dict.fromkeys(cell.line for cell in cells.values() if cell.line))

    def shown(cell: Cell) -> str:
        return f"{cell.state} {lines.index(cell.line) + 1}" if cell.line else cell.state

    table = [f"| | | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 2) + "|"]
    for row in ROWS:
        found = [shown(cells[row.name, column]) for column in COLUMNS]
        table.append(f"| {row.kind} | {row.name} | {' | '.join(found)} |")
    head = HEAD.format(
        torch=version,
        onednn=" with" if onednn else " without",
        interpreted=_listed(INTERPRETED),
        operators=_listed([b.name for b in registry.BUILT_IN if b.operators]),
    )
    numbered = [f"{number}. `{line}`" for number, line in enumerate(lines, 1)]
    return (
        head
        + "\n".join([*table, "", "## Errors", "", *numbered, *_left_alone(cells, lines)])
        + "\n"
    )


def _left_alone(cells: Cells, lines: list[str]) -> Iterator[str]:
    yield from ("", "## Left alone", "", LEFT_ALONE_BY_INTENT, "")
    for name, columns in worse(cells).items():
        told = [f"`{c}` ({lines.index(cells[name, c].line) + 1})" for c in columns]
        yield f"- {name}: {', '.join(told)}"


def read(page: str) -> Cells:
    """The cells of a page."""
    lines = dict(re.findall(r"^(\d+)\. `(.*)`$", page, flags=re.MULTILINE))
    cells = {}
    for text in re.findall(r"^\| (\w.*) \|$", page, flags=re.MULTILINE):
        _, name, *found = text.split(" | ")
        for column, cell in zip(COLUMNS, found, strict=True):
            state, _, number = cell.partition(" ")
            cells[name, column] = Cell(state, lines[number] if number else "")
    return cells


def _listed(names: list[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def main() -> None:
    """Write the page to the path given; fail where others are worse than those known to be."""
    logging.disable(logging.ERROR)  # what is raised is told on the page
    cells = {}
    with tempfile.TemporaryDirectory() as cache:
        # What was tuned or measured on this machine, or its like, is not what is tried.
        os.environ["XDG_CACHE_HOME"] = cache
        measured.SHIPPED = Path(cache)
        for row in ROWS:
            for column in COLUMNS:
                cells[row.name, column] = find(row, column)
    page = page_of(
        cells, version=torch.__version__.partition("+")[0], onednn=_onednn_has_bfloat16()
    )
    Path(sys.argv[1]).write_text(page)
    if worse(cells) != LEFT_ALONE:
        sys.exit(
            f"LEFT_ALONE in {__file__} has other cells than those that are worse: {worse(cells)}"
        )


if __name__ == "__main__":
    main()
