"""`lstm-bench tune` from the command line, on a backend whose choices do more or less work."""

import itertools
import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import tunable
from bench import bench, manifest_of, records_of, start
from waiting import PATIENCE_S, until

from lstm_harness.model.case import Case
from lstm_harness.model.errors import Exit
from lstm_harness.model.protocol import CompileCounts, CompileKernels
from lstm_harness.race.crew import Crew
from lstm_harness.race.process import WorkerProcess, WorkerSettings
from lstm_harness.tune import search, tuner
from lstm_harness.tune.precompile import Ahead, arch_of, jobs_of
from lstm_harness.tune.search import TuningKey
from lstm_kernels import Problem
from lstm_kernels.gpu.machine_code import ARCHITECTURES
from lstm_kernels.tuning import key_of

SIZES = "--hidden 16 --seq-len 4 --batch 2 --dtype float32 --threads 1"
TUNE = f"tune tunable --plugin tunable.py {SIZES}"
KEYS = ("forward lstm float32 H16 D1 B16", "backward lstm float32 H16 D1 B16")
RUN = "run --plugin tunable.py --backend tunable,naive --pass forward --blocks 1 --min-samples 3"
FILES = "cache/lstm-bench/tuned"

# One worker tunes for most of the tests here.
pytestmark = pytest.mark.xdist_group("tune")


def entries_of(folder: Path):
    """The entries of the one file there, whole or not there at all."""
    found = list((folder / FILES).glob("*.json"))
    return json.loads(found[0].read_text())["entries"] if found else {}


@pytest.fixture(scope="module", autouse=True)
def measured():
    """What was measured, in order: workers try every choice for a moment, at a made-up time.

    Waste costs the forward pass a tenth of its time, and nothing else costs anything.
    """
    really, done = tuner._Workers.measure, []

    def measure(self, key, choice, share_s):
        done.append((key.name, choice))
        tried = really(self, key, choice, share_s)
        waste = choice["waste"] if key.name.startswith("forward") else 0
        return tried if tried.status != "ok" else replace(tried, median_ns=1e6 * (1 + waste / 10))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuner._Workers, "measure", measure)
        patch.setattr(search, "SHORT_S", 0.01)
        patch.setattr(search, "LONG_S", 0.01)
        yield done


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, bench_in, measured):
    """A folder with the plugin and its file, and what the command printed as JSON."""
    folder = tmp_path_factory.mktemp("tuned")
    shutil.copy(tunable.__file__, folder / "tunable.py")
    done = bench_in(f"{TUNE} --json", folder)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@pytest.fixture
def copy(tuned, tmp_path):
    """The same, to be spoiled."""
    return shutil.copytree(tuned[0], tmp_path / "copy")


def test_the_fastest_right_choice_is_kept(tuned):
    folder, document = tuned
    rows = {row["key"]: row for row in document["keys"]}
    assert tuple(rows) == KEYS
    forward, backward = (rows[key] for key in KEYS)
    assert forward["status"] == "tuned"
    assert forward["choice"] == {"waste": 0, "fault": "none"}
    assert forward["ratio"][2] < 0.9
    assert (forward["own_us"][0], forward["tuned_us"][0]) == (3400, 1000)
    # Its backward has no parameters.
    assert (backward["status"], backward["choice"]) == ("kept", None)
    entries = entries_of(folder)
    assert {key: entry["choice"] for key, entry in entries.items()} == {
        KEYS[0]: forward["choice"],
        KEYS[1]: None,
    }
    assert document["file"].startswith(str(folder / FILES))


def test_what_is_wrong_or_ends_its_worker_is_told_with_its_reason(tuned):
    forward = tuned[1]["keys"][0]
    found = {each["choice"]["fault"]: each for each in forward["failures"]}
    assert {fault: each["status"] for fault, each in found.items()} == {
        "wrong": "incorrect",
        "exits": "crashed",
        "raises": "error",
        "wrong_gradient": "incorrect",
    }
    assert "y wrong" in found["wrong"]["reason"]
    assert "exit code 3" in found["exits"]["reason"]
    assert "d_" in found["wrong_gradient"]["reason"]
    assert (forward["tried"], forward["wrong"], forward["failed"]) == (8, 2, 2)


