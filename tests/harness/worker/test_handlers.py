"""What a worker does when it loads a backend, and where python finds a plugin's modules."""

import gc
import sys
from types import SimpleNamespace

import pytest

from lstm_harness.worker import handlers
from lstm_harness.worker.handlers import Worker, found_elsewhere

SOURCES = {
    "mine.py": "import helper_of_mine, parts_of_mine.inner, torch",
    "helper_of_mine.py": "",
    "parts_of_mine/inner.py": "",
    # Nobody takes a folder of this name without __init__.py for the package.
    "torch/kernel.py": "",
}


@pytest.fixture
def loaded(monkeypatch):
    """Load a backend that is such a module."""

    def load(**functions):
        monkeypatch.setattr(handlers.registry, "load", lambda name: SimpleNamespace(**functions))
        return Worker("cpu").load("any")

    yield load
    gc.unfreeze()  # a worker collects no garbage that is older than its cells


def test_a_backend_imports_all_that_its_first_call_would_when_it_is_loaded(loaded):
    imported = []
    executor = loaded(import_all=lambda: imported.append("compiler"))
    assert imported == ["compiler"]
    assert executor.device == "cpu"


def test_a_backend_need_not_say_what_its_first_call_imports(loaded):
    assert loaded().device == "cpu"


@pytest.fixture
def folders(tmp_path):
    """A plugin with its modules, twice."""
    made = tmp_path / "first", tmp_path / "second"
    for folder in made:
        for name, text in SOURCES.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    return made


def test_modules_of_the_plugins_own_folder_are_not_elsewhere(folders, monkeypatch):
    own, _ = folders
    monkeypatch.setattr(sys, "path", [*sys.path, str(own)])
    assert found_elsewhere(own / "mine.py") == {}


def test_modules_that_another_folder_has_first_are_told(folders, monkeypatch):
    own, other = folders
    monkeypatch.setattr(sys, "path", [str(other), *sys.path, str(own)])
    assert found_elsewhere(own / "mine.py") == {
        "helper_of_mine": str(other / "helper_of_mine.py"),
        "parts_of_mine": str(other / "parts_of_mine"),
    }


def test_a_module_that_python_has_itself_hides_the_plugins(folders, monkeypatch):
    own, _ = folders
    (own / "mine.py").write_text("import json")
    (own / "json.py").write_text("")
    monkeypatch.setattr(sys, "path", [*sys.path, str(own)])
    assert list(found_elsewhere(own / "mine.py")) == ["json"]
