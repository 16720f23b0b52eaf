"""`query` as a user types it: columns, answers in three forms, mistakes."""

import csv
import io
import json
import sys
from importlib.resources import files

import duckdb
import jsonschema
import pytest
from places import ROOT
from synthetic_runs import blocks, record
from synthetic_store import put, series

from lstm_harness.console import query
from lstm_harness.interop.store_columns import TABLES

SCHEMA = json.loads((files("lstm_harness.model") / "schemas" / "query.schema.json").read_text())
BY_RUN = "select run, count(*) as n, min(median_ns) as best_ns from records group by run order by 1"


@pytest.fixture
def store(here):
    series(here / "results", [1000, 2000])


@pytest.fixture
def csv_rows(command):
    def go(*arguments):
        code, out, err = command("query", *arguments, "--csv")
        assert code == 0, err
        return [*csv.reader(io.StringIO(out))]

    return go


def test_without_sql_it_lists_the_columns(command, document):
    code, out, err = command("query")
    assert (code, err) == (0, "")
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [
        [table, column] for table, columns in TABLES.items() for column in columns
    ]
    listed = document("query", "--json")
    assert {"table", "column", "type", "meaning"} == listed[0].keys()


def test_the_types_that_it_lists_are_those_of_the_tables(document, store):
    for table in TABLES:
        told = [row["type"] for row in document("query", "--json") if row["table"] == table]
        found = document("query", f"from {table} limit 1", "--json")["columns"]
        assert [duckdb.sqltype(kind) for kind in told] == [
            duckdb.sqltype(each["type"]) for each in found
        ]


def test_an_answer_is_a_table(command, store):
    code, out, err = command("query", BY_RUN)
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        ["run", "n", "best_ns"],
        ["run-000", "3", "1000.0"],
        ["run-001", "3", "2000.0"],
    ]


def test_an_answer_is_csv(csv_rows, store):
    assert csv_rows(BY_RUN) == [
        ["run", "n", "best_ns"],
        ["run-000", "3", "1000.0"],
        ["run-001", "3", "2000.0"],
    ]


def test_an_answer_is_json(document, store):
    found = document("query", BY_RUN, "--json")
    jsonschema.validate(found, SCHEMA)
    assert found["rows"] == [
        {"run": "run-000", "n": 3, "best_ns": 1000.0},
        {"run": "run-001", "n": 3, "best_ns": 2000.0},
    ]
    assert found["columns"][1] == {"name": "n", "type": "BIGINT"}
    nothing = document("query", "from records where false", "--json")
    jsonschema.validate(nothing, SCHEMA)
    assert nothing["rows"] == []


VALUES = {
    "null": (None, ""),
    "true": (True, "true"),
    "1.5": (1.5, "1.5"),
    "2::hugeint": (2, "2"),
    "'nan'::double": (None, ""),
    "'inf'::double": (None, "inf"),
    "[1, null]": ([1, None], "[1, null]"),
    "map {'y': 'inf'::double}": ({"y": None}, '{"y": null}'),
    "timestamp '2026-01-01 10:00:00'": ("2026-01-01T10:00:00", "2026-01-01 10:00:00"),
    "date '2026-01-01'": ("2026-01-01", "2026-01-01"),
    "interval 1 day": ("1 day, 0:00:00", "1 day, 0:00:00"),
    "'a,b'": ("a,b", "a,b"),
    "-1": (-1, "-1"),
    "'=1'": ("=1", "'=1"),
}


@pytest.mark.parametrize(("value", "expected"), VALUES.items())
def test_every_type_has_a_form(document, csv_rows, command, store, value, expected):
    as_json, as_csv = expected
    assert document("query", f"select {value} as v", "--json")["rows"] == [{"v": as_json}]
    assert csv_rows(f"select {value} as v, 0") == [["v", "0"], [as_csv, "0"]]
    assert command("query", f"select {value} as v")[0] == 0


def test_a_table_ends_where_no_reader_goes_on(command, csv_rows, store, monkeypatch):
    monkeypatch.setattr(query, "MOST_ROWS", 4)
    code, out, err = command("query", "select block from records")
    assert code == 0
    assert len(out.splitlines()) == 1 + 4
    assert err == "there are more than these 4 rows; --csv and --json print all of them\n"
    assert len(csv_rows("select block from records")) == 1 + 6
    assert command("query", "select block from records limit 4")[2] == ""


def test_no_control_character_reaches_a_terminal(command, store):
    asked = "select 'a' || chr(27) || '[31m' || chr(10) || chr(13) || chr(155) as \"x\x1b[0m\""
    for form in ((), ("--csv",), ("--json",)):
        code, out, err = command("query", asked, *form)
        assert code == 0, err
        assert not [
            char for char in out if (ord(char) < 32 and char != "\n") or 127 <= ord(char) < 160
        ]
    assert "a\ufffd[31m \ufffd\ufffd" in command("query", asked)[1]
    code, _, err = command("query", "select '\x1b[31m' from nothing\x1b[0m")
    assert code == 2
    assert "\x1b" not in err


def test_what_is_left_out_is_told(command, here, store):
    put(
        here / "results" / "copy",
        blocks("naive", [1000] * 3),
        id="results-000",
        start="2026-01-01T12:00:00+00:00",
    )
    code, out, err = command("query", "select count(*) from records", "--csv")
    assert (code, out) == (0, "count_star()\n6\n")
    assert "left out: " in err
    assert "is a copy of" in err


def test_mistakes_are_told_in_one_line(refused, here, store):
    assert "median_ns" in refused("query", "select median from records")
    assert "give one" in refused("query", "select 1", "--json", "--csv")
    assert "give a SELECT" in refused("query", "--csv")
    assert "expected one SELECT, got COPY" in refused("query", "copy records to 'x.csv'")
    assert "is not a folder" in refused("query", "select 1", "--store", "nowhere")
    assert "two columns are called 'a'" in refused("query", "select 1 as a, 2 as a", "--json")
    (here / "empty").mkdir()
    assert "holds no run" in refused("query", "select 1", "--store", "empty")


@pytest.mark.parametrize("library", ["pyarrow", "duckdb"])
def test_a_library_that_is_missing_is_named(refused, store, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    said = refused("query", "select 1")
    assert library in said
    assert "pip install 'lstm-bench[store]'" in said


def test_the_page_names_every_column():
    page = (ROOT / "docs" / "query.md").read_text()
    assert [n for columns in TABLES.values() for n in columns if f"`{n}`" not in page] == []


def test_a_run_is_a_store_of_one(document, here):
    put(here / "one", [record()])
    found = document("query", "select run from records", "--store", "one", "--json")
    assert found["rows"] == [{"run": "."}]
