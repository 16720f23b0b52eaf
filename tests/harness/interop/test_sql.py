"""A statement reads the tables, and can do nothing else."""

import sys

import pytest
from synthetic_runs import blocks, case, record
from synthetic_store import put, series

from lstm_harness.interop import sql
from lstm_harness.interop.sql import ask
from lstm_harness.interop.store_columns import TABLES, meaning
from lstm_harness.interop.store_parquet import tables
from lstm_harness.model.errors import UserError


@pytest.fixture
def asked(here):
    """Ask a small store; returns the rows."""
    series(here / "store", [1000, 2000])

    def go(statement):
        with tables(here / "store") as found:
            return [*ask(found, statement).rows]

    return go


def test_tables_join_and_group(asked):
    both = "select started, max(median_ns) from runs join records using (run, started) group by all"
    assert sorted(time for _, time in asked(both)) == [1000.0, 2000.0]
    assert asked("with x as (from records) select count(*) from x") == [(6,)]
    assert asked("select count(*), sum(sample_ns)::bigint from samples") == [(18, 27_000)]
    assert asked("select sum(sample_ns)::bigint from samples where run = 'run-000'") == [(9_000,)]
    assert asked("select 1; ") == [(1,)]


def test_the_columns_are_those_that_are_told(here):
    put(here / "store" / "one", [record()])
    with tables(here / "store") as found:
        for name, columns in TABLES.items():
            assert [column for column, _ in ask(found, f"from {name}").columns] == list(columns)


def test_every_column_has_a_meaning():
    for table, columns in TABLES.items():
        assert all(meaning(table, column) for column in columns)
    assert meaning("samples", "marked") != meaning("records", "marked")


def test_a_large_answer_comes_whole(here, monkeypatch):
    monkeypatch.setattr(sql, "CHUNK", 7)
    cases = [case(seq_len=size) for size in range(1, 41)]
    put(here / "store" / "one", [each for of in cases for each in blocks("naive", [5, 6], of=of)])
    with tables(here / "store") as found:
        rows = [*ask(found, "select seq_len, block from records order by all").rows]
    assert rows == [(size, block) for size in range(1, 41) for block in (0, 1)]


STATEMENTS = {
    "COPY": "copy records to '{folder}/out.csv'",
    "COPY of a query": "copy (select 1) to '{folder}/out.parquet' (format parquet)",
    "COPY from": "copy records from '{folder}/secret.csv'",
    "EXPORT": "export database '{folder}/out'",
    "IMPORT": "import database '{folder}'",
    "ATTACH": "attach '{folder}/out.db'",
    "DETACH": "detach memory",
    "INSTALL": "install httpfs",
    "LOAD": "load httpfs",
    "LOAD of a file": "load '{folder}/out.duckdb_extension'",
    "SET": "set enable_external_access = true",
    "RESET": "reset lock_configuration",
    "PRAGMA": "pragma enable_profiling",
    "CREATE": "create table records as select 1",
    "CREATE VIEW": "create or replace view records as select 1",
    "CREATE MACRO": "create macro f() as 1",
    "CREATE SECRET": "create secret (type s3)",
    "DROP": "drop view records",
    "INSERT": "insert into records select * from records",
    "UPDATE": "update records set block = 1",
    "DELETE": "delete from records",
    "CALL": "call enable_logging(storage = 'file', storage_path = '{folder}/out')",
    "EXPLAIN ANALYZE": "explain analyze copy (select 1) to '{folder}/out.csv'",
    "PREPARE": "prepare p as copy (select 1) to '{folder}/out.csv'",
    "CHECKPOINT": "checkpoint",
    "VACUUM": "vacuum",
    "BEGIN": "begin transaction",
    "USE": "use memory",
    "two statements": "select 1; copy records to '{folder}/out.csv'",
    "two SELECTs": "select 1; select 2",
    "nothing": "",
    "a comment": "-- select 1",
}


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
def test_what_is_not_one_select_is_refused(asked, here, statement):
    with pytest.raises(UserError, match=r"expected one SELECT|Error") as refused:
        asked(statement.format(folder=here))
    assert "\n" not in str(refused.value)
    assert not [*here.glob("out*")]
    assert asked("select count(*) from records") == [(6,)]


