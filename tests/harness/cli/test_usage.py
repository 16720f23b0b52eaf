"""A user's mistakes: one useful line, the documented exit code, no traceback, nothing left."""

import shlex
import signal
import subprocess
import sys
import time
import unicodedata

import pytest
import synthetic_store
from bench import bench, environment, start
from saved_runs import save
from synthetic_runs import blocks, record
from waiting import PATIENCE_S, until

from lstm_harness.model.errors import Exit

NEAREST = [
    (("run", "--backend", "nave"), "did you mean 'naive'"),
    (("run", "quik"), "did you mean 'quick'"),
    (("suites", "quik"), "did you mean 'quick'"),
    (("run", "--cell", "lstn"), "did you mean 'lstm'"),
    (("run", "--dtype", "float23"), "did you mean 'float32'"),
    (("run", "--pass", "foward"), "did you mean 'forward'"),
    (("run", "--launch", "graf"), "did you mean 'graph'"),
    (("run", "--cache", "wrm"), "did you mean 'warm'"),
    (("run", "--precision", "iee"), "did you mean 'ieee'"),
    (("run", "--lengths", "unifrom:1:2", "--seq-len", "4"), "uniform:LOW:HIGH"),
    (("run", "--lengths", "uniform:3:1", "--seq-len", "4"), "LOW <= HIGH <= T"),
    (("run", "--lengths", "uniform:1:9", "--seq-len", "4"), "T is 4"),
    (("run", "--blokcs", "3"), "--blocks"),
    (("rum",), "run"),
    (("run", "--device", "gpu"), "auto, cpu, cuda"),
]


@pytest.mark.parametrize(("arguments", "says"), NEAREST)
def test_unknown_name_is_answered_with_the_nearest(refused, arguments, says):
    assert says in refused(*arguments)


VALUES = [
    ("--blocks", ["abc", "0", "-1", "2.5", str(10**12), str(10**30), "1e3", ""]),
    ("--min-samples", ["abc", "0", "-1", "2.5", str(10**30)]),
    ("--threads", ["abc", "0", "-1", str(10**12)]),
    ("--seed", ["abc", "-1", "1.5", "9" * 400]),
    ("--rel-ci", ["abc", "0", "-1", "2", "nan"]),
    ("--cell-timeout", ["abc", "0", "-1", "inf", "nan"]),
    ("--time-budget", ["abc", "0", "-1", "inf", "nan"]),
    ("--seq-len", ["abc", "0", "-1", "2.5", str(10**12), str(10**30), "9" * 5000, "", ","]),
    ("--hidden", ["16:8:x2", "16:64", "8:16:", "1:2:x1", "hidden", "1:1000000000:+1"]),
    ("--input", ["hiden", "0"]),
    ("--layers", [str(10**9), "0"]),
    ("--heads", ["abc", "0", "-1", "2.5"]),
    ("--dropout", ["1", "-0.5", "nan", "inf", "abc", ""]),
    ("--backend", ["", ","]),
]


@pytest.mark.parametrize(
    ("option", "value"), [(option, value) for option, values in VALUES for value in values]
)
def test_value_that_cannot_be(refused, here, option, value):
    line = refused("run", option, value, "--out", "race")
    assert option in line
    assert len(line) < 300
    assert not (here / "race").exists()


def test_a_switch_with_a_value_that_cannot_be(refused):
    assert "--bidirectional 'maybe': expected true" in refused("plan", "--bidirectional=maybe")


def test_grid_too_large_to_list(refused):
    sizes = ("--hidden", "1:1000:+1", "--batch", "1:1000:+1")
    assert "2000000 cases" in refused("plan", *sizes)


def test_heads_that_do_not_divide(refused):
    line = refused("run", "--hidden", "16", "--heads", "3")
    assert "heads=3 does not divide hidden_size=16" in line


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("--batch-first --lengths uniform:1:8", "a module ignores batch_first for a packed batch"),
        ("--dropout 0.3", "dropout 0.3 with one layer: it is between layers"),
        (
            "--autocast bfloat16 --dtype float16",
            "autocast casts float32; expected float32 and ieee",
        ),
    ],
)
def test_a_call_that_no_module_makes(refused, given, says):
    assert says in refused("run", *given.split())


def test_impossible_combination(refused):
    line = refused("run", "--precision", "tf32", "--dtype", "float64")
    assert "tf32" in line
    assert "float64" in line


def test_two_sources_of_shapes(refused, here):
    (here / "mine.toml").write_text("[[grid]]\nhidden = 8\n")
    line = refused("run", "quick", "--spec", "mine.toml")
    assert "leave one out" in line


@pytest.mark.parametrize("text", ["[[grid", "[[grid]]\nhiden = 8\n", "[run]\nblocks = 1\n"])
def test_bad_spec_file(refused, here, text):
    (here / "mine.toml").write_text(text)
    assert "mine.toml" in refused("run", "--spec", "mine.toml")


def test_spec_file_that_is_not_there(refused):
    assert "cannot read nowhere.toml" in refused("plan", "--spec", "nowhere.toml")


def test_plugin_that_is_not_there(refused):
    assert "no such file" in refused("run", "--plugin", "nowhere.py")
    assert "it is a folder; give the path" in refused("run", "--plugin", ".")


