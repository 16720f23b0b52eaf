"""What is started below a process while it measures ends with that, and nothing else does."""

import os
import subprocess
import sys
import time

from lstm_harness.race.strangers import children_ms, end_below, has_not_ended, no_strangers

# Until somebody ends it.
SLEEPS = [sys.executable, "-c", "import time; time.sleep(3600)"]
# A child that leaves a child of its own behind, in a session of its own.
DAEMON = f"""
import subprocess
nowhere = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
print(subprocess.Popen({SLEEPS!r}, start_new_session=True, **nowhere).pid)
"""
PATIENCE_S = 10.0


def ends(pid):
    deadline = time.monotonic() + PATIENCE_S
    while has_not_ended(pid) and time.monotonic() < deadline:
        time.sleep(0.01)  # between two looks
    return not has_not_ended(pid)


def test_an_orphan_is_ended_and_who_was_there_before_goes_on():
    with subprocess.Popen(SLEEPS) as before:
        with no_strangers():
            told = subprocess.run([sys.executable, "-c", DAEMON], capture_output=True, check=True)
            orphan = int(told.stdout)
            assert has_not_ended(orphan)
        assert ends(orphan)
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
        assert ends(ended)
        assert has_not_ended(spared)
        assert end_below(above.pid) == 1
        assert ends(spared)


def test_the_time_of_children_that_ended_is_told():
    busy = "import time\nwhile time.process_time() < 0.1: pass"
    before = children_ms(os.getpid())
    subprocess.run([sys.executable, "-c", busy], check=True)
    assert children_ms(os.getpid()) - before >= 90
