"""Who is known: built-in backends, plugin files and entry points."""

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lstm_kernels as lk
from lstm_kernels import registry

PLUGIN = """
import torch
from lstm_kernels import Backend
from lstm_kernels.backends import naive

layer = naive.layer

def unsupported(problem, device):
    return None

BACKENDS = [Backend("mine", __name__, "a plugin")]
"""


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_plugins", {})
    monkeypatch.setattr(registry, "_unavailable", {})
    monkeypatch.setattr(registry, "_entry_points", None)
    monkeypatch.setattr(registry, "_has_read_cells", False)
    known = dict(lk.CELLS)
    yield
    lk.CELLS.clear()
    lk.CELLS.update(known)


def test_names_of_the_design() -> None:
    designed = {"reference", "per_gate", "naive", "hoisted", "compiled", "graphed", "pointwise"}
    designed |= {"aten", "cudnn", "numba_cpu", "onnxruntime", "openvino", "jax"}
    assert designed <= set(lk.backends())
    assert [b.name for b in registry.registered().values() if not b.raced] == ["reference"]


@pytest.mark.parametrize("name", [b.name for b in registry.BUILT_IN])
def test_every_backend_keeps_the_contract(name: str) -> None:
    for package in registry.get(name).requires:
        pytest.importorskip(package)
    implementation = registry.load(name)
    assert hasattr(implementation, "layer") or hasattr(implementation, "stack")
    assert callable(implementation.unsupported)
    assert "Source: " in implementation.__doc__ or "torch" in implementation.__doc__
    assert "Limits: " in implementation.__doc__


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys, lstm_kernels as lk; assert lk.backends(); from lstm_kernels import registry;"
        "registry.unavailable(); lk.Problem('lstm', 1, 1, 1, 1).flops('train');"
        "heavy = 'torch', 'triton', 'numba', 'numpy', 'onnx', 'onnxruntime', 'openvino', 'jax';"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(lk.__file__).parents[1])},
    )
    assert done.stdout.strip() == "[]"


