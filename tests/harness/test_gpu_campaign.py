"""`make gpu` with no GPU: its stages, budget, cuts and resuming, in a time that tests make up."""

import json
import os
import signal
import subprocess
import sys
import threading
from functools import partial
from types import SimpleNamespace

import prove
import pytest
import torch
from campaign import STATE, Campaign, Stage
from places import ROOT

PROVE = ROOT / "tests" / "gpu" / "prove.py"

# Writes its name to a file, and works until it is told that its time is over, or interrupted.
WORK = """
import os, signal, sys, time
name, seconds, status = sys.argv[1], sys.argv[2], int(sys.argv[3])
signal.signal(signal.SIGUSR1, lambda *_: os._exit(status))
open("done.txt", "a").write(name + " ")
try:
    print("begins", seconds, os.getpid(), flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    print("interrupted", name)
    sys.exit(130)
"""
DEAF = """
import os, signal, sys, time
signal.signal(signal.SIGINT, lambda *_: os.write(1, b"ignores it\\n"))  # print may be at work
print("begins", sys.argv[2], os.getpid(), flush=True)
time.sleep(600)
"""


class SimulatedTime:
    """Passes as stages say that they begin: to the end of their work, or to an alarm before it."""

    now_s = 0.0

    def __init__(self):
        self.alarms = []

    def monotonic(self):
        return self.now_s

    def heard(self, line):
        word, _, rest = line.partition(" ")
        if word == "begins":
            seconds, pid = rest.split()
            ends_s = self.now_s + float(seconds)
            if self.alarms[0].at_s < ends_s:
                self.alarms[0].goes_off()
            else:
                self.now_s = ends_s
                os.kill(int(pid), signal.SIGUSR1)
        elif word == "ignores":
            self.alarms[0].goes_off()


class SimulatedAlarm:
    def __init__(self, time, after_s, do, arguments):
        self.time, self.at_s = time, time.now_s + after_s
        self.do = lambda: do(*arguments)

    def start(self):
        self.time.alarms = sorted([*self.time.alarms, self], key=lambda alarm: alarm.at_s)

    def cancel(self):
        if self in self.time.alarms:
            self.time.alarms.remove(self)

    def goes_off(self):
        self.cancel()
        self.time.now_s = self.at_s
        self.do()


@pytest.fixture
def time(monkeypatch):
    """The campaign's time."""
    simulated = SimulatedTime()
    monkeypatch.setattr("campaign.time", simulated)
    threads = SimpleNamespace(Timer=partial(SimulatedAlarm, simulated), Event=threading.Event)
    monkeypatch.setattr("campaign.threading", threads)
    return simulated


@pytest.fixture
def campaign(tmp_path, time):
    """Run stages, given as name to (share, seconds it works, exit status)."""
    said = []

    def tell(line):
        said.append(line)
        time.heard(line)

    def go(budget_s, stages, sources="a", grace_s=5.0, work=WORK):
        made = [
            Stage(name, ("-c", work, name, str(seconds), str(status)), share)
            for name, (share, seconds, status) in stages.items()
        ]
        out = tmp_path / "out"
        race = Campaign(out, budget_s, sources, tell, cwd=tmp_path, grace_s=grace_s)
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


def test_stage_is_cut_at_its_share_and_the_next_gets_its_own(campaign, time):
    found = campaign(20, {"long": (1, 60, 0), "short": (1, 9, 0)})
    assert found == {"long": "cut", "short": "passed"}
    assert time.now_s == 10 + 9
    assert "interrupted long" in campaign.said


def test_what_a_stage_leaves_goes_to_the_next(campaign):
    stages = {"short": (9, 0, 0), "long": (1, 7, 0)}
    assert campaign(8, stages) == {"short": "passed", "long": "passed"}


def test_what_a_stage_takes_is_missing_in_the_next(campaign):
    stages = {"first": (9, 4, 0), "long": (1, 7, 0)}
    assert campaign(10, stages) == {"first": "passed", "long": "cut"}


def test_stage_that_ignores_the_interrupt_is_killed(campaign, time):
    assert campaign(10, {"deaf": (1, 60, 0)}, grace_s=3.0, work=DEAF) == {"deaf": "cut"}
    assert campaign.state()["stages"]["deaf"]["exit_status"] == -signal.SIGKILL
    assert time.now_s == 10 + 3


def test_second_call_does_what_is_missing_alone(campaign):
    campaign(20, {"first": (1, 0, 0), "long": (1, 60, 0)})
    found = campaign(60, {"first": (1, 0, 0), "long": (1, 0, 0), "new": (1, 0, 0)})
    assert set(found.values()) == {"passed"}
    assert campaign.done() == ["first", "long", "long", "new"]
    assert "== first: passed before" in campaign.said


def test_what_the_budget_does_not_reach_is_said_and_kept(campaign):
    found = campaign(100, {"long": (50, 130, 0), "late": (1, 0, 0)})
    assert found == {"long": "cut", "late": "not reached"}
    assert campaign.state()["stages"]["late"]["status"] == "not reached"


def test_results_of_other_sources_are_not_added_to(campaign):
    campaign(10, {"first": (1, 0, 0)}, sources="a")
    assert campaign(10, {"first": (1, 0, 0)}, sources="b") == "foreign"
    assert campaign.done() == ["first"]


def test_run_is_partial_until_it_has_every_record_and_is_resumed_then(tmp_path, time):
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
def test_every_file_that_a_stage_names_is_there(tmp_path):
    named = [
        word.partition("::")[0]
        for stage in prove.stages_into(tmp_path)
        for word in stage.command
        if ".py" in word
    ]
    assert len(named) > 5
    assert not [name for name in named if not (ROOT / name).is_file()]


def test_without_a_gpu_one_line_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, PROVE, "--out", tmp_path / "out"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("gpu checks: needs a CUDA device, and torch ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not (tmp_path / "out").exists()
