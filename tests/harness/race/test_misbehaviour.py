"""Backends that end, hang or babble: each costs its own cells, and nothing else."""

import re
from pathlib import Path

import cheats
import pytest
from bench import records_of

from lstm_harness.analysis.ranking import fastest_by_case, ranked
from lstm_harness.analysis.summary import summarise
from lstm_harness.model.errors import Exit
from lstm_harness.store import run_folder

PLUGIN = Path(cheats.__file__)
GRID = "--seq-len 3 --batch 2 --hidden 8 --threads 1"
QUICK = "--min-samples 3 --time-budget 1 --quiet"
PASSES = ("inference", "backward")
HANGS_S = 8

# Backend to its status and words of its reason.
ENDS = {
    "wrong_d_w_hh": ("incorrect", "d_w_hh wrong"),
    "exits": ("crashed", "exit code 3"),
    "babbles": ("crashed", "not a reply"),
    "closes_its_pipes": ("crashed", "closed its reply pipe"),
    "out_of_memory": ("out_of_memory", "MemoryError"),
    "raises": ("error", "ZeroDivisionError: two lines of <b>text</b>"),
    "raises_when_asked": ("error", "unsupported() failed: ZeroDivisionError"),
    "exits_when_asked": ("crashed", "unsupported() failed: the worker ended with exit code 4"),
    "prints": ("ok", ""),
    "aten": ("ok", ""),
}

# One race serves most of the tests here.
pytestmark = pytest.mark.xdist_group("a race of the misbehaved")


@pytest.fixture(scope="module")
def raced(tmp_path_factory, bench_in):
    folder = tmp_path_factory.mktemp("race")
    backends = f"--plugin {PLUGIN} --backend {','.join([*ENDS, 'inference_only'])}"
    done = bench_in(
        f"run {backends} {GRID} {QUICK} --blocks 1 --pass {','.join(PASSES)} --out race", folder
    )
    return done, folder / "race"


@pytest.fixture(scope="module")
def by_cell(raced):
    return {(record["backend"], record["pass"]): record for record in records_of(raced[1])}


def test_a_wrong_answer_is_the_exit_code_and_no_traceback_is_shown(raced):
    assert raced[0].returncode == Exit.INCORRECT
    assert "Traceback" not in raced[0].stderr


def test_nobody_costs_another_its_record(by_cell):
    assert set(by_cell) == {(name, p) for name in [*ENDS, "inference_only"] for p in PASSES}


@pytest.mark.parametrize("backend", ENDS)
@pytest.mark.parametrize("pass_name", PASSES)
def test_status_and_reason(by_cell, backend, pass_name):
    record, (status, words) = by_cell[backend, pass_name], ENDS[backend]
    assert (record["status"], words in record["reason"]) == (status, True), record["reason"]
    assert "\n" not in record["reason"]


def test_what_a_plugin_raises_is_told_with_its_line(by_cell):
    reason = by_cell["raises", "inference"]["reason"]
    (line,) = re.findall(r" \(cheats\.py, line (\d+)\)$", reason)
    assert "raise ZeroDivisionError" in PLUGIN.read_text().splitlines()[int(line) - 1]


def test_backend_without_gradients_is_raced_on_what_it_does(by_cell):
    assert by_cell["inference_only", "inference"]["status"] == "ok"
    refused = by_cell["inference_only", "backward"]
    assert refused["status"] == "unsupported"
    assert "does inference only, not backward" in refused["reason"]


def test_only_what_is_right_has_a_time(by_cell):
    for (backend, _), record in by_cell.items():
        assert bool(record["samples_ns"]) == (record["status"] == "ok"), backend


def test_only_what_is_right_has_a_rank(raced):
    records = run_folder.load(raced[1]).records
    summary = summarise(records)
    right = {record.backend for record in records if record.status == "ok"}
    assert set(ranked(summary)["backend"]) == right
    assert set(fastest_by_case(summary)["backend"]) <= right


def test_report_shows_a_strangers_text_as_text(raced):
    page = (raced[1] / "report.html").read_text()
    assert "two lines of &lt;b&gt;text&lt;/b&gt;" in page
    assert "of <b>text</b>" not in page


def test_verify_ends_4_where_answers_are_wrong(command):
    names = "wrong_d_w_hh,wrong_c_n,not_a_number"
    arguments = f"--plugin {PLUGIN} --backend {names} {GRID} --pass inference".split()
    code, out, err = command("verify", *arguments, "--quiet")
    assert code == Exit.INCORRECT
    for name, words in zip(names.split(","), ("d_w_hh", "c_n", "y is not finite"), strict=True):
        assert name in out
        assert f"{name}: incorrect, 1 case: {words}" in err


def test_verify_is_not_green_where_nothing_was_checked(command):
    code, _, err = command("verify", "--backend", "cudnn", "--hidden", "4", "--quiet")
    assert code == 6
    assert "nothing was checked" in err


@pytest.mark.parametrize("told", ["verify", "run --pass inference --blocks 1 --time-budget 1"])
def test_no_command_is_green_where_a_plugin_is_broken(command, here, told):
    (here / "broken.py").write_text("BACKENDS = [\n")
    arguments = "--plugin broken.py --backend naive --hidden 4 --seq-len 2 --batch 1 --threads 1"
    code, _, err = command(*told.split(), *arguments.split(), "--quiet")
    assert code == 6
    assert "SyntaxError" in err


def test_verify_ends_0_where_all_is_right(document):
    arguments = f"--plugin {PLUGIN} --backend harmless {GRID} --pass backward".split()
    (row,) = document("verify", *arguments, "--json", "--quiet")
    assert (row["backend"], row["status"]) == ("harmless", "ok")
    assert all(error <= row["tolerance"] for error in row["errors"].values())


def test_a_hang_costs_its_own_cells_alone(here, bench_in):
    # The one who does not hang needs a fiftieth of that where it has a core for itself.
    limits = f"{QUICK} --blocks 2 --cell-timeout {HANGS_S}"
    backends = f"--plugin {PLUGIN} --backend sleeps,harmless"
    done = bench_in(f"run {backends} {GRID} {limits} --pass inference --out race", here)
    assert done.returncode == Exit.MEASURING_FAILED
    records = records_of(here / "race")
    found = {(r["backend"], r["block"]): (r["status"], r["reason"]) for r in records}
    assert found["harmless", 0] == found["harmless", 1] == ("ok", "")
    assert found["sleeps", 0] == (
        "timed_out",
        f"took over {HANGS_S} s; raise --cell-timeout",
    )
    assert found["sleeps", 1][0] == "timed_out"
    assert "not tried again" in found["sleeps", 1][1]
