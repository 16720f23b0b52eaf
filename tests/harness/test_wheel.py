"""What would be released: the sdist, the wheel made of it, and both installed as pip does.

They are built, checked and installed with what is at hand: no network is needed. The environment
that the wheel is installed in is new, and finds its dependencies in the tests' own.
"""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from email import message_from_bytes
from zipfile import ZipFile

import pytest
from bench import environment, manifest_of
from places import ROOT

from lstm_harness import __version__

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
ALONE = ["--no-deps", "--no-index"]
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
def sdist(tmp_path_factory):
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("sdist")
    run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder], cwd=ROOT)
    (built,) = folder.glob("*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    # Not imported here: setuptools then leaves distutils to Python for the rest of this process,
    # and a later import of setuptools fails.
    if subprocess.run([*PIP, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("this environment has no pip")
    folder = tmp_path_factory.mktemp("wheel")
    run([*PIP, "wheel", "--quiet", *ALONE, "--no-build-isolation", "-w", str(folder), str(sdist)])
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of an environment that the wheel is installed in."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    run([*PIP, "--python", str(folder), "install", "--quiet", *ALONE, str(wheel)])
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def test_what_is_released_passes_the_checks_of_the_index(sdist, wheel):
    pytest.importorskip("twine")
    said = run([sys.executable, "-m", "twine", "check", "--strict", str(sdist), str(wheel)])
    assert said.count("PASSED") == 2


def test_the_changelog_has_what_is_released(wheel):
    _, version, *_ = wheel.name.split("-")
    assert version == __version__
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.slow
def test_it_races_and_reports_in_another_folder(installed, tmp_path):
    env = environment(tmp_path)
    del env["PYTHONPATH"]
    for file in run(
        [installed / "bin" / "python", "-P", "-c", WHERE], cwd=tmp_path, env=env
    ).split():
        assert file.startswith(str(installed))
    program = installed / "bin" / "lstm-bench"
    said = run([program, "run", *SMALL.split(), "--out", "race"], cwd=tmp_path, env=env)
    assert said.splitlines()[-1] == "race/report.html"
    assert (tmp_path / "race" / "report.html").stat().st_size > 1_000_000
    manifest = manifest_of(tmp_path / "race")
    assert (manifest["end"] is None, manifest["environment"]["git"]) == (False, None)


def test_its_command_names_the_suites_that_it_carries(installed, tmp_path):
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    said = run([installed / "bin" / "lstm-bench", "suites"], cwd=tmp_path, env=env)
    assert "quick" in said
    assert "deepbench-train" in said


def test_the_wheel_holds_both_packages_with_their_types_and_data(wheel):
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
    ours = {f"{package}/py.typed" for package in ("lstm_harness", "lstm_kernels")}
    for root in ("harness", "kernels"):
        for file in (ROOT / root).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                ours.add(file.relative_to(ROOT / root).as_posix())
    assert ours == {name for name in names if ".dist-info/" not in name}


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
