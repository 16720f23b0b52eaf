"""`lb.run` measures as `lstm-bench run` does, and leaves the same on disk."""

import inspect
import json
import shlex
import signal
import subprocess
import sys

import pytest
import typer
from bench import environment, records_of
from places import SUPPORT
from saved_runs import save
from synthetic_runs import record
from waiting import PATIENCE_S, until

import lstm_harness as lb
from lstm_harness.cli.app import app

SMALL = {"seq_len": 3, "batch": 2, "hidden": 4, "blocks": 1, "threads": 1, "time_budget": 1}
FAILING = """
from lstm_kernels import Backend
from lstm_kernels.backends.naive import unsupported

NAIVE = "lstm_kernels.backends.naive"
BACKENDS = [Backend("wrong", __name__, "wrong"), Backend("right", NAIVE, "right")]


def layer(x, h0, c0, weights, *, problem, lengths=None):
    from lstm_kernels.backends.naive import layer

    y, h, c = layer(x, h0, c0, weights, problem=problem, lengths=lengths)
    return y * 1.01, h, c
"""


@pytest.fixture
def race(here, forked):
    return lb.run(backend=["naive", "aten"], passes="forward", quiet=True, **SMALL)


def test_every_option_of_the_command_has_an_argument():
    command = typer.main.get_command(app).commands["run"]
    # The first name of each; others are what it was called before.
    flags = {parameter.opts[0] for parameter in command.params}
    options = {flag.removeprefix("--").replace("-", "_") for flag in flags}
    # A keyword of Python; and a call gives an object in any case, from which all else follows.
    there = {"passes" if name == "pass" else name for name in options}
    there -= {"json", "help", "against", "watch"}
    assert set(inspect.signature(lb.run).parameters) == there


def test_a_run_is_measured_kept_and_read_again(race, command):
    assert set(race.records["status"]) == {"ok"}
    assert set(race.summary["backend"]) == {"naive", "aten"}
    assert race.path.parts[:2] == ("results", "runs")
    again = lb.load(str(race.path))
    assert again.records.equals(race.records)
    code, out, err = command("report", race.path)
    assert code == 0, err
    assert out.strip() == str(race.path / "report.html")


def test_the_manifest_says_which_command_does_the_same(race, here, document):
    told = race.manifest["command"]
    assert told[:2] == ["lstm-bench", "run"]
    planned = document("plan", *told[2:], "--json")
    assert planned["cases"] == race.manifest["plan"]["cases"]
    assert shlex.join(told).endswith("--threads 1 --blocks 1 --time-budget 1")


def test_only_workers_import_a_plugin_and_what_is_wrong_is_a_record(here, forked):
    (here / "mine.py").write_text(FAILING)
    before = set(sys.modules)  # other tests may have imported plugins of that name
    run = lb.run(plugin=here / "mine.py", backend=("wrong", "right"), quiet=True, **SMALL)
    status = run.summary.groupby("backend")["status"].agg(set).to_dict()
    assert status == {"wrong": {"incorrect"}, "right": {"ok"}}
    assert run.summary.loc[run.summary["backend"] == "wrong", "median_ns"].isna().all()
    assert set(run.fastest["backend"]) == {"right"}
    assert any(note.startswith("wrong: incorrect, ") for note in run.notes)
    assert not [n for n in set(sys.modules) - before if n.startswith("lstm_plugin_mine")]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"out": "there"}, "there is already used"),
        ({"out": "x", "resume": "y"}, "out='x' with resume='y'"),
        ({"resume": "y", "hidden": 3}, "resume='y' continues the run as it was planned"),
        ({"resume": "y"}, "y is not a run"),
        ({"backend": "nave"}, "did you mean 'naive'"),
        ({"plugin": "none.py"}, "no such file"),
    ],
)
def test_a_mistake_is_one_line_and_measures_nothing(here, forked, given, says):
    (here / "there").mkdir()
    (here / "there" / "file").touch()
    with pytest.raises(lb.UserError) as told:
        lb.run(quiet=True, **given)
    assert says in str(told.value)
    assert "\n" not in str(told.value)
    assert not (here / "results").exists()


@pytest.mark.parametrize("wait", [True, False])
def test_who_waits_is_told_for_whom(here, monkeypatch, capsys, wait):
    def run(spec, out, watch, command):
        assert (watch.waiting is not None) == wait
        if watch.waiting:
            watch.waiting("another run measures here")
        return save(here / "race", [record()])

    monkeypatch.setattr("lstm_harness.race.runs.run", run)
    assert len(lb.run(wait=wait, quiet=True).records) == 1
    assert ("another run measures here; waiting for it" in capsys.readouterr().err) == wait


INTERRUPTED = """
import forked_workers, pytest
import lstm_harness as lb
with forked_workers.nursery() as made, pytest.MonkeyPatch.context() as patch:
  made.use(patch)
  try:
    lb.run(backend="naive", seq_len=[2, 4], batch=2, hidden=8, blocks=50, threads=1, out="race")
  except KeyboardInterrupt as cut:
    print(cut)
"""


def test_interrupted_it_keeps_its_records_and_goes_on(tmp_path, monkeypatch):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        cwd=tmp_path,
        env=environment(tmp_path, SUPPORT),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    until(lambda: len(records_of(tmp_path / "race")) >= 2, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (0, "")
    assert out == "interrupted; go on with: lstm-bench run --resume race\n"
    kept = lb.load(tmp_path / "race")
    assert len(kept.records) == len(records_of(tmp_path / "race")) >= 2
    assert kept.manifest["end"] is None
    json.dumps(kept.manifest)


def test_a_run_that_was_cut_is_resumed(race, here, forked):
    path = race.path / "records.jsonl"
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    assert len(lb.load(race.path).records) == 1
    assert len(lb.run(resume=race.path, quiet=True).records) == 2
