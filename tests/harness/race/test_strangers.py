"""What is started below a process while it measures ends with that, and nothing else does."""

import os
import subprocess
import sys
from pathlib import Path

from waiting import until

from lstm_harness.race import strangers
from lstm_harness.race.strangers import children_ms, end_below, has_not_ended, no_strangers

# Until somebody ends it.
SLEEPS = [sys.executable, "-c", "import time; time.sleep(3600)"]
# A child that leaves a child of its own behind, in a session of its own.
DAEMON = f"""
import subprocess
nowhere = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
print(subprocess.Popen({SLEEPS!r}, start_new_session=True, **nowhere).pid)
"""


def until_it_ends(pid):
    until(lambda: not has_not_ended(pid))


def test_an_orphan_is_ended_and_who_was_there_before_goes_on():
    with subprocess.Popen(SLEEPS) as before:
        with no_strangers():
            told = subprocess.run([sys.executable, "-c", DAEMON], capture_output=True, check=True)
            orphan = int(told.stdout)
            assert has_not_ended(orphan)
        until_it_ends(orphan)
        assert before.poll() is None
        before.kill()


def test_what_is_below_is_ended_but_for_some_and_counted():
    program = f"""
import subprocess, sys
print(*(subprocess.Popen({SLEEPS!r}).pid for _ in range(2)), flush=True)
sys.stdin.read()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as above:
        ended, spared = map(int, above.stdout.readline().split())
        assert end_below(above.pid, but=[spared]) == 1
        until_it_ends(ended)
        assert has_not_ended(spared)
        assert end_below(above.pid) == 1
        until_it_ends(spared)


def test_the_time_of_children_that_ended_is_told():
    busy = "import time\nwhile time.process_time() < 0.1: pass"
    before = children_ms(os.getpid())
    subprocess.run([sys.executable, "-c", busy], check=True)
    assert children_ms(os.getpid()) - before >= 90


def test_a_thread_that_has_just_ended_hides_no_child(monkeypatch):
    really = Path.iterdir
    # No thread has number 0: it is gone once it is looked at, and the others come after it.
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter([folder / "0", *really(folder)]))
    with subprocess.Popen(SLEEPS) as child:
        found = strangers._children(os.getpid())
        child.kill()
    assert child.pid in found
