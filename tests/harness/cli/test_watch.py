"""`run --watch`: every saved state is copied, proved, measured in turn with others, and told."""

import itertools
import os

import pytest
from bench import manifest_of

from lstm_harness.cli import watch
from lstm_harness.race.edits import LEAST_BLOCKS

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


@pytest.fixture
def watched(command, here, monkeypatch):
    """Save these states of mine.py one after the other, then press Ctrl-C."""

    def go(*states):
        def saves(files):
            for state in states:
                (here / "mine.py").write_text(state)
                yield
            raise KeyboardInterrupt

        monkeypatch.setattr(watch, "saves", saves)
        (here / "mine.py").write_text(states[0])
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
