"""`make gpu` with no GPU: its stages, budget, cuts and resuming, in a time that tests make up."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic
from types import SimpleNamespace

import prove
import pytest
import torch
from campaign import STATE, Campaign, Result, Stage
from places import ROOT
from saved_runs import save
from synthetic_runs import blocks
from waiting import until

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

    def go(budget_s, stages, sources="a", grace_s=5.0, work=WORK, least_s=None):
        made = [
            Stage(name, ("-c", work, name, str(seconds), str(status)), share)
            for name, (share, seconds, status) in stages.items()
        ]
        made = [replace(each, least_s=(least_s or {}).get(each.name, 5.0)) for each in made]
        out = tmp_path / "out"
        race = Campaign(
            out, budget_s, sources, tell, cwd=tmp_path, grace_s=grace_s, started_s=time.now_s
        )
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
    found = campaign(40, {"long": (1, 60, 0), "short": (1, 19, 0)})
    assert found == {"long": "cut", "short": "passed"}
    assert time.now_s == 20 - 5 + 19
    assert "interrupted long" in campaign.said


def test_what_a_stage_leaves_goes_to_the_next(campaign):
    stages = {"short": (9, 0, 0), "long": (1, 7, 0)}
    assert campaign(20, stages) == {"short": "passed", "long": "passed"}


def test_what_a_stage_takes_is_missing_in_the_next(campaign):
    stages = {"first": (9, 4, 0), "long": (1, 7, 0)}
    assert campaign(10, stages) == {"first": "passed", "long": "cut"}


def test_stage_that_needs_more_than_its_share_has_it(campaign):
    stages = {"needy": (1, 20, 0), "long": (9, 7, 0)}
    assert campaign(40, stages) == {"needy": "cut", "long": "passed"}
    assert campaign(40, stages, least_s={"needy": 26.0}) == {"needy": "passed", "long": "passed"}


def test_stage_that_ignores_the_interrupt_is_killed_when_its_time_is_up(campaign, time):
    assert campaign(10, {"deaf": (1, 60, 0)}, grace_s=3.0, work=DEAF) == {"deaf": "cut"}
    assert campaign.state()["stages"]["deaf"]["exit_status"] == 128 + signal.SIGKILL
    assert time.now_s == 10


def test_second_call_does_what_is_missing_alone(campaign):
    campaign(20, {"first": (1, 0, 0), "long": (1, 60, 0)})
    found = campaign(60, {"first": (1, 0, 0), "long": (1, 0, 0), "new": (1, 0, 0)})
    assert set(found.values()) == {"passed"}
    assert campaign.done() == ["first", "long", "long", "new"]
    assert "== first: passed before" in campaign.said


def test_what_the_budget_does_not_reach_is_said_and_kept(campaign):
    found = campaign(100, {"long": (50, 130, 0), "late": (1, 0, 0)}, grace_s=0.5)
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
    assert "['run', '--time-budget', '4']" in said
    assert race.run([stage])["quick"].status == "passed"
    assert f"['run', '--resume', {str(run)!r}]" in said


# Stands in for a stage: starts for 15 s; what a run measures is one record in 5 s more.
SLOW_TO_START = """
import json, os, pathlib, signal, sys, time
run = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else None
# What is sent before it is waited for is not to be lost.
heard = {signal.SIGUSR1, signal.SIGINT}
signal.pthread_sigmask(signal.SIG_BLOCK, heard)

def work(seconds):
    print("begins", seconds, os.getpid(), flush=True)
    if signal.sigwait(heard) == signal.SIGINT:
        sys.exit(130)

work(15)
if run:
    run.mkdir(exist_ok=True)
    (run / "run.json").write_text(json.dumps({"plan": {"planned_records": 1000}}))
while True:
    work(5)
    if run:
        (run / "records.jsonl").open("a").write("record\\n")
