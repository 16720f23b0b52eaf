"""The README's recipe, extracted and followed as a newcomer would."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import lstm_harness
import lstm_kernels

README = Path(__file__).parents[2] / "README.md"


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), flags=re.DOTALL)


@pytest.fixture
def lstm_bench(tmp_path):
    """Run a command line of the README in a folder of its own, shortened by a few flags."""
    roots = [str(Path(package.__path__[0]).parent) for package in (lstm_harness, lstm_kernels)]

    def run(command: str, *more: str) -> subprocess.CompletedProcess[str]:
        program, *arguments = shlex.split(command)
        assert program == "lstm-bench"
        return subprocess.run(
            [sys.executable, "-m", "lstm_harness", *arguments, *more],
            cwd=tmp_path,
            env={"PYTHONPATH": ":".join(roots), "TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_the_recipe_adds_a_backend_in_one_file_and_races_it(lstm_bench, tmp_path):
    (recipe,) = code_blocks("python")
    (commands,) = code_blocks("sh")
    (tmp_path / "my_lstm.py").write_text(recipe)
    verify, race = commands.strip().splitlines()
    verified = lstm_bench(verify, "--threads", "1", "--quiet")
    assert verified.returncode == 0, verified.stderr
    small = ("--seq-len", "8", "--blocks", "1", "--time-budget", "5", "--threads", "1", "--quiet")
    raced = lstm_bench(race, *small)
    assert raced.returncode == 0, raced.stderr
    report = Path(raced.stdout.strip().splitlines()[-1])
    assert "mine" in (tmp_path / report).read_text()


def test_a_mistake_in_the_recipe_is_found(lstm_bench, tmp_path):
    (recipe,) = code_blocks("python")
    wrong = recipe.replace("i, f, g, o = gates", "f, i, g, o = gates")
    assert wrong != recipe
    (tmp_path / "my_lstm.py").write_text(wrong)
    (commands,) = code_blocks("sh")
    verified = lstm_bench(commands.splitlines()[0], "--threads", "1", "--quiet")
    assert verified.returncode == 4
    assert "y" in verified.stderr
