"""tests/perf end to end: measured by pytest-benchmark, refused where wrong, read by `import`."""

import json
import os
import subprocess
import sys

import pytest
from bench import environment
from places import ROOT

from lstm_harness.analysis.summary import plain_rows, summarise
from lstm_harness.store import run_folder

BREAKS_NAIVE = """
from lstm_kernels.backends import naive

right = naive.layer

def layer(*arguments, **named):
    y, *states = right(*arguments, **named)
    return 1.001 * y, *states

naive.layer = layer
"""

# One session of benchmarks serves all tests of it, and really measures.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("tests/perf")]


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """One benchmark of `aten` and one of a `naive` that is a little wrong."""
    folder = tmp_path_factory.mktemp("perf")
    (folder / "breaks_naive.py").write_text(BREAKS_NAIVE)
    env = environment(folder, folder)
    for name in [name for name in env if name.startswith("PYTEST_")]:
        del env[name]  # of the session around this one
    chosen = "(naive or aten) and T32-B1-H128 and forward and cpu"
    command = [sys.executable, "-m", "pytest", "tests/perf", "-k", chosen]
    command += ["-p", "breaks_naive", "-p", "no:cacheprovider", f"--benchmark-json={folder}/x.json"]
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600, check=False
    )
    assert (folder / "x.json").exists(), done.stdout + done.stderr
    return done, folder / "x.json"


def test_a_backend_that_is_wrong_has_no_time(session):
    done, path = session
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout
    assert "y wrong: y is off by 0.001" in done.stdout
    (one,) = json.loads(path.read_text())["benchmarks"]
    assert one["extra_info"]["backend"] == "aten"


def test_what_it_measured_is_device_time_of_one_execution(session):
    (one,) = json.loads(session[1].read_text())["benchmarks"]
    assert len(one["stats"]["data"]) == one["stats"]["rounds"] == 20
    assert one["stats"]["median"] > 0


def test_it_comes_in_as_a_run_of_one_block(session, command, here):
    code, _, err = command("import", session[1], "-o", "run")
    assert code == 0
    assert "1 of the 3 blocks that a verdict needs" in err
    run = run_folder.load(here / "run")
    (row,) = plain_rows(summarise(run.records))
    assert (row["backend"], row["label"]) == ("aten", "lstm T32 B1 H128 float32 forward")
    (one,) = json.loads(session[1].read_text())["benchmarks"]
    assert row["median_ns"] == pytest.approx(1e9 * one["stats"]["median"], abs=1)
    assert run.manifest["environment"]["settings"]
    assert run.manifest["environment"]["git"]["commit"]
    assert len(run.manifest["kernels_digest"]) == 64
    code, out, err = command("compare", "run", "run", "--json")
    assert code == 0, err
    assert [verdict["kind"] for verdict in json.loads(out)["verdicts"]] == ["INCONCLUSIVE"]


def test_benchmarks_are_run_by_name_alone():
    command = [sys.executable, "-m", "pytest", "tests", "--collect-only", "-p", "no:cacheprovider"]
    command += ["--ignore=tests/kernels", "--ignore=tests/harness", "--ignore=tests/browser"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert "no tests" in done.stdout
