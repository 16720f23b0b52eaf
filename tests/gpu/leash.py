"""Run a command, and let nothing that it started outlive it, or whoever holds this one's stdin.

    python3 leash.py COMMAND ...

Ends with the command's exit status (128 and the signal's number where one ended it) once the
command has, and whatever it left running is killed. It is killed with all that when stdin ends,
which is so when its holder lets go, or is no more, however that ended. An interrupt is the
command's alone.
"""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "harness"))

from lstm_harness.race.strangers import end_below, no_strangers


def main() -> int:
    """Run the command and return its exit status."""
    with no_strangers():
        # Unlike one that is ignored, a signal with a handler is the command's to take.
        signal.signal(signal.SIGINT, lambda *_: None)
        command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
        threading.Thread(target=_wait_for_the_holder, args=[command], daemon=True).start()
        status = command.wait()
    return status if status >= 0 else 128 - status


def _wait_for_the_holder(command: subprocess.Popen[bytes]) -> None:
    while os.read(0, 1):
        pass
    command.kill()
    end_below(os.getpid())


if __name__ == "__main__":
    sys.exit(main())
