"""Several hosts on this machine: each with a name of its own, and all gone at once when it is cut.

A host is a UTS namespace (namespaces(7)), which the kernel gives a host name. Its CPUs and its
files are this machine's.
"""

import ctypes
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_CLONE_NEWUTS = 0x04000000  # unshare(2)


def may_simulate_hosts() -> bool:
    """Whether this user may make namespaces."""
    return os.geteuid() == 0


class Host:
    """A host. This process is on it until it makes another one; what it starts meanwhile stays."""

    def __init__(self, name: str) -> None:
        self.name = name
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUTS):
            raise OSError(ctypes.get_errno(), "unshare")
        socket.sethostname(name)
        self._space = _space_of("self")

    def start(self, command: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
        """Start a program on it; this process must be on it."""
        assert _space_of("self") == self._space, "this process is on another host"
        return subprocess.Popen(command, **options)

    def cut(self) -> int:
        """Its power fails: every process on it is gone; returns how many there were."""
        found = self.processes()
        assert os.getpid() not in found, "this process is on the host"
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(found)

    def processes(self) -> list[int]:
        """The processes that are on it."""
        pids = [entry.name for entry in Path("/proc").glob("[0-9]*")]
        return [int(pid) for pid in pids if _space_of(pid) == self._space]


def _space_of(pid: str) -> str:
    with suppress(OSError):
        return str(Path(f"/proc/{pid}/ns/uts").readlink())
    return ""
