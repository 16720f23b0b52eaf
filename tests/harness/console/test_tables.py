"""Tables that fit: side by side where words fit, as blocks where they do not, a line when piped."""

from io import StringIO

import pytest
from rich.console import Console
from rich.text import Text

from lstm_harness.console import tables
from lstm_harness.console.output import empty_table


def shown(table, width=None, **options):
    options = {"color_system": None, "force_jupyter": False} | options
    file = StringIO()
    terminal = width is not None
    tables.show(table, Console(file=file, width=width or 80, force_terminal=terminal, **options))
    return file.getvalue()


@pytest.fixture
def table():
    made = empty_table("case", "what it is")
    made.add_row(Text("one two"), Text("a text of several words that needs room"))
    made.add_row("three", "")
    return made


def test_with_room_a_row_is_a_line(table):
    assert shown(table, 80).splitlines() == [
        "case     what it is",
        "one two  a text of several words that needs room",
        "three",
    ]


def test_what_lacks_room_wraps_between_words_in_its_column(table):
    assert shown(table, 30).splitlines() == [
        "case     what it is",
        "one two  a text of several",
        "         words that needs room",
        "three",
    ]


def test_where_words_do_not_fit_a_row_is_a_block_with_headers(table):
    assert shown(table, 12).splitlines() == [
        "case one two",
        "  what it is",
        "  a text of",
        "  several",
        "  words that",
        "  needs room",
        "case three",
    ]


def test_a_pipe_has_a_line_a_row_and_nothing_else(table):
    table.add_row("x" * 500, "[bold]y[/bold]")
    lines = shown(table).splitlines()
    assert lines[0].split("  ")[-1] == "what it is"
    assert lines[-1] == f"{'x' * 500}  [bold]y[/bold]"
    assert not [line for line in lines if line != line.rstrip()]


def test_a_word_longer_than_any_name_is_folded():
    made = empty_table("name", "why")
    made.add_row("n" * 100, "no")
    lines = shown(made, 40).splitlines()
    assert max(map(len, lines)) <= 40
    assert "".join(line.split("  ")[0].strip() for line in lines[1:]) == "n" * 100


def test_no_color_is_kept(table, monkeypatch):
    table.add_row(Text("red", style="red"), "")
    assert "\x1b[31m" in shown(table, 80, color_system="standard")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in shown(table, 80, color_system="standard")