def test_importing_a_backend_leaves_the_list_callable() -> None:
    code = "import lstm_kernels as lk; import lstm_kernels.backends.naive; print(lk.backends())"
    env = {"PYTHONPATH": str(Path(lk.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


def test_what_is_interpreted_on_a_cpu_lives_on_cuda() -> None:
    interpreted = {b.name: b for b in registry.BUILT_IN if b.interpreter}
    assert interpreted["pointwise"].interpreter == "TRITON_INTERPRET"
    assert interpreted["numba_cuda"].interpreter == "NUMBA_ENABLE_CUDASIM"
    assert all(b.devices == ("cuda",) and b.requires for b in interpreted.values())


def test_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown backend 'naiv'; did you mean 'naive'"):
        registry.get("naiv")


def test_plugin_file_runs(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    assert [b.name for b in registry.add_plugin(file)] == ["mine"]
    assert registry.add_plugin(file), "adding a file twice is no clash with itself"
    assert "mine" in lk.backends()
    assert lk.LSTM(2, 3, backend="mine").backend == "mine"
    assert registry.load("mine").unsupported(None, "cpu") is None


def test_a_package_that_is_missing_is_told_with_the_extra_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    gone = ("triton", "numba_cuda", "elsewhere")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in gone else there(name)
    )
    monkeypatch.delitem(sys.modules, registry.get("triton").module, raising=False)
    assert registry.missing("triton") == ("triton",)
    assert registry.missing("aten") == ()
    with pytest.raises(ModuleNotFoundError) as told:
        registry.load("triton")
    assert str(told.value) == "backend 'triton' needs triton: pip install 'lstm-bench[cuda]'"
    assert told.value.name == "triton"
    assert registry.how_to_get(gone) == "pip install 'lstm-bench[cuda]' elsewhere"
    assert registry.how_to_get(["elsewhere"]) == "pip install elsewhere"


def test_every_package_that_a_backend_requires_comes_with_us() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = {name: names_of(lines) for name, lines in project["optional-dependencies"].items()}
    for backend in registry.BUILT_IN:
        for package in backend.requires:
            extra = registry._EXTRA_OF.get(package)
            assert package in (extras[extra] if extra else names_of(project["dependencies"]))


def names_of(requirements: list[str]) -> set[str]:
    """The packages of requirements, as they are imported."""
    return {re.split(r"[^\w-]", each)[0].replace("-", "_") for each in requirements}


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import no_such_package_here", "ModuleNotFoundError: No module named"),
        ("1 / 0", "ZeroDivisionError"),
        ("x =", "SyntaxError"),
        ("BACKENDS = ['naive']", "TypeError: BACKENDS holds 'naive'; expected"),
        ("", "AttributeError"),
    ],
)
def test_broken_plugin_is_listed_and_breaks_nothing(
    tmp_path: Path, source: str, error: str
) -> None:
    file = tmp_path / "broken.py"
    file.write_text(source)
    known = lk.backends()
    assert registry.add_plugin(file) == ()
    assert registry.unavailable()[str(file)].startswith(error)
    assert lk.backends() == known


@pytest.mark.parametrize(
    ("old", "new", "absent"),
    [
        ("layer = ", "layr = ", "no layer or stack"),
        ("def unsupported", "def unsupport", "no unsupported"),
    ],
)
def test_a_part_that_a_plugin_does_not_define_is_named(
    tmp_path: Path, old: str, new: str, absent: str
) -> None:
    file = tmp_path / "misspelt.py"
    file.write_text(PLUGIN.replace(old, new))
    registry.add_plugin(file)
    with pytest.raises(AttributeError, match=f"^backend 'mine' defines {absent}; docs/add"):
        registry.unsupported("mine", lk.Problem("lstm", 1, 1, 1, 1), "cpu")


def test_plugin_may_not_take_a_name(tmp_path: Path) -> None:
    file = tmp_path / "clash.py"
    file.write_text(PLUGIN.replace('"mine"', '"naive"'))
    with pytest.raises(ValueError, match="the name 'naive' is taken"):
        registry.add_plugin(file)
    assert registry.get("naive").module == "lstm_kernels.backends.naive"


def test_plugin_must_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a file; give the path of a Python file"):
        registry.add_plugin(tmp_path / "nowhere.py")


def entry_point(value: str) -> importlib.metadata.EntryPoint:
    return importlib.metadata.EntryPoint("any", value, registry.ENTRY_POINT_GROUP)


def offer(monkeypatch: pytest.MonkeyPatch, *values: str, cells: tuple[str, ...] = ()) -> None:
    offered = {"lstm_kernels.backends": values, "lstm_kernels.cells": cells}

    def entry_points(group: str) -> list[Any]:
        return [entry_point(value) for value in offered[group]]

    monkeypatch.setattr(registry, "entry_points", entry_points)


def test_entry_points_are_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "third_party_rnn.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    offer(monkeypatch, "third_party_rnn:BACKENDS")
    assert "mine" in lk.backends()
    assert registry.load("mine").layer is registry.load("naive").layer


def test_broken_entry_point_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "no_such_package_here:BACKENDS")
    assert lk.backends() == tuple(b.name for b in registry.BUILT_IN)
    assert "ModuleNotFoundError" in registry.unavailable()["no_such_package_here:BACKENDS"]


def test_entry_point_may_not_take_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "third_party_naive.py").write_text(PLUGIN.replace('"mine"', '"naive"'))
    monkeypatch.syspath_prepend(tmp_path)
    offer(monkeypatch, "third_party_naive:BACKENDS")
    assert registry.get("naive").module == "lstm_kernels.backends.naive"
    assert registry.unavailable() == {"third_party_naive:BACKENDS": "the name 'naive' is taken"}


