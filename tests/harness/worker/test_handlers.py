"""Where python finds the modules of a plugin's folder."""

import sys

import pytest

from lstm_harness.worker.handlers import found_elsewhere

SOURCES = {
    "mine.py": "import helper_of_mine, parts_of_mine.inner, torch",
    "helper_of_mine.py": "",
    "parts_of_mine/inner.py": "",
    # Nobody takes a folder of this name without __init__.py for the package.
    "torch/kernel.py": "",
}


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
