"""`make gpu` with no GPU: its stages, budget, cuts and resuming, on commands that only sleep."""

import json
import subprocess
import sys
import time

import pytest
import torch
from campaign import STATE, Campaign, Stage
from places import ROOT

PROVE = ROOT / "tests" / "gpu" / "prove.py"

# Writes its name to a file, sleeps, and tells of the interrupt it gets.
WORK = """
import sys, time
name, seconds, status = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
print("begins", name, flush=True)
open("done.txt", "a").write(name + " ")
try:
    time.sleep(seconds)
except KeyboardInterrupt:
    print("interrupted", name)
    sys.exit(130)
sys.exit(status)
"""


@pytest.fixture
def campaign(tmp_path, monkeypatch):
    """Run stages, given as name to (share, seconds it sleeps, exit status)."""
    monkeypatch.setattr("campaign.LEAST_S", 0.2)
    said = []

    def go(budget_s, stages, sources="a", grace_s=5.0):
        made = [
            Stage(name, ("-c", WORK, name, str(seconds), str(status)), share)
            for name, (share, seconds, status) in stages.items()
        ]
        out = tmp_path / "out"
        race = Campaign(out, budget_s, sources, said.append, cwd=tmp_path, grace_s=grace_s)
        if race.is_foreign:
            return "foreign"
        return {name: result.status for name, result in race.run(made).items()}

    go.said = said
    go.done = lambda: (tmp_path / "done.txt").read_text().split()
    go.state = lambda: json.loads((tmp_path / "out" / STATE).read_text())
    return go


def test_stages_run_in_order_and_failing_ends_none_but_itself(campaign):
    stages = {"first": (1, 0, 0), "second": (1, 0, 3), "third": (1, 0, 0)}
    found = campaign(60, stages)
    assert found == {"first": "passed", "second": "failed", "third": "passed"}
    assert campaign.done() == ["first", "second", "third"]
    assert campaign.state()["stages"]["second"]["exit_status"] == 3


def test_stage_is_cut_at_its_share_and_the_next_gets_its_own(campaign):
    started = time.monotonic()
    found = campaign(6, {"long": (1, 60, 0), "short": (1, 0, 0)})
    assert found == {"long": "cut", "short": "passed"}
    assert time.monotonic() - started < 6
    assert "interrupted long" in campaign.said


def test_what_a_stage_leaves_goes_to_the_next(campaign):
    assert campaign(8, {"short": (9, 0, 0), "long": (1, 2, 0)}) == {
        "short": "passed",
        "long": "passed",
    }


def test_stage_that_ignores_the_interrupt_is_killed(campaign, monkeypatch):
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    monkeypatch.setattr(sys.modules[__name__], "WORK", deaf)
    started = time.monotonic()
    assert campaign(2, {"deaf": (1, 0, 0)}, grace_s=1.0) == {"deaf": "cut"}
    assert time.monotonic() - started < 20


def test_second_call_does_what_is_missing_alone(campaign):
    campaign(4, {"first": (1, 0, 0), "long": (1, 60, 0)})
    found = campaign(60, {"first": (1, 0, 0), "long": (1, 0, 0), "new": (1, 0, 0)})
    assert set(found.values()) == {"passed"}
    assert campaign.done() == ["first", "long", "long", "new"]
    assert "== first: passed before" in campaign.said


def test_what_the_budget_does_not_reach_is_said_and_kept(campaign):
    found = campaign(1.0, {"long": (50, 30, 0), "late": (1, 0, 0)}, grace_s=0.1)
    assert found == {"long": "cut", "late": "not reached"}
    assert campaign.state()["stages"]["late"]["status"] == "not reached"


def test_results_of_other_sources_are_not_added_to(campaign):
    campaign(10, {"first": (1, 0, 0)}, sources="a")
    assert campaign(10, {"first": (1, 0, 0)}, sources="b") == "foreign"
    assert campaign.done() == ["first"]


def test_run_is_partial_until_it_has_every_record_and_is_resumed_then(tmp_path):
    run = tmp_path / "quick"
    # Stands in for the harness: makes a run of two records, one at each call.
    (tmp_path / "lstm_harness").mkdir()
    (tmp_path / "lstm_harness" / "__init__.py").touch()
    (tmp_path / "lstm_harness" / "__main__.py").write_text(
        "import json, sys, pathlib\n"
        f"run = pathlib.Path({str(run)!r})\n"
        "run.mkdir(exist_ok=True)\n"
        "(run / 'run.json').write_text(json.dumps({'plan': {'planned_records': 2}}))\n"
        "(run / 'records.jsonl').open('a').write('record\\n')\n"
        "print(sys.argv[1:])\n"
    )
    said = []
    stage = Stage("quick", ("-m", "lstm_harness", "run", "--time-budget", "{seconds}"), 1, run)
    race = Campaign(tmp_path / "out", 10, "a", said.append, cwd=tmp_path)
    assert race.run([stage])["quick"].status == "partial"
    assert "['run', '--time-budget', '8']" in said
    assert race.run([stage])["quick"].status == "passed"
    assert f"['run', '--resume', {str(run)!r}]" in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_without_a_gpu_one_line_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, PROVE, "--out", tmp_path / "out"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("gpu checks: needs a CUDA device, and torch ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not (tmp_path / "out").exists()