"""


class SlowReports:
    """Reports that take some seconds each: made in time, or given up at the limit."""

    def __init__(self, time):
        self.time, self.takes_s, self.of = time, 15.0, []

    def __call__(self, run, out, limit_s):
        self.of.append(run.name)
        self.time.now_s += min(self.takes_s, limit_s)
        if self.takes_s <= limit_s:
            (run / "report.html").touch()
        return f"report of {run.name}"


@pytest.fixture
def reports(time, monkeypatch):
    made = SlowReports(time)
    monkeypatch.setattr("prove.time", time)
    monkeypatch.setattr("prove._report", made)
    monkeypatch.setattr("prove.write_page", lambda *_: None)
    return made


@pytest.fixture
def prove_with_a_fake_device(tmp_path, time, reports, monkeypatch):
    """Run every stage of `make gpu` within a budget, none of which ends by itself."""
    out = tmp_path / "out"
    program = tmp_path / "stage.py"
    program.write_text(SLOW_TO_START)
    monkeypatch.setattr("campaign._command", lambda stage, _: _fake(program, stage.run))

    def tell(line):
        time.heard(line)

    def go(budget_s):
        stages = [
            replace(stage, before=_fake(program, None) if stage.before else ())
            for stage in prove.stages_into(out)
        ]
        left_s = budget_s - prove.REPORTS_S
        runs = [stage.run for stage in stages if stage.run]
        shown = prove.Reports(runs, time.now_s + budget_s)
        ended = partial(prove.show, tell, out, "a GPU", [], shown, None)
        race = Campaign(out, left_s, "a", tell, cwd=tmp_path, started_s=time.now_s, ended=ended)
        return race.run(stages)

    go.records = lambda name: (out / name / "records.jsonl").read_bytes().splitlines()
    return go


def _fake(program, run):
    return (str(program), *([str(run)] if run else []))


@pytest.mark.parametrize("report_s", [15, 3600], ids=["reports", "reports that never end"])
@pytest.mark.parametrize("budget_s", [150, 300, 520])
def test_a_rented_gpu_is_given_back_in_time_with_the_headline(
    prove_with_a_fake_device, reports, time, budget_s, report_s
):
    reports.takes_s = report_s
    results = prove_with_a_fake_device(budget_s)
    assert time.now_s <= budget_s + 20
    assert len(prove_with_a_fake_device.records("headline")) > 0
    assert list(results)[:2] == ["preflight", "headline"]
    # What took too long once is not tried again.
    assert reports.of[0] == "headline"
    assert len(set(reports.of)) == len(reports.of)


def test_a_second_call_adds_to_the_runs_of_the_first(prove_with_a_fake_device):
    prove_with_a_fake_device(520)
    before = len(prove_with_a_fake_device.records("headline"))
    prove_with_a_fake_device(520)
    assert len(prove_with_a_fake_device.records("headline")) > before


# A stage that has children: one that left its group, and one of that one's, which lost its parent.
LEAVES_CHILDREN = """
import os, subprocess, sys, time
if sys.argv[1:] == ["child"]:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    sys.exit()
subprocess.Popen([sys.executable, __file__, "child"], start_new_session=True).wait()
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("works", flush=True)
if os.environ["ENDS"] == "no":
    time.sleep(600)
"""
CAMPAIGN_OF_IT = """
import sys
from pathlib import Path
from campaign import Campaign, Stage
race = Campaign(Path(sys.argv[2]), 600, "a", lambda line: print(line, flush=True))
race.run([Stage("only", (sys.argv[1],), 1)])
"""


def _processes_with(mark):
    """Those whose environment has it, as a mark of who started them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark.encode() in (process / "environ").read_bytes():
                found.append(process.name)
    return found


def until_processes_are(count, mark):
    """The environment of a process that begins to run a program is empty for a moment."""
    until(lambda: len(_processes_with(mark)) == count)


