"""Baselines: as good as the run they were made from, small, and refused in one line if broken."""

import json
import math
from dataclasses import replace

import pytest
from saved_runs import save
from synthetic_runs import HOSTILE, blocks, case, grid, record, run

from lstm_harness.analysis.summary import plain_rows, summarise
from lstm_harness.judge import baseline
from lstm_harness.judge.verdict import Rules, judge
from lstm_harness.model.errors import UserError

NS = 1_000_000


@pytest.fixture
def saved(tmp_path):
    """Save records as a baseline and return its path."""

    def go(records, name="main", **fields):
        return baseline.save(run(records, **fields), name, tmp_path)

    return go


def test_it_judges_as_the_run_does(saved):
    old, new = list(grid(block_count=5)), list(grid(block_count=5, seed=7, spread=0.05))
    kept = baseline.read(saved(old)).summary
    assert judge(kept, summarise(new), Rules()) == judge(summarise(old), summarise(new), Rules())


@pytest.mark.parametrize("count", [1, 2, 4])
def test_it_judges_several_machines_as_the_run_does(saved, count):
    """By block, or in shards of one machine a case; the new side is of three machines."""

    def on_machines(records, number, shards=False):
        for each in records:
            place = each.case.problem.batch if shards else each.block
            yield replace(each, machine=f"m{place % number}")

    for shards in (False, True):
        old = list(on_machines(grid(block_count=5), count, shards))
        new = summarise(on_machines(grid(block_count=6, seed=7, spread=0.05), 3, shards))
        path = saved(old, f"{count}-{shards}")
        kept = baseline.read(path).summary
        assert judge(kept, new, Rules()) == judge(summarise(old), new, Rules())
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        several = len({record.machine for record in old}) > 1
        assert ("machine" in lines[0], "machines" in lines[1]) == (not several, several)


def test_it_holds_what_a_verdict_needs(saved):
    cells = [
        *blocks("naive", [NS, NS + 1], peak_bytes=9, cpu_ns=(7, 8), marked=(0,)),
        *(record("aten", status="crashed", block=block) for block in range(2)),
    ]
    found = {row["backend"]: row for row in plain_rows(baseline.read(saved(cells)).summary)}
    assert found["naive"]["block_medians_ns"] == (NS, NS + 1)
    assert found["naive"]["block_efforts"] == (7.5, 7.5)
    assert found["naive"]["marked_share"] == pytest.approx(1 / 3, abs=1e-4)
    assert (found["naive"]["peak_bytes_low"], found["naive"]["peak_bytes"]) == (9, 9)
    assert math.isnan(found["naive"]["saved_bytes"])
    assert (found["aten"]["status"], found["aten"]["reason"]) == ("crashed", "crashed on purpose")


def test_the_file_is_sorted_small_and_the_same_each_time(saved):
    records = list(grid(block_count=8))
    first = saved(records, "a").read_text().splitlines()
    again = saved(records[::-1], "b").read_text().splitlines()
    assert first[1:] == again[1:]
    assert max(map(len, first[1:])) < 800
    header = json.loads(first[0])
    assert header["cells"] == len(first) - 1
    assert header["environment"]["git"] == {"commit": "0123abcd", "dirty": False}
    assert header["command"] == ["lstm-bench", "run", "quick"]
    assert "." not in json.dumps(json.loads(first[1])["medians_ns"]).replace(".5", "")


def test_hostile_names_come_back_as_they_went(saved):
    kept = baseline.read(saved([r for name in HOSTILE for r in blocks(name, [NS] * 3)]))
    assert set(kept.summary["backend"]) == set(HOSTILE)


def test_heads_are_kept_and_one_is_not_told(saved):
    cells = [r for heads in (1, 2) for r in blocks("naive", [NS] * 3, of=case(heads=heads))]
    path = saved(cells)
    assert sorted(baseline.read(path).summary["heads"]) == [1, 2]
    told = [json.loads(line)["problem"].get("heads") for line in path.read_text().splitlines()[1:]]
    assert sorted(told, key=str) == [2, None]


def test_a_call_is_kept_and_a_plain_one_is_not_told(saved):
    called = case(batch_first=True, autocast="bfloat16")
    path = saved([r for of in (case(), called) for r in blocks("naive", [NS] * 3, of=of)])
    kept = baseline.read(path).summary
    told = {(row["batch_first"], row["autocast"]) for row in plain_rows(kept)}
    assert told == {(False, "none"), (True, "bfloat16")}
    lines = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    assert sorted(line.get("autocast", "") for line in lines) == ["", "bfloat16"]
    assert sorted(line.get("batch_first", False) for line in lines) == [False, True]


def test_taken_name_is_refused_unless_forced(saved, tmp_path):
    path = saved(blocks("naive", [NS]))
    with pytest.raises(UserError, match=r"'main' is taken.*--force"):
        saved(blocks("naive", [2 * NS]))
    baseline.save(run(blocks("naive", [2 * NS])), "main", tmp_path, replace=True)
    assert baseline.read(path).summary["median_ns"].tolist() == [2 * NS]
    assert [each.name for each in tmp_path.iterdir()] == ["main.jsonl"]


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "-f", "a b", "a\n", "x" * 101])
def test_name_that_is_no_plain_file_name_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="not a name for a baseline"):
        baseline.save(run(blocks("naive", [NS])), name, tmp_path)


