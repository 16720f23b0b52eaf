"""Cards of a store's runs: what they say, whom each is judged against, and what is read again."""

import json
import os
from pathlib import Path

import pytest
from synthetic_runs import HOSTILE, blocks, case, grid, record
from synthetic_store import environment, put, series, start

from lstm_harness.model.errors import Exit, UserError
from lstm_harness.site import cards
from lstm_harness.store import run_folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def runs(tmp_path):
    """Three runs of one case: the second slower, the third as the second."""
    series(tmp_path / "store", [100_000, 200_000, 200_000])
    return tmp_path / "store"


@pytest.fixture
def loaded(monkeypatch):
    """The runs whose records were read since."""
    seen, really = [], run_folder.load

    def load(folder):
        seen.append(Path(folder).name)
        return really(folder)

    monkeypatch.setattr(run_folder, "load", load)
    return seen


def test_a_run_is_judged_against_the_one_before_it(runs):
    shelf = cards.read(runs)
    assert list(shelf.cards) == ["run-002", "run-001", "run-000"]
    assert {path: against.base for path, against in shelf.against.items()} == {
        "run-001": "run-000",
        "run-002": "run-001",
    }
    slower, same = shelf.against["run-001"], shelf.against["run-002"]
    assert (slower.headline, slower.exit_code) == ("Regression", Exit.REGRESSION)
    assert (same.headline, same.counted) == ("No regression", "1 the same")


def test_order_is_that_of_starts_whatever_the_folders_are_called(tmp_path):
    for day in range(3):
        put(tmp_path / "s" / f"{9 - day}", blocks("naive", [100_000] * 3), start=start(day))
    shelf = cards.read(tmp_path / "s")
    assert list(shelf.cards) == ["7", "8", "9"]
    assert shelf.against["7"].base == "8"


@pytest.mark.parametrize(
    "other",
    [
        {"suite": "deep"},
        {"environment": environment(host="elsewhere")},
        {"environment": environment(cpu={"model": "A CPU", "physical_cores": 2, "threads": 1})},
        {"environment": environment(settings={"allow_tf32": True})},
        {"of": case("backward")},
    ],
    ids=["suite", "host", "threads", "settings", "cases"],
)
def test_what_is_not_the_same_measurement_is_no_run_before(tmp_path, other):
    series(tmp_path / "store" / "a", [100_000])
    series(tmp_path / "store" / "b", [100_000], first_day=1, **other)
    assert cards.read(tmp_path / "store").against == {}


def test_another_version_or_commit_is_still_compared(tmp_path):
    series(tmp_path / "store" / "a", [100_000])
    series(tmp_path / "store" / "b", [100_000], first_day=1, environment=environment(torch="3"))
    assert set(cards.read(tmp_path / "store").against) == {"b/run-001"}


def test_a_copy_is_not_the_run_before(runs, tmp_path):
    put(runs / "copy", blocks("naive", [200_000] * 3), start=start(1), id="store-001")
    assert cards.read(runs).against["copy"].base == "run-000"


def test_cells_and_failures_are_counted(tmp_path):
    records = [
        *blocks("aten", [1000] * 3),
        record("naive", status="incorrect"),
        record("per_gate", status="crashed"),
        record("triton", status="unsupported"),
    ]
    put(tmp_path / "store" / "one", records)
    card = cards.read(tmp_path / "store").cards["one"]
    assert (card.cells, card.failed, card.incorrect) == (4, 2, 1)


def test_the_headline_is_the_first_sentence_of_the_report(tmp_path):
    from lstm_harness.report.page import render

    run = put(tmp_path / "store" / "one", grid(block_count=3))
    card = cards.read(tmp_path / "store").cards["one"]
    assert card.headline.startswith("aten is fastest in")
    assert f'<p class="answer lead">{card.headline}</p>' in render([run_folder.load(run)])