@pytest.mark.parametrize("ends", ["by itself", "killed"])
def test_nothing_that_a_stage_started_outlives_it_or_the_campaign(tmp_path, ends):
    stage = tmp_path / "stage.py"
    stage.write_text(LEAVES_CHILDREN)
    mark = f"OF_THE_TEST={tmp_path}"
    environment = os.environ | {
        "PYTHONPATH": str(ROOT / "tests" / "gpu"),
        "OF_THE_TEST": str(tmp_path),
        "ENDS": "no" if ends == "killed" else "yes",
    }
    with subprocess.Popen(
        [sys.executable, "-c", CAMPAIGN_OF_IT, stage, tmp_path / "out"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as campaign:
        assert any(line == "works\n" for line in campaign.stdout)
        if ends == "killed":
            until_processes_are(5, mark)
            campaign.kill()
    until_processes_are(0, mark)


def test_what_is_missing_is_told_by_name(monkeypatch):
    monkeypatch.setattr(prove.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(prove.sysconfig, "get_path", lambda _: "/nowhere")
    monkeypatch.setattr(prove.importlib.util, "find_spec", lambda _: None)
    told = list(prove.lacking())
    words = ["gcc", "Python.h", *prove.WISHED, "compute-sanitizer"]
    assert [next(w for w in words if w in line) for line in told] == words


def test_what_is_there_is_not_told(monkeypatch):
    monkeypatch.setattr(prove.shutil, "which", lambda *_, **__: "/usr/bin/it")
    monkeypatch.setattr(prove.importlib.util, "find_spec", lambda _: "a spec")
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    assert list(prove.lacking()) == []


INTERPRETERS = {"TRITON_INTERPRET": "1", "NUMBA_ENABLE_CUDASIM": "1"}


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize(
    ("more", "status", "words"),
    [(INTERPRETERS, 0, "right, built and run in "), ({}, 1, "FAILED, ")],
    ids=["interpreted", "no device"],
)
def test_preflight_says_of_each_kernel_whether_it_came_to_a_right_result(more, status, words):
    environment = {name: value for name, value in os.environ.items() if name not in INTERPRETERS}
    environment |= {"PYTHONPATH": f"{ROOT / 'kernels'}:{ROOT / 'harness'}"} | more
    command = [sys.executable, ROOT / "tests" / "gpu" / "preflight.py"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    told = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert sorted(told) == ["numba_cuda", "triton"]
    assert all(line.startswith(words) for line in told.values())


def test_the_page_tells_stages_and_times_and_all_of_it_is_in_one_file_too(tmp_path):
    out = tmp_path / "h200"
    run = save(
        out / "headline", [*blocks("triton", [2_000_000] * 3), *blocks("cudnn", [3_000_000] * 3)]
    )
    results = {
        "preflight": Result("passed", 9.0, 0, ("tests/gpu/preflight.py",)),
        "headline": Result(
            "cut", 75.0, 130, ("-m", "lstm_harness", "run", "--out", str(run)), "== 3 passed =="
        ),
        "limits": Result("not reached"),
    }
    prove.show(
        print,
        out,
        "NVIDIA H200",
        ["no gcc here"],
        prove.Reports([run, out / "quick"], monotonic() + 60),
        tmp_path / "all.tar.gz",
        results,
    )
    page = (out / "README.md").read_text()
    assert (
        "| headline | cut | 75 | 3 passed | `python3 -m lstm_harness run --out DIR/headline` |"
        in page
    )
    assert "- no gcc here" in page
    assert "| cudnn | ok | 3.000 |" in page
    assert "| triton | ok | 2.000 |" in page
    assert "## quick" not in page
    with tarfile.open(tmp_path / "all.tar.gz") as packed:
        assert "h200/headline/records.jsonl" in packed.getnames()
    assert (run / "report.html").exists()


def test_a_page_that_cannot_be_written_ends_no_campaign(tmp_path):
    said = []
    nothing = prove.Reports([], 0.0)
    prove.show(said.append, tmp_path / "gone", "NVIDIA H200", [], nothing, None, {})
    assert len(said) == 1
    assert said[0].startswith("no page of what was seen: FileNotFoundError: ")


def test_the_page_finds_the_harness_where_nothing_is_installed():
    code = "import prove, importlib.util; assert importlib.util.find_spec('lstm_harness')"
    environment = {"PYTHONPATH": str(ROOT / "tests" / "gpu")}
    # Without site-packages, where an editable installation is found.
    done = subprocess.run([sys.executable, "-S", "-c", code], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_a_cut_run_of_tests_with_failures_failed(campaign):
    work = WORK.replace('print("interrupted", name)', 'print("== 2 failed, 7 passed in 3 s ==")')
    assert campaign(40, {"tests": (1, 60, 0)}, work=work) == {"tests": "failed"}
    assert campaign.state()["stages"]["tests"]["said"] == "== 2 failed, 7 passed in 3 s =="


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_every_file_that_a_stage_names_is_there(tmp_path):
    named = [
        word.partition("::")[0]
        for stage in prove.stages_into(tmp_path)
        for word in (*stage.before, *stage.command)
        if ".py" in word
    ]
    assert len(named) > 5
    assert not [name for name in named if not (ROOT / name).is_file()]


def test_without_a_gpu_one_line_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, PROVE, "--out", tmp_path / "out"],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("gpu checks: needs a CUDA device, and ")
    assert done.stderr.count("\n") == 1
    # What is missing is told before torch is asked, where there is a driver.
    assert all(line.startswith("no ") for line in done.stdout.splitlines())
    assert not (tmp_path / "out").exists()