READS = {
    "CSV": "from read_csv('{folder}/secret.csv')",
    "CSV by its name": "from '{folder}/secret.csv'",
    "text": "from read_text('{folder}/secret.csv')",
    "bytes": "from read_blob('{folder}/secret.csv')",
    "JSON": "from read_json('{folder}/secret.csv')",
    "guessing": "from sniff_csv('{folder}/secret.csv')",
    "a list of files": "from glob('{folder}/*')",
    "Parquet": "from read_parquet('{folder}/*.parquet')",
    "the facts of Parquet": "from parquet_metadata('{folder}/x.parquet')",
    "the network": "from read_csv('http://127.0.0.1:1/x.csv')",
    "a store": "from read_csv('s3://bucket/x.csv')",
    "a relative path": "from read_text('secret.csv')",
    "a way round": "from read_text('{cache}/../../../secret.csv')",
    "through query": "from query('from read_text(''{folder}/secret.csv'')')",
    "by a table's name": "from query_table('{folder}/secret.csv')",
    "Python's names": "from frame",
}


@pytest.mark.parametrize("statement", READS.values(), ids=READS)
def test_no_other_file_and_no_other_thing_is_read(asked, here, statement):
    import pandas as pd

    frame = pd.DataFrame({"secret": ["hidden"]})
    assert frame.secret[0] == "hidden"
    (here / "secret.csv").write_text("secret\nhidden\n")
    with tables(here / "store") as found:
        cache = found.runs[0].parent
    with pytest.raises(UserError) as refused:
        asked(statement.format(folder=here, cache=cache))
    assert "hidden" not in str(refused.value)


WRITES = {
    "a log": "from enable_logging(storage = 'file', storage_path = '{folder}/out')",
    "a log by its settings": "from enable_logging(storage_config = {{'path': '{folder}/out'}}, "
    "storage = 'file')",
    "a COPY in query": "from query('copy (select 1) to ''{folder}/out.csv''')",
    "a profile": "select * from pragma_profiling_output('{folder}/out')",
    "a COPY in a WITH": "with x as (copy (select 1) to '{folder}/out.csv') from x",
    "an INSERT in a WITH": "with x as (insert into runs from runs returning 1) from x",
    "a DELETE in a WITH": "with x as (delete from records returning 1) select 1",
}


@pytest.mark.parametrize("statement", WRITES.values(), ids=WRITES)
def test_no_function_writes_a_file(asked, here, statement):
    with pytest.raises(UserError):
        asked(statement.format(folder=here))
    assert not [*here.glob("out*")]


@pytest.mark.parametrize("options", ["", "(format csv, use_tmp_file false)"])
@pytest.mark.parametrize("rest", ["from x", "select 1", "select * from (select 1)"])
def test_the_tables_own_files_are_not_written_either(here, options, rest):
    put(here / "store" / "one", [record()])
    with tables(here / "store") as found:
        (path,) = found.runs
        content = path.read_bytes()
        with pytest.raises(UserError, match="expected one SELECT, got COPY"):
            ask(found, f"with x as (copy (select 1) to '{path}' {options}) {rest}")
        assert path.read_bytes() == content


def test_a_text_that_looks_like_a_statement_is_a_text(asked):
    text = '{"type":"COPY_QUERY_NODE"}'
    assert asked(f"select '{text}' as \"{text.replace(chr(34), chr(34) * 2)}\"") == [(text,)]


def test_settings_stay_as_they_are(asked):
    names = "'enable_external_access', 'lock_configuration', 'python_enable_replacements'"
    found = dict(asked(f"select name, value from duckdb_settings() where name in ({names})"))
    assert found == {
        "enable_external_access": "false",
        "lock_configuration": "true",
        "python_enable_replacements": "false",
    }


def test_what_does_not_fit_into_memory_is_told_and_no_file_is_written(asked, here, monkeypatch):
    monkeypatch.setattr(sql, "MEMORY", "20MB")
    with pytest.raises(UserError, match="expected one SELECT"):
        asked("checkpoint")
    before = {*here.rglob("*")}
    with pytest.raises(UserError, match="Out of Memory"):
        asked("select i, hash(i)::varchar from range(10_000_000) t(i) order by 2")
    assert {*here.rglob("*")} == before


MISTAKES = {
    "selec 1": "syntax error",
    "select median from records": "median_ns",
    "from record": "records",
    "select 'a'::int": "Could not convert",
    "select error('two\nlines')": "two lines",
    "select": "without selection list",
    "select 'open": "unterminated",
}


@pytest.mark.parametrize(("statement", "says"), MISTAKES.items())
def test_a_mistake_is_told_in_one_line(asked, statement, says):
    with pytest.raises(UserError, match="lists tables and columns") as refused:
        asked(statement)
    said = str(refused.value)
    assert says in said
    assert "\n" not in said
    assert "LINE 1" not in said


def test_without_duckdb_it_says_what_to_install(asked, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(UserError, match=r"needs duckdb.*pip install 'lstm-bench\[store\]'"):
        asked("select 1")
