"""`capture` of a real program, and `recommend` on a fake clock, and the two together."""

import itertools
import json
import random
import re
import signal
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import jsonschema
import packed_program
import pytest
import synthetic_runs
from bench import bench, environment
from saved_runs import save
from synthetic_runs import blocks, case, grid, record

from lstm_harness.model.errors import Exit
from lstm_harness.model.plan import Plan
from lstm_harness.model.spec import build, suite_from_file
from lstm_harness.race import runs
from lstm_kernels import measured

PROGRAM = packed_program.__file__
# One that calls a layer, forks a process that calls it too, and ends in a way of its own.
ENDS = """
import os, sys, torch
torch.set_num_threads(1)
rnn, x = torch.nn.LSTM(2, 3), torch.zeros(4, 2, 2)
rnn(x)
child = os.fork()
if not child:
    rnn(x)
    os._exit(0)
os.waitpid(child, 0)
if sys.argv[1] == "raises":
    rnn(torch.zeros(4, 2, 5))
os.kill(os.getpid(), 9)
"""


def capture(folder, *words, **variables):
    line = [sys.executable, "-m", "lstm_harness", "capture", *words]
    env = environment(folder, folder) | variables
    return subprocess.run(
        line, cwd=folder, env=env, capture_output=True, text=True, timeout=600, check=False
    )


