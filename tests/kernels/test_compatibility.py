"""docs/compatibility.md tells what is found, ours are no worse than torch.nn's, lies are seen."""

from typing import Any
from unittest.mock import patch

import compatibility
import pytest
import torch
from compatibility import COLUMNS, ERROR, INTERPRETED, LEFT_ALONE, ROWS, WORKS, WRONG, Cell, find
from integrations import TORCH_NN, Column, Row
from places import ROOT
from torch.nn.utils.rnn import PackedSequence

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.autocast import _onednn_has_bfloat16

TEXT = (ROOT / "docs" / "compatibility.md").read_text()
PAGE = compatibility.read(TEXT)
# A message, and what PyTorch's own module can do, are those of the version that made the page.
VERSION = TEXT.partition("torch ")[2].partition(",")[0]
ONEDNN = "with bfloat16" in TEXT
# Every change tries these: PyTorch's own, what is made of its operations, and a kernel.
QUICK = (TORCH_NN, "auto", "naive", "pointwise")
FAST = [row for row in ROWS if not row.slow]


def cells() -> list[Any]:
    """Every cell of the table; who compiles for all shares a worker."""
    found = []
    for row in ROWS:
        for column in COLUMNS:
            marks = [pytest.mark.slow] if row.slow or column not in QUICK else []
            if column in ("compiled", "numba_cpu"):
                marks.append(pytest.mark.xdist_group(column.replace("compiled", "compiled-lstm")))
            elif row.slow:
                marks.append(pytest.mark.xdist_group(row.name))
            found.append(pytest.param(row, column, marks=marks, id=f"{row.name}-{column}"))
    return found


@pytest.mark.parametrize(("row", "column"), cells())
def test_the_page_tells_what_is_found(row: Row, column: str) -> None:
    if column in registry.backends():
        for package in registry.get(column).requires:
            pytest.importorskip(package, reason=f"{column} needs {package}")
        if column in INTERPRETED and torch.cuda.is_available():
            pytest.skip(f"{column}: runs on the GPU, and the page is a CPU's")
    found = find(row, column)
    assert found.state != WRONG, found.line
    if torch.__version__.partition("+")[0] != VERSION:
        pytest.skip(f"the page, messages included, is torch {VERSION}'s; run constraints.txt's")
    if row.by_bfloat16 and _onednn_has_bfloat16() != ONEDNN:
        pytest.skip("what torch.nn does here depends on whether oneDNN has bfloat16 on this CPU")
    assert found == PAGE[row.name, column]


def test_the_page_is_whole() -> None:
    """As it would be written now, from the cells it holds."""
    assert set(PAGE) == {(row.name, column) for row in ROWS for column in COLUMNS}
    assert compatibility.page_of(PAGE, version=VERSION, onednn=ONEDNN) == TEXT


def test_none_of_ours_is_worse_but_for_the_known() -> None:
    assert compatibility.worse(PAGE) == LEFT_ALONE
    assert {cell.state for cell in PAGE.values()} <= {WORKS, ERROR}


class WrongOutput(lk.LSTM):
    """Runs, with results half too large."""

    def forward(self, *args: Any) -> Any:
        y, states = super().forward(*args)
        if isinstance(y, PackedSequence):
            return y._replace(data=y.data * 1.5), states
        return y * 1.5, states


class WrongGradient(lk.LSTM):
    """Runs, with gradients half too large."""

    def forward(self, *args: Any) -> Any:
        y, states = super().forward(*args)
        if isinstance(y, PackedSequence):
            return y._replace(data=y.data * 1.5 - (y.data * 0.5).detach()), states
        return y * 1.5 - (y * 0.5).detach(), states


class WrongShape(lk.LSTM):
    """Runs, with a step too few."""

    def forward(self, *args: Any) -> Any:
        y, states = super().forward(*args)
        return y[1:], states


def with_module(module: type[lk.LSTM]) -> Any:
    """Have a column of that name be of these modules."""
    own = Column._made

    def made(column: Column, **settings: Any) -> torch.nn.LSTM:
        spoilt = column.name == "spoilt"
        return module(**settings, backend="naive") if spoilt else own(column, **settings)

    return patch.object(Column, "_made", made)


# What looks at no number of a result, and what has torch.nn's module run in the place of this.
NO_RESULT = {
    "forward on `meta`: shapes",
    "forward under `FakeTensorMode`: shapes",
    "ONNX's graph by tracing: one `LSTM`",
    "`FlopCounterMode` counts the products of a forward",
    "`torch.jit.script` of the model",
}
NO_GRADIENT = {"`torch.no_grad`, `torch.inference_mode`"}
RAISES = {"`quantize_dynamic`"}


@pytest.mark.parametrize("row", FAST, ids=[row.name for row in FAST])
@pytest.mark.parametrize("module", [WrongOutput, WrongGradient])
def test_a_wrong_number_is_seen_in_every_row(row: Row, module: type[lk.LSTM]) -> None:
    unseen = NO_RESULT | (NO_GRADIENT if module is WrongGradient else set())
    seen = ERROR if row.name in RAISES else WRONG
    with with_module(module):
        found = find(row, "spoilt")
    assert found.state == (WORKS if row.name in unseen else seen), found


def test_what_is_wrong_is_named() -> None:
    (row,) = [row for row in ROWS if row.run.__name__ == "called_functionally"]
    with with_module(WrongOutput):
        assert find(row, "spoilt").line.startswith("y by 0.5, d_x by 0.5, d_weight_ih_l0 by 0.5")
    with with_module(WrongGradient):
        assert find(row, "spoilt").line.startswith("d_x by 0.5, d_weight_ih_l0 by 0.5")
    with with_module(WrongShape):
        assert find(row, "spoilt") == Cell(
            WRONG, "AssertionError: shape (2, 2, 4), expected (3, 2, 4)"
        )
    assert find(row, "trtion").line.startswith("ValueError: unknown backend 'trtion'")
