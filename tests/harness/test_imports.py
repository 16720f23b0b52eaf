"""What light commands must not import: torch, pandas, triton, numba."""

import json
import subprocess
import sys

import pytest
from bench import bench, environment, start

COMMANDS = ["", "backends", "suites", "plan", "run", "verify", "inspect", "limits", "tune"]
COMMANDS += ["report", "view", "history", "export", "import", "ab", "selftest"]
COMMANDS += ["compare", "check", "baseline save", "baseline list"]
HEAVY = {"torch", "pandas", "numpy", "scipy", "triton", "numba", "plotly", "jinja2"}
LISTS_MODULES = """
import sys
from lstm_harness.__main__ import run
for command in {commands!r}:
    assert run([*command.split(), "--help"]) == 0
print(*sorted({{name.partition(".")[0] for name in sys.modules}}), file=sys.stderr)
"""


def modules_after(script, folder):
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(folder),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split())


def test_help_of_every_command_imports_nothing_heavy(tmp_path):
    assert not HEAVY & modules_after(LISTS_MODULES.format(commands=COMMANDS), tmp_path)


def test_the_check_sees_an_import(tmp_path):
    script = "import numpy\n" + LISTS_MODULES.format(commands=[""])
    assert "numpy" in modules_after(script, tmp_path)


@pytest.fixture
def tattling(tmp_path):
    """An environment whose triton and numba write a file when anybody imports them."""
    for name in ("triton", "numba"):
        package = tmp_path / "fakes" / name / "__init__.py"
        package.parent.mkdir(parents=True)
        package.write_text(f"open({str(tmp_path / name)!r}, 'w').close()\n")
    return environment(tmp_path, tmp_path / "fakes")


def test_listing_backends_imports_neither_triton_nor_numba(tmp_path, tattling):
    done = bench("backends --json", tmp_path, env=tattling)
    assert done.returncode == 0, done.stderr
    assert {"naive", "aten"} <= {row["name"] for row in json.loads(done.stdout)}
    assert not (tmp_path / "triton").exists()
    assert not (tmp_path / "numba").exists()


def test_the_packages_that_tattle_do(tmp_path, tattling):
    subprocess.run([sys.executable, "-c", "import triton, numba"], env=tattling, check=True)
    assert (tmp_path / "triton").exists()
    assert (tmp_path / "numba").exists()


def test_a_machine_without_report_libraries_measures_and_says_what_to_install(tmp_path):
    absent = tmp_path / "fakes" / "jinja2.py"
    absent.parent.mkdir()
    absent.write_text("raise ModuleNotFoundError('no jinja2', name='jinja2')\n")
    env = environment(tmp_path, tmp_path / "fakes")
    small = "--backend naive --seq-len 2 --batch 1 --hidden 4 --blocks 1 --threads 1 --quiet"
    process = start(f"run {small} --time-budget 1 --out run", tmp_path, forked=True, env=env)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == "run"
    assert "pip install jinja2 plotly" in err
    again = bench("report run", tmp_path, env=env)
    assert again.returncode == 2
    assert "pip install jinja2 plotly" in again.stderr
    assert "Traceback" not in again.stderr
