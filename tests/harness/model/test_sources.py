"""Which files a plugin consists of, and what changes its digest."""

import hashlib

import pytest

from lstm_harness.model.sources import files_of, plugin_digest, sources_digest


def write(folder, **sources):
    folder.mkdir(exist_ok=True)
    for name, text in sources.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def test_modules_of_the_folder_are_found_one_through_another(tmp_path):
    sources = {
        "mine.py": "import helper, json, lstm_kernels\nfrom parts.inner import one",
        "helper.py": "def later():\n    from deep import thing",
        "deep.py": "import mine\nno python",
        "parts/__init__.py": "from . import inner",
        "parts/inner.py": "",
        "alone.py": "",
        "lstm_kernels/__init__.py": "",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = {file.relative_to(tmp_path).as_posix() for file in files_of(tmp_path / "mine.py")}
    assert found == sources.keys() - {"alone.py", "lstm_kernels/__init__.py"}


def test_a_module_that_a_plugin_imports_counts_as_its_source(tmp_path):
    plugin = write(tmp_path, mine="import helper", helper="one", alone="one") / "mine.py"

    def digests():
        return plugin_digest(plugin), sources_digest(tmp_path, [str(plugin)])

    first = digests()
    write(tmp_path, alone="two")
    assert digests() == first
    write(tmp_path, helper="two")
    assert not {*digests()} & {*first}


def test_a_plugin_of_one_file_has_the_digest_of_that_file(tmp_path):
    plugin = write(tmp_path, mine="import json") / "mine.py"
    assert plugin_digest(plugin) == hashlib.sha256(plugin.read_bytes()).hexdigest()


def test_a_digest_is_the_same_wherever_the_files_lie(tmp_path):
    sources = {"mine": "import two, one, three", "one": "1", "two": "2", "three": "3"}
    folders = [write(tmp_path / name, **sources) for name in ("a", "b")]
    assert len({plugin_digest(folder / "mine.py") for folder in folders}) == 1


def test_a_plugin_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        plugin_digest(tmp_path / "mine.py")
