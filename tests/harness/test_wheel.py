"""The package as pip builds and installs it does its job far from the repository."""

import os
import re
import subprocess
import sys
import tomllib
from email import message_from_bytes
from zipfile import ZipFile

import pytest
from bench import environment, manifest_of
from places import ROOT

SMALL = (
    "--backend naive,aten --seq-len 2 --batch 1 --hidden 4 --blocks 1 --threads 1 --time-budget 1"
)
# Where what runs was imported from, in the program's own process.
WHERE = "import lstm_harness, lstm_kernels; print(lstm_harness.__file__, lstm_kernels.__file__)"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built with what is installed: no network is needed."""
    pytest.importorskip("hatchling")
    pytest.importorskip("pip")
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    run([*pip, "--no-deps", "--no-index", "--no-build-isolation", "-w", str(folder), str(ROOT)])
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder that the wheel is installed in."""
    site = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    run([*pip, "--no-deps", "--no-index", "--target", str(site), str(wheel)])
    return site


@pytest.mark.slow
def test_it_races_and_reports_in_another_folder(installed, tmp_path):
    env = environment(tmp_path) | {"PYTHONPATH": str(installed)}
    for file in run([sys.executable, "-P", "-c", WHERE], cwd=tmp_path, env=env).split():
        assert file.startswith(str(installed))
    said = run(
        [sys.executable, "-P", "-m", "lstm_harness", "run", *SMALL.split(), "--out", "race"],
        cwd=tmp_path,
        env=env,
    )
    assert said.splitlines()[-1] == "race/report.html"
    assert (tmp_path / "race" / "report.html").stat().st_size > 1_000_000
    manifest = manifest_of(tmp_path / "race")
    assert (manifest["end"] is None, manifest["environment"]["git"]) == (False, None)


@pytest.mark.slow
def test_its_command_names_the_suites_that_it_carries(installed, tmp_path):
    env = os.environ | {"PYTHONPATH": str(installed)}
    said = run([installed / "bin" / "lstm-bench", "suites"], cwd=tmp_path, env=env)
    assert "quick" in said
    assert "deepbench-train" in said


@pytest.mark.slow
def test_the_wheel_holds_both_packages_with_their_types_and_data(wheel):
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
    ours = {f"{package}/py.typed" for package in ("lstm_harness", "lstm_kernels")}
    for root in ("harness", "kernels"):
        for file in (ROOT / root).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                ours.add(file.relative_to(ROOT / root).as_posix())
    assert ours == {name for name in names if ".dist-info/" not in name}


@pytest.mark.slow
def test_its_metadata_says_what_each_extra_brings(wheel):
    with ZipFile(wheel) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith("/METADATA")]
        metadata = message_from_bytes(archive.read(name))
    needed = metadata.get_all("Requires-Dist")
    lean = {re.split(r"[^\w-]", line)[0] for line in needed if "extra ==" not in line}
    assert not {"triton", "numba-cuda", "nvidia-ml-py", "pyarrow"} & lean
    assert {"torch", "numba", "pandas", "plotly", "typer"} <= lean
    assert set(metadata.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])
    for field in ("Summary", "Author", "Keywords", "License-Expression", "Requires-Python"):
        assert metadata[field], field
    assert "Programming Language :: Python :: 3.14" in metadata.get_all("Classifier")
