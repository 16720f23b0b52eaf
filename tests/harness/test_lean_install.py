"""Without what the extras bring a CPU is raced, and whoever needs one names it in a line."""

import interpreted
import pytest
from bench import bench, environment
from saved_runs import save
from synthetic_runs import blocks

# What is to be found nowhere, as if pip had brought the lean install alone.
WITHOUT = """
from importlib.machinery import PathFinder

GONE = {"triton", "numba_cuda", "pynvml", "cuda", "nvidia", "pyarrow", "duckdb", "IPython"}
find = PathFinder.find_spec


def found(name, path=None, target=None):
    return None if name.partition(".")[0] in GONE else find(name, path, target)


PathFinder.find_spec = staticmethod(found)
"""
SMALL = "--seq-len 2 --batch 1 --hidden 4 --blocks 1 --threads 1 --quiet"


@pytest.fixture
def lean(tmp_path, monkeypatch):
    """Run a command line where the extras are missing, in its workers too."""
    for variable in interpreted.VARIABLES:  # pytest-xdist's workers begin with them
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "lean").mkdir()
    (tmp_path / "lean" / "sitecustomize.py").write_text(WITHOUT)
    env = environment(tmp_path, tmp_path / "lean")

    def go(arguments, **variables):
        return bench(arguments, tmp_path, env=env | variables)

    return go


def test_inspecting_a_kernel_names_the_extra_that_brings_its_compiler(lean):
    done = lean("inspect triton --hidden 16")
    assert (done.returncode, done.stdout) == (2, "")
    needs = "backend 'triton' needs triton: pip install 'lstm-bench[cuda]'"
    assert done.stderr == f"lstm-bench: {needs}\n"


def test_exporting_to_parquet_names_the_extra_that_brings_its_library(lean, tmp_path):
    save(tmp_path / "race", blocks("aten", [100] * 3))
    done = lean("export race --format parquet -o race.parquet")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "pip install 'lstm-bench[store]'" in done.stderr


def test_a_query_names_the_extra_too(lean, tmp_path):
    save(tmp_path / "race", blocks("aten", [100] * 3))
    done = lean("query select/**/1 --store race")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "pip install 'lstm-bench[store]'" in done.stderr


@pytest.mark.slow
def test_checking_kernels_names_it_too(lean):
    done = lean(f"verify --backend triton --pass train {SMALL}", TRITON_INTERPRET="1")
    assert done.returncode == 6
    assert (
        "triton: unsupported, 1 record: needs triton: pip install 'lstm-bench[cuda]'" in done.stderr
    )


@pytest.mark.slow
def test_a_cpu_is_raced_whole(lean, tmp_path):
    done = lean(f"run {SMALL} --backend aten,numba_cpu --pass inference --time-budget 1 --out race")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "race/report.html"
    assert "Traceback" not in done.stderr