def test_run_without_records_is_refused(saved):
    with pytest.raises(UserError, match="has no records"):
        saved([])


def test_nothing_is_left_where_it_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        baseline.save(run(blocks("naive", [NS])), "main", tmp_path / "file")


def broken(text, name, value):
    """A baseline's lines with one field of the second another."""
    first, second, *rest = text.splitlines()
    return "\n".join([first, json.dumps(json.loads(second) | {name: value}), *rest]) + "\n"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: "", "line 1 is not JSON"),
        (lambda text: "[]\n", "is not an object"),
        (lambda text: "{}\n", "no baseline_schema"),
        (lambda text: text[:-1], "is torn"),
        (lambda text: text[:-40], "is torn"),
        (lambda text: "\n".join(text.splitlines()[:-1]) + "\n", "is torn: 1 lines of 2"),
        (lambda text: text.replace('"baseline_schema": 1', '"baseline_schema": 2'), "upgrade it"),
        (lambda text: text.replace('"environment"', '"surroundings"'), "no field 'environment'"),
        (
            lambda text: text.replace('"gpu": null', '"gpu": "mine"'),
            "gpu is 'mine'; expected an object",
        ),
        (lambda text: text.replace('"naive"', '"aten"'), "appears twice; restore the file"),
        (lambda text: broken(text, "samples", math.inf), "Infinity is not a number"),
        (lambda text: broken(text, "peak_bytes", 5), "not a cell of a baseline"),
        (lambda text: broken(text, "status", "fine"), "status 'fine'"),
        (lambda text: broken(text, "medians_ns", [0, 1, 2]), "expected times above 0"),
        (lambda text: broken(text, "medians_ns", [-1, 1, 2]), "expected times above 0"),
        (lambda text: broken(text, "medians_ns", []), "expected times above 0"),
        (lambda text: broken(text, "medians_ns", ["fast"]), "not a cell of a baseline"),
        (lambda text: broken(text, "medians_ns", None), "not a cell of a baseline"),
        (lambda text: broken(text, "blocks", [0, 0, 1]), "differ in length"),
        (lambda text: broken(text, "machines", ["a"]), "differ in length"),
        (lambda text: broken(text, "problem", {"cell": "lstm"}), "not a cell of a baseline"),
        (lambda text: broken(text, "backend", 5), "backend is 5; expected str"),
    ],
)
def test_file_that_is_none_or_torn_or_newer_is_refused(saved, change, says):
    path = saved([*blocks("naive", [NS] * 3), *blocks("aten", [NS] * 3)])
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=says) as error:
        baseline.read(path)
    said = str(error.value)
    assert "\n" not in said
    assert said.endswith((baseline.AGAIN, "upgrade it"))


class TestCommands:
    def test_save_then_list(self, command, here):
        save(here / "race", blocks("naive", [NS] * 3))
        code, out, err = command("baseline", "save", "race", "main")
        assert (code, out, err) == (0, "results/baselines/main.jsonl\n", "")
        code, out, _ = command("baseline", "list")
        assert code == 0
        assert "main" in out
        assert "0123abcd" in out
        code, out, _ = command("baseline", "list", "--json")
        (row,) = json.loads(out)
        assert (row["name"], row["cells"], row["records"]) == ("main", 1, 3)

    def test_another_folder_is_named_with_into(self, command, here):
        save(here / "race", blocks("naive", [NS] * 3))
        assert command("baseline", "save", "race", "main", "--into", "kept")[0] == 0
        assert (here / "kept" / "main.jsonl").exists()
        assert "main" in command("baseline", "list", "--into", "kept")[1]

    def test_mistakes_end_in_one_line(self, refused, here):
        save(here / "race", blocks("naive", [NS] * 3))
        assert "not a run" in refused("baseline", "save", "nowhere", "main")
        assert "not a name for" in refused("baseline", "save", "race", "../main")
        assert not (here / "results").exists()

    def test_one_that_is_broken_hides_no_other(self, command, here):
        save(here / "race", blocks("naive", [NS] * 3))
        command("baseline", "save", "race", "main.jsonl")
        (here / "results" / "baselines" / "torn.jsonl").write_text("<<<<<<< HEAD\n")
        code, out, err = command("baseline", "list", "--json")
        assert code == 0
        assert [row["name"] for row in json.loads(out)] == ["main"]
        assert "torn.jsonl line 1 is not JSON" in err

    def test_cases_that_it_cannot_check_are_told_as_it_is_saved(self, command, here):
        wrong = [record("aten", status="incorrect", block=block) for block in range(3)]
        save(here / "race", [*blocks("naive", [NS] * 3), *wrong])
        code, _, err = command("baseline", "save", "race", "main")
        assert code == 0
        assert "without a time (3 incorrect); their cases will not be checked" in err

    def test_no_baseline_yet_is_an_empty_list(self, command):
        assert "no baseline in results/baselines" in command("baseline", "list")[1]
        assert json.loads(command("baseline", "list", "--json")[1]) == []

    def test_run_that_is_not_whole_is_kept_and_said_to_be(self, command, here):
        save(here / "race", blocks("naive", [NS] * 3), plan={"planned_records": 9})
        code, _, err = command("baseline", "save", "race", "main")
        assert code == 0
        assert "3 of 9 records" in err
