"""Every contract of import-linter is kept by the code, and broken by an import that it forbids."""

import os
import shutil
import subprocess
import sys
import tomllib

import pytest
from places import ROOT

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
CONTRACTS = {contract["name"] for contract in SETTINGS["contracts"]}
HARNESS = "harness/lstm_harness"
KERNELS = "kernels/lstm_kernels"
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"
# How many folders and modules a newcomer can take in at a glance.
MOST_ROOMS = 16

# A contract, the module that breaks it, and the line that does.
PLANTED = [
    ("floors of the harness", f"{HARNESS}/model/case.py", "import lstm_harness.store"),
    ("floors of the harness", f"{HARNESS}/race/lock.py", "import lstm_harness.tune.tuner"),
    ("floors of the harness", f"{HARNESS}/judge/noise.py", "import lstm_harness.history.series"),
    ("floors of the harness", f"{HARNESS}/tune/search.py", "import lstm_harness.interop.export"),
    ("floors of the harness", f"{HARNESS}/worker/clock.py", "import lstm_harness.analysis.ratios"),
    ("floors of the harness", f"{HARNESS}/api/results.py", "import lstm_harness.cli.pages"),
    ("floors of the harness", f"{HARNESS}/nowhere.py", ""),
    ("nobody imports the worker", f"{HARNESS}/race/lock.py", "import lstm_harness.worker.clock"),
    ("only the worker touches a device", f"{HARNESS}/race/lock.py", "import torch"),
    ("only the worker touches a device", f"{HARNESS}/race/lock.py", "import triton.language"),
    ("only the worker touches a device", f"{HARNESS}/race/lock.py", "import numba"),
    ("only pages need the report's libraries", f"{HARNESS}/console/output.py", "import jinja2"),
    ("only pages need the report's libraries", f"{HARNESS}/console/output.py", "import plotly"),
    ("kernels stand without the harness", f"{KERNELS}/names.py", "import lstm_harness.model.axes"),
    (
        "no backend imports another",
        f"{KERNELS}/backends/hoisted.py",
        "import lstm_kernels.backends.naive",
    ),
    (
        "a backend is reached by the registry alone",
        f"{HARNESS}/worker/probes/kernels.py",
        "import lstm_kernels.backends.fused_triton.flags",
    ),
    (
        "no panel imports another",
        f"{HARNESS}/report/panels/ladder.py",
        "import lstm_harness.report.panels.memory",
    ),
    ("no circles", f"{HARNESS}/model/axes.py", "import lstm_harness.model.plan"),
]
# Where an import may hide from a reader, but not from the contracts.
HIDDEN = [
    "def later():\n    import torch\n",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n",
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The sources of both packages, and the contracts, to plant imports in."""
    root = tmp_path_factory.mktemp("tree")
    shutil.copy(ROOT / "pyproject.toml", root)
    for package in (HARNESS, KERNELS):
        for source in (ROOT / package).rglob("*.py"):
            copy = root / source.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
    return root


@pytest.fixture
def planted(tree):
    """Write a line at the end of a module, for one test; a module that is not there is made."""
    before = {}

    def plant(module, line):
        path = tree / module
        before[path] = path.read_text() if path.exists() else None
        path.write_text(f"{before[path] or ''}\n{line}\n")

    yield plant
    for path, text in before.items():
        path.unlink() if text is None else path.write_text(text)


def broken(tree):
    """The contracts that lint-imports calls broken in a tree, as `make lint` runs it."""
    roots = ["kernels", "harness", *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache", "--no-logo"],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(roots)},
        capture_output=True,
        text=True,
        check=False,
    )
    kept = {name for name in CONTRACTS if f"\n{name} KEPT" in done.stdout}
    told = {name for name in CONTRACTS if f"\n{name} BROKEN" in done.stdout}
    assert kept | told == CONTRACTS, done.stdout + done.stderr
    assert done.returncode == bool(told)
    return told


def test_the_code_keeps_every_contract(tree):
    assert broken(tree) == set()


def test_every_contract_is_shown_broken():
    assert {contract for contract, *_ in PLANTED} == CONTRACTS


@pytest.mark.parametrize(
    ("contract", "module", "line"),
    PLANTED,
    ids=[f"{module}: {line}" for _, module, line in PLANTED],
)
def test_a_forbidden_import_breaks_its_contract_alone(contract, module, line, tree, planted):
    planted(module, line)
    assert broken(tree) == {contract}


@pytest.mark.parametrize("lines", HIDDEN, ids=["in a function", "for types alone"])
def test_an_import_does_not_hide(lines, tree, planted):
    planted(f"{HARNESS}/race/lock.py", lines)
    assert broken(tree) == {"only the worker touches a device"}


def test_the_rooms_of_the_harness_are_few():
    hidden = {"__init__.py", "__main__.py", "__pycache__", "py.typed"}
    rooms = {path.name for path in (ROOT / HARNESS).iterdir()} - hidden
    assert len(rooms) <= MOST_ROOMS, sorted(rooms)
