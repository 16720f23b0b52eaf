"""Where a bar is drawn: in a notebook's cell, redrawn in place; nowhere when nobody looks."""

import sys
from io import StringIO
from types import ModuleType, SimpleNamespace

import pytest
from rich.console import Console
from synthetic_runs import case

from lstm_harness.console import progress
from lstm_harness.model.plan import PlannedCell


class Notebook:
    """What IPython's display does, kept: the texts that the cell showed."""

    def __init__(self):
        self.outputs = 0
        self.shown = []

    def display(self, drawn, *, raw, display_id):
        assert raw
        assert display_id
        self.outputs += 1
        self.update(drawn, raw=raw)
        return self

    def update(self, drawn, *, raw):
        assert raw
        (text,) = drawn.values()
        self.shown.append(text)


@pytest.fixture
def notebook(monkeypatch):
    made = Notebook()
    module = ModuleType("IPython.display")
    module.display = made.display
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(progress.err, "is_jupyter", True)
    monkeypatch.setattr(progress, "REDRAW_S", 0.0)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as IPython's kernel does
    return made


def measure(quiet):
    cell = PlannedCell(0, 0, "aten", case(seq_len=7), None)
    with progress.LiveProgress(quiet) as watch:
        watch.planned(4, 1)
        watch.started(cell)
        watch.finished(SimpleNamespace())


def test_a_notebook_shows_the_cell_in_flight_in_one_output_and_then_nothing(notebook, capfd):
    measure(quiet=False)
    assert notebook.outputs == 1
    told = [" ".join(text.split()) for text in notebook.shown]
    assert any("1/4" in text and "aten on lstm T7" in text for text in told)
    assert any("2/4" in text for text in told)
    assert told[-1] == ""
    assert not any("\x1b" in text for text in told)
    assert capfd.readouterr() == ("", "")


def test_a_notebook_is_not_redrawn_for_every_cell(notebook, monkeypatch):
    monkeypatch.setattr(progress, "REDRAW_S", 3600.0)
    measure(quiet=False)
    assert len(notebook.shown) == 2  # the first, and what clears it


@pytest.mark.parametrize("width", [80, 100, 200])
def test_on_a_narrow_terminal_the_numbers_stay_whole(width):
    live = progress.LiveProgress(quiet=True)
    late = case(seq_len=2048, bidirectional=True, num_layers=2, lengths="uniform:1:2048")
    with live as watch:
        watch.planned(12_345, 6_789)
        watch.started(PlannedCell(0, 0, "peer_onnxruntime", late, None))
    file = StringIO()
    Console(width=width, file=file, force_terminal=True, color_system=None).print(
        live._bar._bar.get_renderable()
    )
    (line,) = file.getvalue().splitlines()
    assert len(line) <= width
    assert "6789/12345" in line
    assert "peer_onnxruntime on lstm T2048" in line


def test_what_is_counted_is_shown_likewise(notebook):
    with progress.Counting(quiet=False) as tell:
        tell(3, 5, "a label")
    assert any("3/5" in text and "a label" in text for text in notebook.shown)


def test_quiet_and_without_a_terminal_nothing_is_drawn(notebook, monkeypatch, capfd):
    measure(quiet=True)
    assert notebook.shown == []
    monkeypatch.setattr(progress.err, "is_jupyter", False)
    monkeypatch.delenv("FORCE_COLOR")
    measure(quiet=False)
    assert notebook.shown == []
    assert capfd.readouterr() == ("", "")