@pytest.mark.parametrize("command_name", ["run", "verify", "plan", "backends"])
def test_device_that_is_not_there(refused, command_name, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    line = refused(command_name, "--device", "cuda")
    assert "finds no CUDA device here; use --device cpu" in line


def test_unknown_backend_names_the_known(refused):
    line = refused("plan", "--backend", "trtion,naive")
    assert "unknown backend 'trtion'" in line
    assert "aten" in line


def test_the_oracle_is_never_raced(refused):
    assert "never raced" in refused("run", "--backend", "reference,aten")


@pytest.mark.parametrize("command_name", ["run", "verify", "plan"])
def test_plan_that_needs_more_memory_than_there_is(refused, here, command_name):
    huge = ("--seq-len", "1000000", "--batch", "1000000", "--hidden", "1024")
    line = refused(command_name, *huge, *(("--out", "race") if command_name == "run" else ()))
    assert "GiB" in line
    assert "smaller --seq-len" in line
    assert sorted(p.name for p in here.iterdir()) == ["tmp"]
    assert list((here / "tmp").iterdir()) == []


def test_out_that_cannot_be_made(refused, here):
    (here / "file").touch()
    assert "cannot write to file/race" in refused("run", "--out", "file/race", "--backend", "aten")


def test_out_that_is_used(refused, here):
    (here / "race").mkdir()
    (here / "race" / "notes.txt").write_text("mine")
    assert "already used" in refused("run", "--out", "race")
    assert "already used" in refused("run", "--out", "race/notes.txt")
    assert (here / "race" / "notes.txt").read_text() == "mine"


def test_view_of_nothing(refused, here):
    for place in ("nowhere", here):
        assert "holds no run" in refused("view", place, "--no-browser")


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGINT], [signal.SIGTERM], [signal.SIGHUP], [signal.SIGINT] * 3],
    ids=lambda signals: "-".join(each.name for each in signals),
)
def test_an_interruption_before_anything_is_kept_is_said(here, signals):
    process = start("limits --quiet", here)
    until(lambda: list((here / "tmp").glob("lstm-bench-scratch-*/held")), process)
    for each in signals:
        process.send_signal(each)
        time.sleep(0.01)  # two that come at once are one
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == Exit.INTERRUPTED
    assert err == "lstm-bench: interrupted; nothing was kept\n"
    assert not list((here / "tmp").glob("lstm-bench-scratch-*"))


def test_what_nobody_foresaw_is_a_bug_and_its_report_lies_in_a_file(command, here, monkeypatch):
    def fails(*_):
        raise LookupError("an \x1b[31minner matter")

    monkeypatch.setattr("lstm_harness.store.run_folder.load", fails)
    code, out, err = command("export", "a run", "--format", "csv", "-o", "x.csv")
    assert (code, out, err.count("\n")) == (Exit.BUG, "", 1)
    assert "LookupError: an \N{REPLACEMENT CHARACTER}[31minner matter; please send us" in err
    (report,) = (here / "tmp").glob("lstm-bench-bug-*.txt")
    assert str(report) in err
    told = report.read_text()
    assert "lstm-bench export 'a run' --format csv -o x.csv" in told
    assert "Traceback" in told
    assert "in fails" in told


def test_a_terminal_that_lacks_letters_is_written_to_without_them(here):
    save(here / "run", blocks("naive", [2_500] * 3))
    done = bench("compare run run", here, env=environment(here) | {"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xb5s" in done.stdout


def test_no_control_character_of_a_record_comes_out(command, here):
    hostile = "\x1b[31mred\x9b2J\x07\x00"
    whole = [*blocks("naive", [1000] * 5), *blocks(hostile, [1000] * 5)]
    whole += [record("aten", status="error", reason=hostile, block=block) for block in range(5)]
    save(here / "run", whole, label=hostile, environment=synthetic_store.environment(host=hostile))
    for line in (
        *("compare run run --markdown v.md --junit v.xml", "history . --quiet"),
        *("export run --format csv -o run.csv", "baseline save run kept --into kept"),
        *("baseline list --into kept", "check run --baseline kept/kept.jsonl", "history . --json"),
    ):
        code, out, err = command(*line.split())
        assert code in (Exit.DONE, Exit.INCONCLUSIVE, Exit.MEASURING_FAILED), err
        assert not _controls(out + err), line
    for written in ("v.md", "v.xml", "run.csv", "kept/kept.jsonl"):
        assert not _controls((here / written).read_text()), written


def _controls(text):
    return [c for c in text if unicodedata.category(c) == "Cc" and c not in "\n\r"]


def test_output_that_nobody_reads_and_that_finds_no_room(here):
    run = [sys.executable, "-m", "lstm_harness", "suites", "--json"]
    reads_a_line = f"{shlex.join(run)} | head -1; exit ${{PIPESTATUS[0]}}"
    full_disk = f"{shlex.join(run)} > /dev/full"
    for command_line, code, lines in ((reads_a_line, 0, 0), (full_disk, 6, 1)):
        done = subprocess.run(
            ["bash", "-c", command_line],
            env=environment(here),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code
        assert done.stderr.count("\n") == lines, done.stderr
