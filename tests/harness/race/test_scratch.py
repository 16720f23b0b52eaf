"""Scratch folders: gone at the end, and swept where their program was killed."""

import fcntl
import os
import subprocess
import sys

from lstm_harness.race import scratch
from lstm_harness.race.scratch import PREFIX, scratch_folder, sweep

LEAVES = "import os; from lstm_harness.race.scratch import scratch_folder\n"
LEAVES += "with scratch_folder(): os.kill(os.getpid(), 9)\n"


def left(here):
    return list((here / "tmp").glob(f"{PREFIX}*"))


def test_at_its_end_it_is_gone(here):
    with scratch_folder() as folder:
        assert left(here) == [folder]
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("x")
    assert left(here) == []


def test_what_a_killed_program_left_is_swept_once_it_is_old(here, monkeypatch):
    monkeypatch.setattr(scratch, "_YOUNG_S", 86_400.0)  # however long this test takes
    subprocess.run([sys.executable, "-c", LEAVES], check=False, env=os.environ)
    (folder,) = left(here)
    sweep()
    assert left(here) == [folder]  # too young to tell
    os.utime(folder, (0, 0))
    with scratch_folder():
        assert folder not in left(here)


def test_what_was_killed_before_it_was_held_is_swept_too(here):
    folder = here / "tmp" / f"{PREFIX}bare"
    folder.mkdir()
    os.utime(folder, (0, 0))
    sweep()
    assert left(here) == []


def test_what_is_in_use_or_is_not_ours_stays(here, monkeypatch):
    with scratch_folder() as folder:
        os.utime(folder, (0, 0))
        sweep()
        assert left(here) == [folder]
        with (folder / "held").open() as held:
            fcntl.flock(held, fcntl.LOCK_UN)
        foreign = (here / "tmp" / f"{PREFIX}strange").symlink_to(folder)
        monkeypatch.setattr(scratch.os, "getuid", lambda: os.geteuid() + 1)
        sweep()
        assert len(left(here)) == 2
        assert foreign is None