def uses_of(path):
    return build(suite_from_file(path), {}, {}).uses("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The training script captured, and its folder."""
    folder = tmp_path_factory.mktemp("trained")
    words = (sys.executable, PROGRAM, "--epochs", "2", "--end", "5")
    return folder, capture(folder, "-o", "suite.toml", "--", *words)


def test_a_program_is_captured_call_by_call(trained):
    folder, done = trained
    uses = uses_of(folder / "suite.toml")
    encoder = [use for use in uses if use.layer == "Tagger.encoder.rnn"]
    summary = [use for use in uses if use.layer == "Tagger.summary"]
    assert len(encoder) + len(summary) == len(uses)
    # Two epochs of three batches, T 9, 12 and 12, then one of T 9 without gradients.
    for layer in (encoder, summary):
        told = {(use.case.problem.seq_len, use.case.pass_name): use.calls for use in layer}
        assert told == {(9, "train"): 2, (12, "train"): 4, (9, "inference"): 1}
    problem = encoder[0].case.problem
    assert (problem.cell, problem.num_layers, problem.bidirectional) == ("lstm", 2, True)
    assert (problem.batch, problem.input_size, problem.hidden_size) == (5, 6, 8)
    assert all(use.case.problem.lengths.startswith("uniform:") for use in encoder)
    assert {use.case.problem.lengths for use in summary} == {"full"}
    assert {(use.case.problem.cell, use.case.problem.bias) for use in summary} == {("gru", False)}
    assert "suite.toml: 2 layers, 6 cases, 14 calls" in done.stderr


def test_a_program_does_what_it_does_alone(trained):
    folder, done = trained
    alone = subprocess.run(
        [sys.executable, PROGRAM, "--epochs", "2", "--end", "5"],
        cwd=folder,
        env=environment(folder, folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == alone.returncode == 5
    assert done.stdout == alone.stdout
    assert done.stderr.startswith(alone.stderr)
    assert done.stderr.count("\n") == alone.stderr.count("\n") + 1


@pytest.mark.parametrize(("end", "code"), [("raises", 1), ("is killed", 128 + signal.SIGKILL)])
def test_what_was_noted_is_kept_however_a_module_ends(tmp_path, end, code):
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "__main__.py").write_text(ENDS)
    done = capture(tmp_path, "--", sys.executable, "-m", "tool", end)
    assert done.returncode == code
    assert ("RuntimeError" in done.stderr) == (end == "raises")
    (use,) = uses_of(tmp_path / "captured.toml")
    assert (use.calls, use.case.problem.hidden_size) == (2, 3)


def test_a_program_without_a_layer_leaves_no_suite(tmp_path):
    done = capture(tmp_path, sys.executable, "-c", "print('mine')", "--help")
    assert (done.returncode, done.stdout) == (0, "mine\n")
    assert done.stderr == "captured.toml was not written: it imported no torch.nn\n"
    assert not (tmp_path / "captured.toml").exists()


def test_an_interrupted_program_is_told_from_an_interrupted_command(command):
    # A shell that starts tests in the background has them, and what they start, ignore it.
    line = "import os, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    line += "os.kill(os.getpid(), signal.SIGINT)"
    code, out, err = command("capture", "--", sys.executable, "-c", line)
    assert (code, out) == (Exit.INTERRUPTED, "")
    assert err.endswith(
        "lstm-bench: the program was interrupted; what it had called until then counts\n"
    )


def test_mistakes_before_a_program_runs(refused, here):
    assert "cannot start 'pyton'" in refused("capture", "--", "pyton", "train.py")
    assert "Missing argument" in refused("capture")
    assert "it is a folder" in refused("capture", "-o", here, "--", "touch", "ran")
    assert not (here / "ran").exists()


class FakeClock:
    """The time of one call by backend and case: some like short ones, some like few gates."""

    def __init__(self, seed):
        self._rng = random.Random(seed)
        self._times = {}

    def call_ns(self, backend, of):
        if (backend, of) not in self._times:
            self._times[backend, of] = int(1e5 * self._rng.lognormvariate(0, 0.7))
        return self._times[backend, of]


def measured_by(clock, backends, spec, folder):
    """What `run` would have left, had these been the times."""
    cases = spec.cases("cpu")
    records = []
    for backend, of in itertools.product(backends, cases):
        time_ns = clock.call_ns(backend, of)
        medians = [round(time_ns * (1 + off / 1000)) for off in (-1, 2, 0, 1, -2)]
        records += blocks(backend, medians, of=of)
    plan = Plan(tuple(backends), cases, 5, "cpu", {}, {}).to_dict()
    return save(folder, records, spec=spec.to_dict(), plan=plan)


@pytest.mark.parametrize("seed", range(8))
def test_the_advice_is_the_least_time_of_an_epoch(trained, command, here, monkeypatch, seed):
    clock, backends = FakeClock(seed), ("aten", "naive", "hoisted", "numba_cpu")
    suite = trained[0] / "suite.toml"

    def run(spec, out, watch):
        return measured_by(clock, backends, spec, out)

    with monkeypatch.context() as patch:
        patch.setattr(runs, "run", run)
        code, out, err = command("recommend", suite, "--out", "race", "--json", "--quiet")
    assert code == 0, err
    told = json.loads(out)
    epoch = [use.case for use in uses_of(suite) for _ in range(use.calls)]
    spent = {name: sum(clock.call_ns(name, of) for of in epoch) for name in backends}
    assert told["backend"] == min(spent, key=spent.__getitem__)
    assert told["advised_ns"] == pytest.approx(min(spent.values()), rel=1e-3)
    assert told["own_ns"] == pytest.approx(spent["aten"], rel=1e-3)
    assert [each["backend"] for each in told["standings"]] == sorted(spent, key=spent.get)
    schema = files("lstm_harness.model") / "schemas" / "recommend.schema.json"
    jsonschema.Draft202012Validator(json.loads(schema.read_text())).validate(told)
    # The same of the run that is there now, without measuring.
    again = command("recommend", "--run", "race", "--json")
    assert json.loads(again[1]) == told | {"report": None}


def test_a_run_is_told_in_a_sentence_and_tables(command, here):
    slow = case("forward", seq_len=32)
    records = [*blocks("aten", [2000, 2100, 1900], of=slow), *blocks("fast", [1000] * 3, of=slow)]
    records += [record("odd", of=slow, status="unsupported", reason="not here")]
    spec = build(None, {"seq-len": "32", "batch": "4", "hidden": "64", "pass": "forward"}, {})
    save(here / "run", records, spec=spec.to_dict())
    code, out, err = command("recommend", "--run", "run")
    assert code == 0
    assert out.startswith("Use fast: ")
    assert "beyond noise" in out
    assert out.splitlines()[-1] == "run"
    assert "odd is out: " in err
    assert "not here" in err


def test_auto_goes_by_it(command, here):
    spec = build(None, {"seq-len": "32", "batch": "4", "hidden": "64", "pass": "forward"}, {})
    of, cpu = (
        case("inference", seq_len=32, batch=4),
        {"model": "A", "capability": "B", "threads": 1},
    )
    records = [*blocks("aten", [2000] * 3, of=of), *blocks("naive", [1000] * 3, of=of)]
    facts = synthetic_runs.environment() | {"cpu": cpu, "torch": "2.13.0"}
    digest = measured.kernels_digest()
    save(here / "run", records, spec=spec.to_dict(), environment=facts, kernels_digest=digest)
    _, _, err = command("recommend", "--run", "run")
    (kept,) = re.findall(r'backend="auto" goes by this run from now on: (.+)', err)
    assert [row.order[0] for row in measured.read(Path(kept)).rows] == ["naive"]


def test_a_run_with_a_wrong_answer_ends_as_run_does(command, here):
    of = case("forward", seq_len=32)
    spec = build(None, {"seq-len": "32", "batch": "4", "hidden": "64", "pass": "forward"}, {})
    records = [*blocks("aten", [2000] * 3, of=of), record("bad", of=of, status="incorrect")]
    save(here / "run", records, spec=spec.to_dict())
    assert command("recommend", "--run", "run")[0] == Exit.INCORRECT
    alone = [record(name, of=of, status="incorrect") for name in ("aten", "bad")]
    save(here / "none", alone, spec=spec.to_dict())
    assert command("recommend", "--run", "none")[0] == Exit.INCORRECT


def test_a_run_whose_suite_and_records_have_nothing_in_common(command, here):
    save(here / "run", grid(("aten",), seq_len=(32,), batch=(4,), hidden_size=(128,)))
    code, out, _ = command("recommend", "--run", "run")
    assert code == Exit.MEASURING_FAILED
    assert out.startswith("No backend ran every case")


def test_mistakes_of_recommend(refused, here):
    assert "no captured.toml here; make one with lstm-bench capture" in refused("recommend")
    assert "leave one out" in refused("recommend", "--run", "a", "--resume", "b")
    assert "leave out what to run" in refused("recommend", "quick", "--run", "a")
    assert "leave out what to run" in refused("recommend", "--resume", "a", "--out", "b")
    assert "cannot read mine.toml" in refused("recommend", "mine.toml")
    assert "not a run" in refused("recommend", "--run", "nowhere")
    line = refused("recommend", "quick", "--backend", "naive,numba_cpu")
    assert line.endswith("type --backend naive,numba_cpu,aten,cudnn\n")
    (here / "captured.toml").write_text("[[grid]]\nhidden = 8\ncalls = 0\n")
    for asked in (["recommend"], ["recommend", "--blocks", "1"]):
        assert "calls = '0': expected a whole number" in refused(*asked)


@pytest.mark.slow
def test_a_program_is_captured_raced_and_advised(trained):
    folder = trained[0]
    done = bench(
        "recommend suite.toml --backend naive,aten --blocks 3 --min-samples 3 --time-budget 3 "
        "--quiet --json",
        folder,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["backend"] in ("naive", "aten")
    assert {row["layer"] for row in told["layers"]} == {"Tagger.encoder.rnn", "Tagger.summary"}
    assert not told["unmeasured"]
    assert (folder / told["run"] / "records.jsonl").exists()
    assert (folder / told["report"]).exists()


# torch.compile leaves the layer out of its graphs, and looks into whatever is called beside them.
COMPILED = """
import sys, torch
torch.set_num_threads(1)
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.rnn = torch.nn.Linear(2, 2), torch.nn.LSTM(2, 3)
    def forward(self, x):
        return self.rnn(self.first(x))[0]
model = torch.compile(Model(), backend="eager")
for T in (2, 2, 3):
    model(torch.zeros(T, 1, 2))
whole = torch.compile(torch.nn.Linear(2, 2), backend="eager", fullgraph=True)
whole(torch.zeros(1, 2))
"""


@pytest.mark.slow
def test_a_compiled_model_is_compiled_as_without(tmp_path):
    done = capture(tmp_path, "--", sys.executable, "-c", COMPILED)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr  # our own
    told = {use.case.problem.seq_len: use.calls for use in uses_of(tmp_path / "captured.toml")}
    assert told == {2: 2, 3: 1}
