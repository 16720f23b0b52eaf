"""`run --watch`: every saved state is copied, proved, measured in turn with others, and told."""

import itertools
import os

import pytest
from bench import manifest_of

from lstm_harness.cli import watch
from lstm_harness.model.errors import MeasuringFailed, UserError
from lstm_harness.model.spec import Spec
from lstm_harness.race.edits import LEAST_BLOCKS, taken

SMALL = (
    *("run", "--watch", "--plugin", "mine.py", "--seq-len", "2", "--batch", "1", "--hidden", "4"),
    *("--pass", "inference", "--threads", "1", "--time-budget", "1", "--quiet", "--out", "watched"),
)
RIGHT = """
from lstm_kernels import Backend
from lstm_kernels.backends.naive import layer, unsupported

BACKENDS = [Backend("mine", __name__, "mine")]
"""
WRONG = """
from lstm_kernels import Backend
from lstm_kernels.backends import naive
from lstm_kernels.backends.naive import unsupported

BACKENDS = [Backend("mine", __name__, "mine")]


def layer(x, h0, c0, weights, *, problem, lengths=None):
    y, h, c = naive.layer(x, h0, c0, weights, problem=problem, lengths=lengths)
    return y + 1, h, c
"""


# It notes which state of the module next to it was imported.
HELPED = """
from helper import STATE
from lstm_kernels import Backend
from lstm_kernels.backends import naive
from lstm_kernels.backends.naive import unsupported

BACKENDS = [Backend("mine", __name__, "mine")]
open("imported", "a").write(f"{STATE} ")


def layer(x, h0, c0, weights, *, problem, lengths=None):
    y, h, c = naive.layer(x, h0, c0, weights, problem=problem, lengths=lengths)
    return y + (STATE == "wrong"), h, c
"""


@pytest.fixture
def watched(command, here, monkeypatch):
    """Save these states of mine.py one after the other, then press Ctrl-C."""

    def go(*states, name="mine.py"):
        def saves(files):
            for state in states:
                (here / name).write_text(state)
                (here / "imported").unlink(missing_ok=True)
                yield
            raise KeyboardInterrupt

        monkeypatch.setattr(watch, "saves", saves)
        (here / name).write_text(states[0])
        return command(*SMALL)

    return go


def test_edits_are_proved_then_measured_in_turn_and_told(watched, here):
    code, out, err = watched(RIGHT, WRONG, "no python", f"{RIGHT}\n# again\n")
    assert code == 0, err
    assert "edit 1 is kept: watched/001" in out
    assert "edit 2 is not measured, because it is not right" in err
    assert "SyntaxError" in err
    assert "edit 4 against edit 1, the last one kept and the best: " in out
    assert out.splitlines()[-1].startswith("4 edits, 2 not measured, ")
    assert "kept; the best is edit " in out.splitlines()[-1]
    assert (here / "watched" / "002" / "mine.py").read_text() == WRONG
    pair = [here / "watched" / "004" / "runs" / name for name in ("001", "004")]
    assert len({manifest_of(run)["pair"] for run in pair}) == 1
    assert {manifest_of(run)["spec"]["blocks"] for run in pair} == {LEAST_BLOCKS}
    assert not (here / "watched" / "002" / "runs").exists()


def test_a_module_that_is_imported_belongs_to_the_edit(watched, here):
    (here / "mine.py").write_text(HELPED.replace('"imported"', repr(str(here / "imported"))))
    states = [f"STATE = {state!r}" for state in ("old", "wrong", "new")]
    code, out, err = watched(*states, name="helper.py")
    assert code == 0, err
    assert "edit 2 is not measured, because it is not right" in err
    assert "edit 3 against edit 1, the last one kept and the best: " in out
    assert set((here / "imported").read_text().split()) == {"old", "new"}
    kept = [
        (here / "watched" / number / "helper.py").read_text() for number in ("001", "002", "003")
    ]
    assert kept == states


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--watch",), "type --plugin mine.py"),
        (("--watch", "--plugin", "mine.py", "--json"), "--watch with --json; leave one out"),
        (("--watch", "--plugin", "a.py", "--plugin", "b/a.py"), "two plugins of one name"),
    ],
)
def test_what_cannot_be_watched(refused, arguments, says):
    assert says in refused("run", *arguments)


def test_a_save_is_another_content_and_a_file_that_is_gone_is_awaited(tmp_path, monkeypatch):
    file = tmp_path / "mine.py"

    def save(text):
        file.write_text(text)
        os.utime(file, (1, 1))  # as where both were saved within the clock of a file system

    save("one")
    steps = iter([file.touch, file.unlink, lambda: None, lambda: save("two")])
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: next(steps)())
    contents = [file.read_text() for _ in itertools.islice(watch.saves([file]), 2)]
    assert contents == ["one", "two"]
    assert next(steps, None) is None


def test_a_saved_module_is_a_save(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("import helper")
    helper = tmp_path / "helper.py"
    helper.write_text("one")
    steps = iter([lambda: None, lambda: helper.write_text("two")])
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: next(steps)())
    seen = [helper.read_text() for _ in itertools.islice(watch.saves([tmp_path / "mine.py"]), 2)]
    assert seen == ["one", "two"]


def test_two_modules_of_one_name_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").write_text("import helper")
        (tmp_path / name / "helper.py").write_text("")
    plugins = tuple(str(tmp_path / name / f"{name}.py") for name in ("a", "b"))
    with pytest.raises(UserError, match=r"a/helper.py and .*b/helper.py; rename one of them"):
        taken(Spec((), plugins=plugins), 1, tmp_path / "out")


def test_an_edit_is_never_measured_with_modules_of_elsewhere(here, monkeypatch):
    """As where the folder of the plugin itself is on python's path."""
    (here / "mine.py").write_text(f"import helper_of_mine\n{RIGHT}")
    (here / "helper_of_mine.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(here))
    with pytest.raises(MeasuringFailed, match=r"imports helper_of_mine from .* of edit 1; what"):
        taken(Spec((), plugins=(str(here / "mine.py"),)), 1, here / "out")
