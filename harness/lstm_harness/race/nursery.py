"""Workers forked from one process that has imported torch, which is most of what a start costs."""

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import lstm_harness
from lstm_harness.race.strangers import end_below

PROGRAM = Path(lstm_harness.__path__[0]) / "worker" / "nursery.py"
# What is reported about a worker: its process id, then its exit status.
NUMBER_BYTES = 32


class Forked:
    """A forked worker, with the used parts of `subprocess.Popen`."""

    def __init__(self, told: socket.socket, pid: int, stdin: int, stdout: int) -> None:
        self.pid = pid
        self.stdin: IO[bytes] = os.fdopen(stdin, "wb")
        self.stdout: IO[bytes] = os.fdopen(stdout, "rb", buffering=0)
        self.returncode: int | None = None
        self._told = told

    def poll(self) -> int | None:
        """Its exit status, if it has ended."""
        return self._status(0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not, in `timeout` seconds.
        """
        status = self._status(timeout)
        if status is None:
            raise subprocess.TimeoutExpired("a forked worker", timeout or 0)
        return status

    def _status(self, timeout_s: float | None) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], timeout_s)[0]:
            # If the nursery was killed, its workers were too.
            self.returncode = int(self._told.recv(NUMBER_BYTES) or -9)
            self._told.close()
        return self.returncode


class Nursery:
    """The process that workers are forked from. It starts at once; `close` ends it and them.

    Args:
        threads: how many threads to set for libraries that read it once, when imported.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._started: list[int] = []
        self._asked, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        told = {"OMP_NUM_THREADS": str(threads)} if threads else {}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(PROGRAM), str(theirs.fileno()), str(os.getpid())],
                env=os.environ | told,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # what fails here also fails in a worker
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    @staticmethod
    def possible() -> bool:
        """Whether this system supports it: Linux does."""
        return hasattr(os, "pidfd_open") and hasattr(os, "memfd_create")

    @property
    def pid(self) -> int:
        """The process id: that of its workers' parent."""
        return self._process.pid

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        stderr: IO[bytes],
        folder: Path | None = None,
    ) -> Forked | None:
        """Start `python -P -m ARGUMENTS` in a folder, with pipes; None if this has ended."""
        request = {
            "arguments": list(arguments),
            "environment": dict(environment),
            "folder": str(folder or Path.cwd()),
        }
        told, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        (their_stdin, stdin), (stdout, their_stdout) = os.pipe(), os.pipe()
        with theirs, os.fdopen(os.memfd_create("request"), "w") as file:
            json.dump(request, file)
            file.flush()
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            files = [file.fileno(), theirs.fileno(), their_stdin, their_stdout, stderr.fileno()]
            with suppress(BrokenPipeError, ConnectionResetError):
                socket.send_fds(self._asked, [b"."], files)
        for descriptor in (their_stdin, their_stdout):
            os.close(descriptor)
        pid = told.recv(NUMBER_BYTES)
        if pid:
            self._started.append(int(pid))
            return Forked(told, int(pid), stdin, stdout)
        told.close()
        for descriptor in (stdin, stdout):
            os.close(descriptor)
        return None

    def end_strangers(self) -> int:
        """End the processes it adopted: workers started them, and they lost their parents."""
        return end_below(self.pid, but=self._started)

    def close(self) -> None:
        """End it; its workers end with it."""
        self.end_strangers()
        self._asked.close()
        self._process.kill()
        self._process.wait()
