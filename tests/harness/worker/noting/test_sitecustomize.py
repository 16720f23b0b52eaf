"""How noting gets into a process, and what it leaves as it was."""

import os
import subprocess
import sys

import pytest

from lstm_harness.interop.watched_program import FOLDER, NOTING

# A torch of two modules: what it does stands in the real one.
FAKE_TORCH = {
    "torch/__init__.py": "",
    "torch/nn/__init__.py": "from . import modules",
    "torch/nn/modules/__init__.py": "from . import rnn",
    "torch/nn/modules/rnn.py": "EXECUTED = True",
}


@pytest.fixture
def python(tmp_path):
    """Run a line of Python as `capture` would, with modules of the test's own; returns stdout."""
    notes = tmp_path / "notes"
    notes.mkdir()

    def go(line, modules=(), folder=notes):
        for name, text in dict(modules).items():
            path = tmp_path / "own" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        paths = os.pathsep.join([str(NOTING), str(tmp_path / "own")])
        return subprocess.run(
            [sys.executable, "-c", line],
            env=os.environ | {"PYTHONPATH": paths, FOLDER: str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )

    return go


def test_the_path_and_the_modules_are_as_without(python, tmp_path):
    line = "import sys; print(sys.path[1]); print('torch' in sys.modules, len(sys.meta_path))"
    done = python(line)
    plain = subprocess.run(
        [sys.executable, "-c", "import sys; print(len(sys.meta_path))"],
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert first == str(tmp_path / "own")
    # What waits for torch is one more finder.
    assert second == f"False {int(plain.stdout) + 1}"
    assert done.stderr == ""
    assert sorted(path.name for path in (tmp_path / "notes").iterdir()) == ["python"]


def test_a_sitecustomize_that_it_hides_is_run_and_is_the_one(python):
    own = {"sitecustomize.py": "OWN = 'mine'\nprint('run')"}
    done = python("import sitecustomize; print(sitecustomize.OWN)", own)
    assert (done.stdout, done.stderr) == ("run\nmine\n", "")


def test_one_that_fails_fails_as_without(python):
    done = python("print('goes on')", {"sitecustomize.py": "raise ValueError('mine')"})
    assert done.stdout == "goes on\n"
    assert "ValueError: mine" in done.stderr


def test_a_torch_that_cannot_be_noted_in_is_told_and_goes_on(python, tmp_path):
    line = "import sys, torch.nn; print(torch.nn.modules.rnn.EXECUTED, len(sys.meta_path))"
    done = python(line, FAKE_TORCH)
    assert done.stdout.startswith("True ")
    assert done.stderr == ""
    assert "Error" in (tmp_path / "notes" / "trouble").read_text()


def test_a_program_that_outlives_the_command_is_left_alone(python, tmp_path):
    done = python("print('goes on')", folder=tmp_path / "gone")
    assert (done.stdout, done.stderr) == ("goes on\n", "")
    assert not (tmp_path / "gone").exists()