CELL = """
from lstm_kernels.cells import cell, sigmoid, tanh

@cell(gates="f n", states="h")
def mine(p, h):
    return h + sigmoid(p.f) * (tanh(p.n) - h)

CELLS = [mine]
"""
OTHER_CELL = CELL.replace("tanh(p.n)", "p.n")


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / f"{name}.py"
    file.write_text(text)
    return file


def test_a_plugin_brings_a_cell(tmp_path: Path) -> None:
    assert registry.add_plugin(write(tmp_path, "brings", CELL)) == ()
    assert registry.unavailable() == {}
    assert list(registry.brought_cells()) == ["mine"]
    assert lk.Recurrent("mine", 2, 3, backend="naive").cell == "mine"


def test_a_plugin_brings_a_cell_and_who_runs_it(tmp_path: Path) -> None:
    registry.add_plugin(write(tmp_path, "both", PLUGIN + CELL))
    assert "mine" in lk.backends()
    assert "mine" in lk.CELLS


def test_the_same_cell_of_two_files_is_one(tmp_path: Path) -> None:
    registry.add_plugin(write(tmp_path, "first", CELL))
    registry.add_plugin(write(tmp_path, "second", CELL))
    assert registry.unavailable() == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (OTHER_CELL, r"second\.py defines cell 'mine', but first\.py has another cell .* give one"),
        (OTHER_CELL.replace("mine", "lstm"), r"'lstm', but lstm_kernels\.cells"),
        (
            CELL.replace("mine", "fresh") + OTHER_CELL.replace("mine", "lstm") + "CELLS += [fresh]",
            "'lstm'",
        ),
    ],
    ids=["another file's", "ours", "beside a good one"],
)
def test_two_cells_of_one_name_are_refused(tmp_path: Path, text: str, says: str) -> None:
    registry.add_plugin(write(tmp_path, "first", CELL))
    with pytest.raises(ValueError, match=says):
        registry.add_plugin(write(tmp_path, "second", text))
    assert set(registry.brought_cells()) == {"mine"}


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("CELLS = ['mine']", "TypeError: CELLS holds 'mine'; expected what @cell returns"),
        (CELL.replace("return h", "return h if h > 0 else h"), "TypeError: cell 'mine': a cell's"),
        (CELL.replace("return h", "return h, h"), "ValueError: cell 'mine' returns 2 states"),
        (CELL.replace("h + ", "float('inf') * "), "ValueError: the step of cell 'mine' has"),
    ],
)
def test_a_cell_that_is_none_is_listed_and_breaks_nothing(
    tmp_path: Path, source: str, error: str
) -> None:
    file = write(tmp_path, "broken_cell", source)
    known = set(lk.CELLS)
    assert registry.add_plugin(file) == ()
    assert registry.unavailable()[str(file)].startswith(error)
    assert set(lk.CELLS) == known


@pytest.mark.parametrize("attribute", ["mine", "CELLS"])
def test_entry_points_bring_cells(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, attribute: str
) -> None:
    write(tmp_path, f"third_party_{attribute}", CELL)
    monkeypatch.syspath_prepend(tmp_path)
    offer(monkeypatch, cells=(f"third_party_{attribute}:{attribute}",))
    assert registry.may_bring_cells()
    assert lk.Recurrent("mine", 2, 3, backend="naive").cell == "mine"


def test_failing_cells_of_entry_points_are_listed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(tmp_path, "third_party_clash", OTHER_CELL.replace("mine", "lstm"))
    monkeypatch.syspath_prepend(tmp_path)
    offer(monkeypatch, cells=("no_such_package_here:CELLS", "third_party_clash:lstm"))
    failed = registry.unavailable()
    assert "ModuleNotFoundError" in failed["no_such_package_here:CELLS"]
    assert "'lstm', but lstm_kernels.cells.lstm has another" in failed["third_party_clash:lstm"]
    assert registry.brought_cells() == {}
    with pytest.raises(ValueError, match="unknown cell 'mine'"):
        lk.Recurrent("mine", 2, 3)
