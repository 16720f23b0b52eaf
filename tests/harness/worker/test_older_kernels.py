"""Kernels from before cells were definitions are raced as they are."""

import sys
from types import SimpleNamespace

import pytest

from lstm_harness.worker import older_kernels
from lstm_harness.worker.older_kernels import (
    CellSizes,
    autocast_of,
    cell_sizes,
    met_size,
    unsupported,
)
from lstm_kernels import registry
from lstm_kernels.autocast import under_autocast
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Unsupported


def test_sizes_of_todays_cells():
    assert cell_sizes(Problem("lstm", 2, 1, 3, 4)) == CellSizes(4, 4, 0, ())
    assert cell_sizes(Problem("slstm", 2, 1, 3, 4)) == CellSizes(12, 4, 0, (slice(4, 8),))
    assert cell_sizes(Problem("indrnn", 2, 1, 3, 4)) == CellSizes(0, 0, 1, ())


def test_columns_of_w_hh():
    assert met_size(Problem("lstm", 2, 1, 3, 4, heads=2)) == 2
    assert met_size(Problem("lstm", 2, 1, 3, 4, proj_size=3)) == 3
    assert met_size(SimpleNamespace(state_size=4)) == 4


def test_sizes_where_problems_tell_less():
    older = {"hidden_size": 4, "gates": 4, "has_cell_state": True}
    assert cell_sizes(SimpleNamespace(**older)) == CellSizes(4, 4, 0, ())
    assert cell_sizes(SimpleNamespace(**older | {"gates": 3, "has_cell_state": False})).c == 0


def test_where_the_registry_cannot_be_asked_the_backend_is(monkeypatch):
    problem = Problem("lstm", 2, 1, 3, 4)
    assert unsupported("naive", problem, "cpu") is None
    older = SimpleNamespace(load=registry.load)
    monkeypatch.setattr(older_kernels, "registry", older)
    assert "CUDA" in unsupported("cudnn", problem, "cpu")


def test_kernels_from_before_autocast_are_unsupported_there(monkeypatch):
    assert autocast_of() is under_autocast
    monkeypatch.setitem(sys.modules, "lstm_kernels.autocast", None)
    with pytest.raises(Unsupported, match="this revision do not run under autocast"):
        autocast_of()
