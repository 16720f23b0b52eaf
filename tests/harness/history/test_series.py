"""`history` of stores with known truth: what it says, draws and leaves out."""

import json
import shutil
from importlib.resources import files

import jsonschema
import pytest
from synthetic_runs import HOSTILE, blocks, case, grid, record
from synthetic_store import environment, put, put_halves_and_whole, series, start

from lstm_harness.history.index import refresh
from lstm_harness.history.series import gather
from lstm_harness.site.history import MOST_FIGURES, render
from lstm_harness.store import run_folder

LEVEL = [1000, 1010, 990, 1005, 995, 1008, 992, 1003, 997, 1000]
SLOWER = [round(1.2 * time) for time in LEVEL]
SCHEMA = json.loads((files("lstm_harness.model") / "schemas" / "history.schema.json").read_text())


def found(folder):
    return gather(refresh(folder))


def test_a_step_is_told_with_its_run_commit_and_size(command, here):
    series(here / "runs", LEVEL + SLOWER)
    code, out, err = command("history", "runs")
    assert (code, err) == (0, "")
    table, _, changes = out.partition("\n+")
    assert table.splitlines()[1].split() == [
        *("lstm", "T32", "B4", "H64", "float32", "forward", "naive", "20"),
        *("1.2", "µs", "+0.0%", "+20.0%", "2026-01-11", "runs-010", "000000000"),
    ]
    assert changes.startswith("20.0% naive lstm T32 B4 H64 float32 forward: 1 µs to 1.2 µs at")
    assert "runs-010" in changes


def test_the_order_is_that_of_starts_whatever_the_folders_are_called(here):
    for day, time in enumerate(LEVEL + SLOWER):
        put(here / "runs" / f"{99 - day}", blocks("naive", [time] * 3), start=start(day))
    (one,) = found(here / "runs").series
    assert list(one.times_ns) == LEVEL + SLOWER
    assert [change.at for change in one.changes] == [10]


def test_worst_comes_first_and_without_a_time_before_all(here):
    series(here / "runs" / "a", LEVEL + SLOWER, backend="slower")
    series(here / "runs" / "b", SLOWER + LEVEL, backend="faster")
    series(here / "runs" / "c", LEVEL, backend="steady")
    series(here / "runs" / "d", LEVEL, backend="broken")
    put(here / "runs" / "last", [record("broken", status="incorrect")], start=start(30))
    history = found(here / "runs")
    assert [one.backend for one in history.series] == ["broken", "slower", "steady", "faster"]
    assert history.series[0].last_status == "incorrect"
    assert len(history.series[0].times_ns) == 10


def test_another_environment_begins_a_series_anew_and_is_marked(command, here):
    series(here / "runs" / "a", LEVEL)
    newer = environment(torch="2.14.0")
    series(here / "runs" / "b", SLOWER, first_day=10, environment=newer)
    (one,) = found(here / "runs").series
    (change,) = one.changes
    assert (change.kind, change.at, change.what) == (
        *("environment", 10),
        ("torch 2.13.0 -> 2.14.0",),
    )
    assert one.last_step is None
    _, out, _ = command("history", "runs")
    assert "no step in any series" in out
    assert "1 series begins again on bench-host, A CPU at 2026-01-11 b-010" in out
    assert "torch 2.13.0 -> 2.14.0" in out


def test_a_step_is_searched_for_on_either_side_of_an_environment_change(here):
    series(here / "runs" / "a", LEVEL + SLOWER)
    newer = environment(cpu=environment()["cpu"] | {"threads": 1})
    later = {"first_day": 20, "environment": newer}
    series(here / "runs" / "b", [2 * time for time in LEVEL + SLOWER], **later)
    (one,) = found(here / "runs").series
    kinds = [(change.kind, change.at) for change in one.changes]
    assert kinds == [("step", 10), ("environment", 20), ("step", 30)]
    assert one.changes[1].what == ("cpu.threads 2 -> 1",)


