"""What light commands must not import: torch, pandas, triton, numba."""

import json
import os
import subprocess
import sys

import pytest
from bench import ROOTS, environment
from places import SUPPORT

pytestmark = pytest.mark.xdist_group("imports")  # one process answers every question

COMMANDS = [
    "",
    "backends",
    "suites",
    "plan",
    "run",
    "verify",
    "inspect",
    "phases",
    "limits",
    "tune",
]
COMMANDS += [
    "gradients",
    "capture",
    "recommend",
    "report",
    "view",
    "history",
    "publish",
    "merge",
    "query",
    "export",
    "import",
    "ab",
    "selftest",
]
COMMANDS += ["compare", "check", "baseline save", "baseline list"]
HELP = [f"{command} --help" for command in COMMANDS]
LISTING = "backends --json"
SMALL = "--backend naive --seq-len 2 --batch 1 --hidden 4 --blocks 1 --threads 1 --quiet"
MEASURING = f"run {SMALL} --time-budget 1 --out run"
REPORTING = "report run"
PEERS = ["onnx", "onnxruntime", "openvino", "jax"]
TATTLING = ["triton", "numba", *PEERS]
HEAVY = ["torch", "pandas", "numpy", "scipy", *TATTLING, "plotly", "jinja2"]


def tattling_environment(folder):
    """One whose triton, numba and peers leave a file in the folder when anybody imports them."""
    for name in TATTLING:
        package = folder / "fakes" / name / "__init__.py"
        package.parent.mkdir(parents=True)
        package.write_text(f"open({str(folder / name)!r}, 'w').close()\n")
    return environment(folder, folder / "fakes")


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """By command line, in this order, what it did on a machine without the report's jinja2."""
    folder = tmp_path_factory.mktemp("imports")
    lines = [*HELP, LISTING, MEASURING, REPORTING]
    asked = [json.dumps(each) for each in (lines, HEAVY, ["jinja2"], TATTLING)]
    done = subprocess.run(
        [sys.executable, str(SUPPORT / "imports_asked.py"), *asked],
        cwd=folder,
        env=tattling_environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("line", HELP)
def test_help_imports_nothing_heavy(line, answers):
    assert answers[line]["code"] == 0
    assert answers[line]["importers"] == {}


def test_a_report_without_a_comparison_does_without_scipy_stats():
    code = "import sys, lstm_harness.report.write; print('scipy.stats' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": os.pathsep.join(ROOTS)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


def test_importing_the_package_imports_nothing_heavy_until_a_name_is_asked_for():
    code = (
        "import sys, lstm_harness as lb;"
        f"print([name for name in {[*HEAVY, 'rich', 'typer']} if name in sys.modules]);"
        "lb.run; print([name for name in ('torch', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": os.pathsep.join(ROOTS)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[:2] == ["[]", "['pandas']"]


def test_the_check_sees_an_import_and_who_did_it(answers):
    assert answers[MEASURING]["importers"]["jinja2"] == "lstm_harness.report.templating"


def test_listing_backends_imports_neither_triton_nor_numba(answers):
    listing = answers[LISTING]
    assert listing["code"] == 0, listing["err"]
    assert {"naive", "aten"} <= {row["name"] for row in json.loads(listing["out"])}
    assert not set(TATTLING) & set(listing["importers"])
    assert listing["files"] == []  # nor did a process that it started


def test_the_packages_that_tattle_do(tmp_path):
    env = tattling_environment(tmp_path)
    subprocess.run([sys.executable, "-c", f"import {', '.join(TATTLING)}"], env=env, check=True)
    assert all((tmp_path / name).exists() for name in TATTLING)


def test_a_machine_without_report_libraries_measures_and_says_what_to_install(answers):
    measured, reported = answers[MEASURING], answers[REPORTING]
    assert measured["code"] == 0, measured["err"]
    assert measured["out"].splitlines()[-1] == "run"
    assert "pip install jinja2 plotly" in measured["err"]
    assert reported["code"] == 2
    assert "pip install jinja2 plotly" in reported["err"]
    assert "Traceback" not in reported["err"]