def test_each_run_is_read_once_and_then_not_again(runs, loaded):
    first = cards.read(runs)
    assert sorted(loaded) == ["run-000", "run-001", "run-002"]
    loaded.clear()
    assert cards.read(runs) == first
    assert loaded == []


def test_a_new_run_costs_itself_and_the_one_before(runs, loaded):
    cards.read(runs)
    loaded.clear()
    series(runs, [100_000], first_day=3)
    assert cards.read(runs).against["run-003"].headline == "No regression"
    assert sorted(loaded) == ["run-002", "run-003"]


def test_a_run_that_changed_is_judged_anew_and_so_is_the_next(runs, loaded):
    cards.read(runs)
    loaded.clear()
    lines = [json.dumps(r.to_dict()) + "\n" for r in blocks("naive", [100_000] * 3)]
    (runs / "run-001" / run_folder.RECORDS).write_text("".join(lines))
    shelf = cards.read(runs)
    assert shelf.against["run-001"].headline == "No regression"
    assert shelf.against["run-002"].headline == "Regression"
    assert set(loaded) == {"run-000", "run-001", "run-002"}


def test_noise_learnt_since_counts(runs):
    from lstm_harness.judge import noise

    cards.read(runs)
    file = noise.file_of(environment())
    file.parent.mkdir(parents=True)
    one = record(of=case()).case
    cell = ["naive", *one.problem.to_dict().values(), "forward", "eager", "warm", "cpu"]
    file.write_text('{"schema": 1}\n' + json.dumps({"cell": cell, "differences": [3.0]}) + "\n")
    os.utime(file, (1, 1))
    assert cards.read(runs).against["run-001"].headline != "Regression"
    file.write_text("nonsense")
    os.utime(file, (1, 1))  # as where both came within the clock of a file system
    assert cards.read(runs).against["run-001"].headline == "Not judged"


def test_nothing_is_written_into_the_store(runs):
    before = sorted(runs.rglob("*"))
    cards.read(runs)
    assert sorted(runs.rglob("*")) == before


def test_a_cache_that_cannot_be_written_is_done_without(runs, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(cards.read(runs).cards) == 3


def test_broken_runs_are_told_without_a_place_outside_the_store(runs):
    (runs / "torn").mkdir()
    (runs / "torn" / run_folder.MANIFEST).write_text("{")
    (runs / "run-001" / run_folder.RECORDS).write_text("nonsense\n")
    (runs / "pipe").mkdir()
    os.mkfifo(runs / "pipe" / run_folder.MANIFEST)
    (runs / "deep").mkdir()
    (runs / "deep" / run_folder.MANIFEST).write_text("[" * 100_000)
    for _ in range(2):
        shelf = cards.read(runs)
        assert set(shelf.left_out) == {"torn", "run-001", "pipe", "deep"}
        assert "not JSON" in shelf.left_out["run-001"]
        assert str(runs) not in "".join(shelf.left_out.values())
        assert set(shelf.cards) == {"run-000", "run-002"}
    assert cards.read(runs).against["run-002"].base == "run-000"


def test_a_start_that_is_no_time_and_hostile_names_are_still_cards(tmp_path):
    for number, name in enumerate((*HOSTILE, "\ud800")):
        fields = {"label": name, "id": name, "environment": environment(host=name)}
        put(tmp_path / "store" / str(number), [record(name)], start=name, **fields)
    shelf = cards.read(tmp_path / "store")
    assert {card.label for card in shelf.cards.values()} == {*HOSTILE, "\ud800"}
    assert {card.start for card in shelf.cards.values()} == {""}
    assert cards.read(tmp_path / "store") == shelf


def test_processes_of_their_own_find_the_same(runs, monkeypatch, tmp_path):
    alone = cards.read(runs)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    monkeypatch.setattr(cards, "WORTH_PROCESSES_BYTES", 0)
    monkeypatch.setattr(cards, "CHUNK", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert cards.read(runs) == alone


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="give a folder of runs"):
        cards.read(tmp_path / "nothing")
