"""Plugin files that fail: each is listed with its error, and nothing else breaks."""

import hashlib
from pathlib import Path

import pytest

from lstm_harness.model.protocol import AddPlugin, Done, LoadBackend
from lstm_harness.race.process import START_TIMEOUT_S, WorkerProcess, WorkerSettings
from lstm_harness.store import run_folder

GOOD = """
from lstm_kernels import Backend
from lstm_kernels.backends.naive import layer, unsupported
BACKENDS = [Backend("mine", __name__, "a copy of naive", ("cpu",))]
"""
TWO = """
from lstm_kernels import Backend
from lstm_kernels.backends import naive, hoisted as other
BACKENDS = [
    Backend("first", __name__ + ":naive", "one", ("cpu",)),
    Backend("second", __name__ + ":other", "another", ("cpu",)),
]
"""
SMALL = ["--seq-len", "2", "--batch", "1", "--hidden", "4", "--pass", "inference", "--threads", "1"]
FAILING = {
    "raises": ("raise RuntimeError('not today')", "RuntimeError: not today"),
    "exits": ("import sys; sys.exit('goodbye')", "SystemExit: goodbye"),
    "dies": ("import os; os._exit(7)", "exit code 7"),
    "hangs": ("import time; time.sleep(3600)", "no answer within 1 s"),
    "is_no_python": ("def (", "SyntaxError"),
    "has_no_backends": ("x = 1", "BACKENDS"),
    "has_wrong_backends": ("BACKENDS = ['mine']", "expected lstm_kernels.Backend"),
}


@pytest.fixture
def plugin(here):
    def write(text: str, name: str = "mine") -> str:
        path = here / f"{name}.py"
        path.write_text(text)
        return str(path)

    return write


def test_each_failing_file_is_listed_with_its_error(plugin, document):
    files = {name: plugin(text, name) for name, (text, _) in FAILING.items() if name != "hangs"}
    given = [part for path in [*files.values(), plugin(GOOD)] for part in ("--plugin", path)]
    listed = {row["name"]: row for row in document("backends", *given, "--json")}
    for name, path in files.items():
        assert listed[path]["available"] is False
        assert FAILING[name][1] in listed[path]["reason"], name
    assert listed["mine"]["available"] is True
    assert listed["naive"]["available"] is True


@pytest.fixture
def patient(monkeypatch):
    """Whoever does not hang may take longer than --cell-timeout, on a slow machine."""
    ask = WorkerProcess.ask

    def asked(worker, request, timeout_s=START_TIMEOUT_S):
        hangs = isinstance(request, AddPlugin) and request.path.endswith("hangs.py")
        return ask(worker, request, timeout_s if hangs else START_TIMEOUT_S)

    monkeypatch.setattr(WorkerProcess, "ask", asked)


def test_failing_files_take_no_part_and_stop_nobody(plugin, document, patient):
    # The one that dies or hangs ends the surveying worker, which must learn the others again.
    given = [plugin(TWO, "two"), plugin(FAILING["hangs"][0], "hangs"), plugin(GOOD, "good")]
    flags = [part for path in given for part in ("--plugin", path)]
    asked = ["--cell-timeout", "1", "--backend", "first,mine"]
    found = document("plan", *flags, *SMALL, *asked, "--json")
    assert found["backends"] == ["first", "mine"]
    assert found["skips"] == []
    (absent,) = found["absent"]
    assert absent["backend"].endswith("hangs.py")
    assert FAILING["hangs"][1] in absent["reason"]


def test_two_backends_of_one_file_are_raced(plugin, document):
    rows = document(
        "verify", "--plugin", plugin(TWO), *SMALL, "--backend", "first,second", "--json", "--quiet"
    )
    assert {(row["backend"], row["status"]) for row in rows} == {("first", "ok"), ("second", "ok")}


def test_a_run_notes_the_source_of_its_plugins(plugin, command, here):
    path = plugin(TWO, "two")
    asked = ("--backend", "first", "--blocks", "1", "--min-samples", "3", "--out", here / "r")
    code, _, _ = command("run", "--plugin", path, *SMALL, *asked, "--quiet")
    assert code == 0
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    told = {"file": "two.py", "sha256": digest, "backends": ["first", "second"]}
    assert run_folder.load(here / "r").manifest["plugins"] == [told]


def test_name_that_is_taken_is_the_users_mistake(plugin, refused):
    path = plugin(GOOD.replace('"mine"', '"aten"'))
    assert "the name 'aten' is taken" in refused("plan", "--plugin", path)


def test_asking_for_a_backend_of_a_failing_file_tells_why(plugin, refused):
    path = plugin(FAILING["raises"][0])
    line = refused("plan", "--plugin", path, "--backend", "mine")
    assert "unknown backend 'mine'" in line
    assert "not today" in line


def test_what_a_backend_requires_is_looked_for_and_not_imported(plugin, document):
    wants = 'requires=("no_such_package.inside",)'
    path = plugin(GOOD.replace('("cpu",))', f'("cpu",), {wants})'))
    found = document("plan", "--plugin", path, *SMALL, "--backend", "mine", "--json")
    assert {skip["status"] for skip in found["skips"]} == {"unsupported"}
    assert "needs no_such_package.inside" in found["skips"][0]["reason"]


def test_name_with_a_slash_is_a_name(plugin, document):
    path = plugin(GOOD.replace('"mine"', '"../mine/2"'))
    (row,) = document(
        "verify", "--plugin", path, *SMALL, "--backend", "../mine/2", "--json", "--quiet"
    )
    assert row["status"] == "ok"


def test_a_backend_with_an_absurd_name_costs_itself_alone(plugin, document):
    names = ["ok", "a" * 10_000, "", "\x1b[31mred", "line\nbreak"]
    listed = ", ".join(f"Backend({name!r}, 'lstm_kernels.backends.naive', 'x')" for name in names)
    path = plugin(f"from lstm_kernels import Backend\nBACKENDS = [{listed}]\n")
    rows = {row["name"]: row for row in document("backends", "--plugin", path, "--json")}
    assert rows["ok"]["available"] is True
    said = [name for name, row in rows.items() if "its name is wrong" in (row["reason"] or "")]
    assert len(said) == 4
    assert all(name.isprintable() and len(name) < 100 for name in rows)


def test_a_plugin_imports_what_lies_beside_it(plugin, document, here):
    (here / "own").mkdir()
    plugin("from lstm_kernels.backends.naive import layer, unsupported", "own/gates_of_mine")
    path = plugin(GOOD.replace("lstm_kernels.backends.naive", "gates_of_mine"), "own/mine")
    flags = ("--plugin", path, "--backend", "mine", *SMALL, "--json", "--quiet")
    found = document("verify", *flags)
    assert [(row["backend"], row["status"]) for row in found] == [("mine", "ok")]


def test_a_worker_imports_nothing_from_the_current_folder(plugin, here):
    """A `lstm_harness` or `lstm_kernels` in it must stand in for nobody's."""
    for name in ("lstm_kernels", "lstm_harness"):
        (here / name).mkdir()
        plugin("raise ImportError('not ours')", f"{name}/__init__")
    worker = WorkerProcess(WorkerSettings("cpu", here), "a")
    assert worker.ask(LoadBackend("naive", None)) == Done()
    worker.close()
