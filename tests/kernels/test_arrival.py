"""What is done when a module is imported: once, in order, by nobody's import but others'."""

import importlib
import sys
from pathlib import Path

import pytest

from lstm_kernels.arrival import when_imported


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module that nobody has imported."""
    name = f"arriving_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


def test_everything_is_done_once_in_order(module: str) -> None:
    done = []
    when_imported(module, lambda found: done.append(("first", found.value)))
    when_imported(module, lambda found: done.append(("second", found.value)))
    assert module not in sys.modules
    assert done == []
    importlib.import_module(module)
    assert done == [("first", 1), ("second", 1)]
    importlib.reload(sys.modules[module])
    assert len(done) == 2


def test_what_is_imported_already_is_there(module: str) -> None:
    importlib.import_module(module)
    done = []
    when_imported(module, done.append)
    assert done == [sys.modules[module]]


def test_to_look_for_a_module_is_not_to_import_it(module: str) -> None:
    done = []
    when_imported(module, done.append)
    assert importlib.util.find_spec(module) is not None
    assert done == []
    importlib.import_module(module)
    assert len(done) == 1


def test_a_module_that_fails_has_not_arrived(module: str, tmp_path: Path) -> None:
    done = []
    when_imported(module, done.append)
    file = tmp_path / f"{module}.py"
    file.write_text("raise OSError('half of it')\n")
    with pytest.raises(OSError, match="half of it"):
        importlib.import_module(module)
    assert done == []
    file.write_text("value = 22\n")
    importlib.invalidate_caches()
    importlib.import_module(module)
    assert len(done) == 1


def test_a_module_that_is_nowhere_stays_so() -> None:
    when_imported("arriving_never", lambda _: pytest.fail("it is nowhere"))
    with pytest.raises(ModuleNotFoundError, match="arriving_never"):
        importlib.import_module("arriving_never")
