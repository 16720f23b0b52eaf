"""A program runs as it would by itself; how it ended is told, and what was noted till then."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from waiting import until

from lstm_harness.interop.watched_program import HANDED_ON, read, run
from lstm_harness.model.errors import UserError


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("pass", 0),
        ("raise SystemExit(7)", 7),
        ("1 / 0", 1),
        ("import os; os.kill(os.getpid(), 9)", 128 + 9),
    ],
)
def test_the_exit_code_is_the_programs(tmp_path, capfd, line, code):
    assert run([sys.executable, "-c", line], tmp_path) == code
    assert ("ZeroDivisionError" in capfd.readouterr().err) == ("1 / 0" in line)


def test_arguments_folder_input_and_output_are_the_programs(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = "import os, sys; print(sys.argv[1:], os.getcwd()); print('said', file=sys.stderr)"
    assert run([sys.executable, "-c", line, "--a", "b c", "--"], tmp_path) == 0
    out, err = capfd.readouterr()
    assert out == f"['--a', 'b c', '--'] {tmp_path}\n"
    assert err == "said\n"


def test_a_path_that_the_user_has_set_is_kept(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}elsewhere")
    run([sys.executable, "-c", "import sys; print(sys.path[1])"], tmp_path)
    assert capfd.readouterr().out == f"{tmp_path}\n"


def test_a_program_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"cannot start 'pyton-of-no-kind': .*capture -- python"):
        run(["pyton-of-no-kind", "train.py"], tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_handed_on_and_the_program_decides(tmp_path, monkeypatch, number):
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_DFL)  # whatever tests run under
    line = (
        "import pathlib, signal, sys, time\n"
        "for each in (signal.SIGTERM, signal.SIGHUP):\n"
        "    signal.signal(each, lambda number, _: sys.exit(number))\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        "time.sleep(3600)\n"
    )

    def send_once_it_is_ready():
        until((tmp_path / "ready").exists)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send_once_it_is_ready)
    sender.start()
    before = [signal.signal(each, signal.SIG_DFL) for each in HANDED_ON]
    try:
        assert run([sys.executable, "-c", line], tmp_path) == number
    finally:
        sender.join()
        for each, handler in zip(HANDED_ON, before, strict=True):
            signal.signal(each, handler)


def test_what_is_no_note_is_told(tmp_path):
    (tmp_path / "python").touch()
    (tmp_path / "trouble").write_text("TypeError: an old torch\n")
    lines = ["{", "[]", json.dumps({"trouble": "by a hook"}), json.dumps({"file": 1, "at": 0})]
    (tmp_path / "1-1.jsonl").write_text("\n".join(lines) + "\n")
    notes = read(tmp_path)
    assert (notes.python, notes.torch, notes.counts) == (True, False, {})
    assert {"TypeError: an old torch", "by a hook"} < set(notes.troubles)
    assert len(notes.troubles) == 5


def test_console_scripts_and_children_are_looked_into(tmp_path):
    script = tmp_path / "tool"
    script.write_text(
        f"#!{sys.executable}\nimport subprocess, sys\nsubprocess.run([sys.executable, '-c', ''])\n"
    )
    script.chmod(0o755)
    for command, is_seen in (([str(script)], True), (["true"], False)):
        folder = tmp_path / command[0].rpartition("/")[2].join(("notes-", ""))
        folder.mkdir()
        assert run(command, folder) == 0
        assert read(folder).python is is_seen


def test_a_python_that_reads_no_path_is_not_looked_into(tmp_path):
    assert run([sys.executable, "-I", "-c", "pass"], tmp_path) == 0
    assert not read(tmp_path).python


def test_a_signal_that_comes_while_the_program_starts_is_handed_on(tmp_path, monkeypatch):
    start = subprocess.Popen

    def slowly(*args, **named):
        process = start(*args, **named)
        os.kill(os.getpid(), signal.SIGTERM)
        return process

    monkeypatch.setattr(subprocess, "Popen", slowly)
    code = run([sys.executable, "-c", "import time; time.sleep(3600)"], tmp_path)
    assert code == 128 + signal.SIGTERM
