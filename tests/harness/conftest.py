"""What the harness tests share: the command line in this process, and small problems."""

import json
import tempfile

import pytest

from lstm_harness.__main__ import run
from lstm_harness.model.case import Case
from lstm_kernels import Problem


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder, a scratch folder, a device lock and a cache of the test's own."""
    (tmp_path / "tmp").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def command(here, capsys):
    """Run a command line here; returns exit code, stdout and stderr."""

    def go(*arguments: str):
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return go


@pytest.fixture
def refused(command):
    """Run a command line that must fail with one line; returns that line."""

    def go(*arguments: str, code: int = 2) -> str:
        found, out, err = command(*arguments)
        assert found == code, err
        assert out == ""
        assert err.count("\n") == 1
        assert err.startswith("lstm-bench: ")
        assert "Traceback" not in err
        return err

    return go


@pytest.fixture
def document(command):
    """Run a command line that prints one JSON document; returns it."""

    def go(*arguments: str):
        code, out, err = command(*arguments)
        assert code == 0, err
        return json.loads(out)

    return go


@pytest.fixture
def small_case():
    """A case of a few numbers."""

    def make(pass_name: str = "forward", launch: str = "eager", **problem) -> Case:
        sizes = {"cell": "lstm", "seq_len": 3, "batch": 2, "input_size": 4, "hidden_size": 4}
        return Case(Problem(**(sizes | problem)), pass_name, launch)

    return make