@pytest.mark.parametrize(
    "same",
    [
        {"ram_bytes": 1},
        {"git": {"commit": "f" * 40, "dirty": True}},
        {"start": {"load": [9.0]}},
        {"cuda": "13.0"},
        {"triton": "4"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_a_cpu_time_does_not_depend_on_begins_nothing(here, same):
    series(here / "runs" / "a", LEVEL)
    series(here / "runs" / "b", LEVEL, first_day=10, environment=environment(**same))
    assert [one.changes for one in found(here / "runs").series] == [()]


def test_a_run_that_was_merged_into_another_is_no_point_of_its_own(here):
    put_halves_and_whole(here / "runs")
    history = found(here / "runs")
    assert [run.path for run in history.runs] == ["whole"]
    assert history.left_out == (
        ("first", "it was merged into whole"),
        ("second", "it was merged into whole"),
    )
    shutil.rmtree(here / "runs" / "whole")
    assert [run.path for run in found(here / "runs").runs] == ["first", "second"]


def test_two_machines_are_two_series(command, here):
    series(here / "runs" / "a", LEVEL)
    series(here / "runs" / "b", SLOWER, first_day=10, environment=environment(host="other"))
    history = found(here / "runs")
    assert [len(one.times_ns) for one in history.series] == [10, 10]
    assert {one.machine["host"] for one in history.series} == {"bench-host", "other"}
    assert "other, A CPU" in command("history", "runs")[1]


def test_a_failed_run_is_no_point(here):
    series(here / "runs", LEVEL[:3])
    put(here / "runs" / "odd", [record(status="crashed")], start=start(1))
    (one,) = found(here / "runs").series
    assert len(one.times_ns) == 3
    assert len(one.failed) == 1
    assert one.last_status == "ok"


def test_a_copy_of_a_run_counts_once(command, here):
    series(here / "runs" / "a", LEVEL)
    shutil.copytree(here / "runs" / "a", here / "runs" / "A")
    (here / "runs" / "A" / "run-003" / run_folder.RECORDS).write_text("")
    code, out, err = command("history", "runs", "--json")
    assert code == 0
    assert [len(one["runs"]) for one in json.loads(out)["series"]] == [10]
    assert err.count("\n") == 10
    assert "left out: A/run-003: it is a copy of a/run-003" in err
    assert "left out: a/run-004: it is a copy of A/run-004" in err


def test_broken_runs_are_one_line_each_on_stderr(command, here):
    series(here / "runs", LEVEL)
    (here / "runs" / "run-004" / run_folder.RECORDS).write_text("nonsense\n")
    (here / "runs" / "run-005" / run_folder.MANIFEST).write_text("nonsense")
    code, out, err = command("history", "runs", "--json")
    assert code == 0
    assert len(json.loads(out)["runs"]) == 8
    assert [line.split(":")[1] for line in err.splitlines()] == [" run-004", " run-005"]
    assert command("history", "runs", "--json")[1:] == (out, err)


def test_the_document_follows_its_schema(document, here):
    series(here / "runs" / "a", LEVEL + SLOWER)
    series(here / "runs" / "b", LEVEL, first_day=20, environment=environment(torch="3"))
    put(here / "runs" / "bad", [record(status="crashed")], start="never")
    put(here / "runs" / "hostile", [record(name) for name in HOSTILE], start=start(40))
    told = document("history", "runs", "--json")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(told)
    (one,) = (one for one in told["series"] if one["backend"] == "naive")
    runs = [told["runs"][place]["id"] for place in one["runs"]]
    assert runs[::10] == ["a-000", "a-010", "b-020"]
    assert told["runs"][one["changes"][0]["run"]]["id"] == "a-010"
    assert len(told["left_out"]) == 1


def test_words_choose_cases_and_names_backends(document, here):
    put(here / "runs" / "one", grid(block_count=1))
    sizes = document("history", "runs", "--json", "--case", "B1 forward T32")["series"]
    assert {one["problem"]["batch"] for one in sizes} == {1}
    assert {one["problem"]["seq_len"] for one in sizes} == {32}
    named = ("--case", sizes[0]["label"], "--backend", "naive,aten")
    assert len(document("history", "runs", "--json", *named)["series"]) == 2


def test_nothing_to_show_is_said_in_one_line(refused, here):
    (here / "empty").mkdir()
    assert "holds no run" in refused("history", "empty")
    assert "not a folder" in refused("history", "nowhere")
    put(here / "runs" / "fresh", [])
    assert "has a time yet" in refused("history", "runs")
    put(here / "runs" / "one", blocks("naive", [5]))
    assert "its cases are like: lstm T32 B4" in refused("history", "runs", "--case", "T9")
    assert "unknown backend 'atne'; known: naive" in refused("history", "runs", "--backend", "atne")


def test_runs_that_are_not_whole_are_told(command, here):
    series(here / "runs", [5, 5, 5])
    put(here / "runs" / "cut", blocks("naive", [5]), start=start(9), plan={"planned_records": 4})
    garbage = put(here / "runs" / "torn", blocks("naive", [5]), start=start(10))
    (garbage / "records.jsonl").write_bytes(b"garbage without an end")
    code, out, err = command("history", "runs", "--json")
    assert code == 0
    assert err == "planned records are missing in cut (3), torn (1)\n"
    assert [run["lacks"] for run in json.loads(out)["runs"]] == [0, 0, 0, 3, 1]


def test_one_run_is_a_history_too(command, here):
    put(here / "runs" / "one", blocks("naive", [5000]))
    for place in ("runs", "runs/one"):
        code, out, _ = command("history", place)
        assert code == 0
        assert "5 µs" in out


def test_hostile_names_are_shown_as_they_are(command, here):
    for name in ("[red]loud[/red]", "=HYPERLINK(1)", "a\tb"):
        put(here / "runs" / f"{len(name)}", blocks(name, [1000]), id=f"[bold]{name}")
    code, out, _ = command("history", "runs")
    assert code == 0
    assert "[red]loud[/red]" in out


def test_the_page_has_a_figure_a_case_and_names_no_one_as_code(here, command):
    for number, name in enumerate(HOSTILE):
        series(here / "runs" / str(number), LEVEL + SLOWER, backend=name, id=name)
    code, out, _ = command("history", "runs", "--html", "page.html", "--case", "T32")
    assert code == 0
    assert out.splitlines()[-1] == "page.html"
    page = (here / "page.html").read_text()
    assert page.count('class="plot"') == 1
    assert "<script>document.title" not in page
    assert "<img src=x" not in page
    assert "<b>bold" not in page
    payload = page.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    (figure,) = json.loads(payload)
    assert len(figure["data"]) == 2 * len(HOSTILE)
    assert page.count("<tr><td") == len(HOSTILE)


def test_a_page_draws_the_worst_and_counts_the_rest(here):
    put(here / "runs" / "one", grid(["naive"], block_count=1, seq_len=(8,)))
    put(here / "runs" / "two", grid(["naive"], block_count=1, seq_len=(16,)))
    page = render(found(here / "runs"))
    assert page.count('class="plot"') == MOST_FIGURES
    assert "12 further figures are not drawn; choose cases with --case" in page


def test_levels_and_cuts_are_drawn_where_they_are(here):
    series(here / "runs" / "a", LEVEL + SLOWER)
    series(here / "runs" / "b", LEVEL, first_day=20, environment=environment(torch="3"))
    page = render(found(here / "runs"))
    payload = page.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    (figure,) = json.loads(payload)
    assert figure["cuts"] == [start(20)]
    levels = figure["data"][1]
    assert levels["x"] == [
        *(start(0), start(9), None, start(10), start(19), None, start(20), start(29), None)
    ]
    assert levels["y"][0] == pytest.approx(1e-6, rel=0.01)
    assert levels["y"][3] == pytest.approx(1.2e-6, rel=0.01)


def test_a_cell_of_another_case_is_another_series(here):
    series(here / "runs" / "a", LEVEL, of=case("forward"))
    series(here / "runs" / "b", SLOWER, of=case("backward"))
    assert {one.case.pass_name for one in found(here / "runs").series} == {"forward", "backward"}
