"""Waiting in a test for what must come, however slow and busy the machine is."""

import subprocess
import time
from collections.abc import Callable
from typing import Any

# What takes seconds here takes minutes on a slow machine that others use; only a failure takes
# this long.
PATIENCE_S = 600.0
# Between two looks.
_PAUSE_S = 0.02


def until(condition: Callable[[], Any], process: "subprocess.Popen[Any] | None" = None) -> None:
    """Wait until a condition holds; a process that brings it about may end, but not before."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        # In this order: what a process does last it has done once it is seen to have ended.
        ended = process is not None and process.poll() is not None
        if condition():
            return
        assert not ended, process.communicate()
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:g} s"
        time.sleep(_PAUSE_S)