def test_the_document_is_as_its_schema_says(tuned):
    schema = json.loads((files("lstm_harness.model") / "schemas" / "tune.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(tuned[1])
    assert not validator.is_valid(tuned[1] | {"keys": [{"key": "x"}]})
    assert set(tuned[1]) == set(schema["required"])
    assert set(tuned[1]["keys"][0]) == set(schema["properties"]["keys"]["items"]["required"])


def test_the_file_tells_where_it_holds_and_what_it_cost(tuned):
    (path,) = (tuned[0] / FILES).iterdir()
    document = json.loads(path.read_text())
    assert document["backend"] == "tunable"
    assert document["device"].keys() == {"name", "capability", "sm_count"}
    assert document["versions"].keys() == {"torch"}
    assert len(document["sources"]) == 64
    assert document["tuning_s"] > document["compile_s"] >= 0
    assert str(tuned[0]) not in path.read_text()


def test_a_second_call_knows_it_already_and_its_table_says_so(copy, bench_in, measured):
    measured.clear()
    before = (next((copy / FILES).iterdir())).read_bytes()
    done = bench_in(TUNE, copy)
    assert done.returncode == 0, done.stderr
    assert measured == []
    table, path = done.stdout.splitlines()[:-1], done.stdout.splitlines()[-1]
    assert "waste=0 (known)" in table[1]
    assert "its own (known)" in table[2]
    assert Path(path).read_bytes() == before


def test_runs_use_it_and_tell_which_and_other_parameters_are_not_resumed(copy, bench_in):
    done = bench_in(f"{RUN} {SIZES} --time-budget 1 --quiet --out race", copy)
    assert done.returncode == 0, done.stderr
    (record,) = (r for r in records_of(copy / "race") if r["backend"] == "tunable")
    assert record["kernels"] == ["forward: {'waste': 0, 'fault': 'none'}"]
    told = manifest_of(copy / "race")["environment"]["tuned"]
    assert told.keys() == {"tunable"}
    assert told["tunable"]["refused"] == []
    assert told["tunable"]["used"].keys() == {"digest", "date"}

    again = bench_in("run --resume race --quiet", copy)
    assert again.returncode == 0, again.stderr
    (path,) = (copy / FILES).iterdir()
    path.write_text(path.read_text().replace('"waste": 0', '"waste": 6'))
    refused = bench_in("run --resume race --quiet", copy)
    assert refused.returncode == Exit.USAGE
    assert "was started with another tuned parameters" in refused.stderr


def test_a_file_of_other_sources_is_refused_aloud(copy, bench_in):
    (copy / "tunable.py").write_text((copy / "tunable.py").read_text() + "# changed\n")
    done = bench_in(f"{RUN} {SIZES} --time-budget 1 --quiet --out race", copy)
    assert done.returncode == 0, done.stderr
    assert "tunable: tuned parameters not used: " in done.stderr
    assert "other sources of tunable" in done.stderr
    (record,) = (r for r in records_of(copy / "race") if r["backend"] == "tunable")
    assert record["kernels"] == [f"forward: {tunable.CHOICES[0]}"]
    told = manifest_of(copy / "race")["environment"]["tuned"]["tunable"]
    assert told["used"] is None
    assert "other sources" in told["refused"][0]


def test_interrupted_it_loses_the_key_in_flight_and_goes_on(copy, bench_in, monkeypatch):
    shutil.rmtree(copy / "cache")
    wide = f"{TUNE} --hidden 16,24 --quiet"
    really, third = tuner._Workers.measure, []

    def measure(self, key, choice, share_s):
        if key.name not in (*entries_of(copy), *third):
            third.append(key.name)
        if len(third) == 3:
            raise KeyboardInterrupt
        return really(self, key, choice, share_s)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(tuner._Workers, "measure", measure)
        interrupted.setattr(sys, "argv", ["lstm-bench", *wide.split()])
        done = bench_in(wide, copy)
    assert done.returncode == Exit.INTERRUPTED
    assert done.stderr.count("\n") == 1
    assert "interrupted, 2 keys are in " in done.stderr
    assert done.stderr.endswith(f"; go on with: lstm-bench {wide}\n")
    made = list(entries_of(copy))
    assert made == third[:2]

    done = bench_in(f"{wide} --json", copy)
    assert done.returncode == 0, done.stderr
    assert list(entries_of(copy))[:2] == made
    statuses = {row["key"]: row["status"] for row in json.loads(done.stdout)["keys"]}
    assert [key for key, status in statuses.items() if status == "known"] == made
    assert len(statuses) == 4


# Layers wait that are smaller than the file beside the plugin says. The largest come first.
FEW_AND_NO_SMALLER = """
import time
from pathlib import Path

CHOICES = CHOICES[:2]
at_once = layer


def layer(x, h0, c0, weights, *, problem, lengths=None):
    while problem.hidden_size < int(Path(__file__).with_name("smallest").read_text()):
        time.sleep(0.01)  # the test writes the file
    return at_once(x, h0, c0, weights, problem=problem, lengths=lengths)
"""


@pytest.mark.slow
def test_interrupted_or_killed_it_loses_the_key_in_flight_and_goes_on(copy):
    # Another backend, as far as its file is concerned; one whose keys are quickly done.
    (copy / "tunable.py").write_text((copy / "tunable.py").read_text() + FEW_AND_NO_SMALLER)
    command = f"{TUNE} --hidden 16,24,32,40 --quiet"
    shutil.rmtree(copy / "cache")
    made = []
    # The smallest layer, and how many keys there are without smaller ones.
    signals = ((signal.SIGINT, Exit.INTERRUPTED, 40, 2), (signal.SIGKILL, -signal.SIGKILL, 32, 4))
    for signal_number, code, smallest, count in signals:
        (copy / "smallest").write_text(str(smallest))
        process = start(command, copy, forked=True)
        until(lambda count=count: len(entries_of(copy)) == count, process)
        process.send_signal(signal_number)
        _, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == code
        before, made = made, list(entries_of(copy))
        assert made[: len(before)] == before
        assert len(made) == count
        if code == Exit.INTERRUPTED:
            assert err.count("\n") == 1
            assert f"interrupted, {len(made)} keys are in " in err
            assert err.endswith(f"; go on with: lstm-bench {command}\n")

    (copy / "smallest").write_text("16")
    done = bench(f"{command} --json", copy)
    assert done.returncode == 0, done.stderr
    assert list(entries_of(copy))[: len(made)] == made
    assert len(entries_of(copy)) == 8
    statuses = [row["status"] for row in json.loads(done.stdout)["keys"]]
    assert statuses.count("known") == len(made)
    # Whether another choice is the faster is not the subject here.
    assert statuses.count("kept") + statuses.count("tuned") == 8 - len(made)


def test_a_budget_that_is_too_short_ends_6_and_says_so(copy, bench_in, monkeypatch):
    shutil.rmtree(copy / "cache")
    # A second passes whenever anybody looks.
    watch = partial(search.Stopwatch, now=itertools.count().__next__)
    monkeypatch.setattr(tuner, "Stopwatch", watch)
    done = bench_in(f"{TUNE} --time-budget 0.1 --quiet", copy)
    assert done.returncode == Exit.MEASURING_FAILED
    assert "2 keys not reached in --time-budget" in done.stderr
    assert not entries_of(copy)


def test_an_own_choice_that_is_wrong_ends_4_and_is_not_kept(copy, bench_in):
    source = (copy / "tunable.py").read_text()
    (copy / "tunable.py").write_text(source.replace('24, "fault": "none"', '24, "fault": "wrong"'))
    done = bench_in(f"{TUNE} --out mine.json --quiet", copy)
    assert done.returncode == Exit.INCORRECT
    assert "incorrect: y wrong" in done.stdout
    assert not (copy / "mine.json").exists()


def test_out_keeps_it_elsewhere_and_overwrites_nothing_else(copy, bench_in):
    (copy / "mine.json").write_text('{"name": "something else"}')
    done = bench_in(f"{TUNE} --out mine.json --quiet", copy)
    assert done.returncode == Exit.USAGE
    assert done.stderr.count("\n") == 1
    assert "--out mine.json is not a file of tuned parameters: give another --out" in done.stderr
    assert json.loads((copy / "mine.json").read_text()) == {"name": "something else"}


@pytest.mark.parametrize(
    ("candidates", "says"),
    [
        ("1 / 0", "asked for 'candidates': ZeroDivisionError"),
        ("[]", "has no candidates for lstm"),
        ("[1]", "asked for 'candidates': TypeError"),
        ("os._exit(5)", "asked for 'candidates': the worker ended with exit code 5"),
    ],
)
def test_hooks_that_fail_end_in_one_line(refused, here, candidates, says):
    source = Path(tunable.__file__).read_text()
    source += f"\ndef candidates(problem, pass_name, device):\n    return {candidates}\n"
    (here / "strange.py").write_text(source)
    plugin = ("--plugin", "strange.py", "--device", "cpu")
    assert says in refused("tune", "tunable", *plugin, "--hidden", 8, code=6)


def test_a_place_that_cannot_be_written_is_told_at_once(refused, here):
    (here / "file").touch()
    plugin = ("--plugin", tunable.__file__, "--hidden", 8, "--device", "cpu")
    for place in ("file/mine.json", "/proc/mine.json"):
        assert f"cannot write {place}" in refused("tune", "tunable", *plugin, "--out", place)


def test_a_backend_without_the_hooks_is_refused_and_those_with_them_named(refused):
    plugin = tunable.__file__
    line = refused("tune", "naive", "--plugin", plugin, "--hidden", 8, "--device", "cpu")
    assert "backend 'naive' has no launch parameters to tune" in line
    assert "lacks tuning_key, candidates, using" in line
    assert "tunable" in line.partition("these have:")[2]


def test_a_backend_that_cannot_run_here_or_is_unknown_is_refused(refused):
    line = refused("tune", "triton", "--device", "cpu", "--hidden", 8)
    assert "backend 'triton' cannot be tuned here: runs on cuda only" in line
    assert "did you mean 'triton'" in refused("tune", "tritn", "--hidden", 8)


def test_kernels_are_compiled_ahead_into_the_cache_of_those_who_measure(
    tmp_path, monkeypatch, forked
):
    pytest.importorskip("triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    from lstm_kernels.backends.fused_triton.tuning import candidates_on

    problem = Problem("lstm", 64, 16, 16, 16, dtype="float16")
    own, other, *_ = candidates_on(problem, "forward", ARCHITECTURES["sm_90"])
    key = TuningKey(key_of(problem, "forward"), Case(problem, "forward"), (own, other))
    settings = WorkerSettings("cpu", tmp_path, 1)
    ahead = Ahead(settings, "triton", None, "sm_90", [key], cores=3)
    (worker,) = ahead._workers
    # Inference and a forward that saves, for each choice; a backward, and one that recomputes.
    request = CompileKernels("triton", None, "sm_90", jobs_of([key]))
    assert worker.receive(request, 120) == CompileCounts(compiled=6, cached=0, failed=0)
    ahead.close()
    again = WorkerProcess(settings, "again")
    assert again.ask(request) == CompileCounts(compiled=0, cached=6, failed=0)
    wrong = replace(request, jobs=jobs_of([replace(key, candidates=({"tile": 1},))]))
    assert again.ask(wrong) == CompileCounts(compiled=0, cached=0, failed=1)
    again.close()


def test_fresh_processes_are_started_ahead_and_none_is_left(tmp_path, forked):
    crew = Crew(WorkerSettings("cpu", tmp_path, 1), {}, load_timeout_s=60)
    pids, spares = [], []
    for _ in range(3):
        crew.renew("naive", ahead=2)
        pids.append(crew.worker("naive").pid)
        spares.append([worker.pid for worker in crew._spares])
    assert [len(each) for each in spares] == [1, 0, 1]
    assert len(set(pids)) == 3
    crew.end()
    for pid in {*pids, *spares[2]}:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_no_more_compilers_than_cores_are_free(tmp_path, forked):
    key = TuningKey("a key", Case(Problem("lstm", 2, 2, 2, 2), "forward"), ({"tile": 1},) * 3)
    settings = WorkerSettings("cpu", tmp_path, 1)
    for cores, count in ((1, 0), (2, 0), (4, 2), (64, 3)):
        ahead = Ahead(settings, "naive", None, "sm_90", [key], cores=cores)
        ahead.close()
        assert len(ahead._workers) == count


@pytest.mark.parametrize(
    ("capability", "arch"), [("9.0", "sm_90"), ("8.0", "sm_80"), ("8.9", None), ("x86_64", None)]
)
def test_architecture_of_a_capability(capability, arch):
    assert arch_of(capability) == arch
