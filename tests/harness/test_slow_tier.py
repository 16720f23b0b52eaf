"""What `make test-all SLOW_MINUTES=…` leaves out, and in which order it takes the rest."""

import re
import shutil
import subprocess
import sys
from itertools import groupby

import pytest
from places import SUPPORT

TESTS = {
    "test_both.py": ("slow", "fast"),
    **{f"test_{name}.py": ("slow", "slow_too") for name in "abcde"},
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of a few tests under these hooks alone: each test's line, in the order they ran."""
    shutil.copy(SUPPORT / "slow_tier.py", tmp_path / "conftest.py")
    for file, names in TESTS.items():
        tests = [f"@pytest.mark.{name[:4]}\ndef test_{name}(): pass\n" for name in names]
        (tmp_path / file).write_text("\n".join(["import pytest\n", *tests]))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n fast\n")

    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def go(*options):
        command = [sys.executable, "-m", "pytest", "-v", *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return re.findall(r"^(\S+::\w+ [A-Z]+)", done.stdout, re.MULTILINE)

    return go


def test_what_is_late_is_left_out(run):
    first, *others = run("--slow-minutes", "0")
    assert first == "test_both.py::test_fast PASSED"
    assert len(others) == 11
    assert all(line.endswith("SKIPPED") for line in others)


def test_another_draw_is_another_order_of_modules(run):
    one, again, other = (
        run("--slow-minutes", "5", "--draw", draw) for draw in ("one", "one", "other")
    )
    assert one == again != other
    assert sorted(one) == sorted(other)
    assert all(line.endswith("PASSED") for line in one)
    # A module's stay together.
    files = [line.partition(":")[0] for line in one[1:]]
    assert [file for file, _ in groupby(files)] == list(dict.fromkeys(files))


def test_without_minutes_all_is_run_as_it_stands(run):
    files = [line.partition(":")[0] for line in run()]
    assert files == sorted(file for file, names in TESTS.items() for _ in names)
