"""Workers forked from a process that has imported torch, for tests whose subject is not the start.

Each is a process of its own with the command line, environment and pipes it asked for. It imports
our packages itself; torch alone it has from the nursery, which saves seconds a worker.
"""

import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

PROGRAM = "--program"
# A request holds the environment; the kernel keeps it whole.
MOST_BYTES = 1 << 17


class Forked:
    """What the harness uses of a `subprocess.Popen`."""

    def __init__(self, told: socket.socket, stdin: int, stdout: int) -> None:
        self.stdin = os.fdopen(stdin, "wb")
        self.stdout = os.fdopen(stdout, "rb", buffering=0)
        self.returncode: int | None = None
        self._told = told
        self.pid = int(told.recv(MOST_BYTES))

    def poll(self) -> int | None:
        """Its exit status, if it has ended."""
        return self._status(0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has ended."""
        status = self._status(timeout)
        if status is None:
            raise subprocess.TimeoutExpired("a forked worker", timeout or 0)
        return status

    def _status(self, timeout_s: float | None) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], timeout_s)[0]:
            self.returncode = int(self._told.recv(MOST_BYTES))
            self._told.close()
        return self.returncode


class Nursery:
    """The process that others are forked from, started when the first is asked for."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def _begin(self) -> None:
        self._asked, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                env=bare,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def start(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        stderr: Any,
        cwd: Path | None = None,
        **_: Any,  # pipes for the rest, and a process group of its own: so is every one of ours
    ) -> Forked:
        """Start `python -P -m MODULE ARGUMENTS`, as `subprocess.Popen` would."""
        assert list(command[:3]) == [sys.executable, "-P", "-m"], command
        if self._process is None:
            self._begin()
        request = {"argv": command[3:], "env": dict(env), "cwd": str(cwd or Path.cwd())}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        (their_stdin, stdin), (stdout, their_stdout) = os.pipe(), os.pipe()
        given = [theirs.fileno(), their_stdin, their_stdout, stderr.fileno()]
        socket.send_fds(self._asked, [json.dumps(request).encode()], given)
        for descriptor in (their_stdin, their_stdout):
            os.close(descriptor)
        theirs.close()
        return Forked(ours, stdin, stdout)

    def bench(
        self, arguments: str, folder: Path, env: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run `lstm-bench` to its end in a folder, for a command that imports torch itself."""
        command = [sys.executable, "-P", "-m", "lstm_harness", *arguments.split()]
        with tempfile.TemporaryFile() as errors:
            process = self.start(command, env=env, stderr=errors, cwd=folder)
            with process.stdin, process.stdout:
                out = process.stdout.read().decode()
                code = process.wait()
            errors.seek(0)
            return subprocess.CompletedProcess(arguments, code, out, errors.read().decode())

    def use(self, patch: "pytest.MonkeyPatch") -> None:
        """Have the harness in this process start its workers here."""
        patch.setattr("lstm_harness.race.process.subprocess", self.subprocess)

    @property
    def subprocess(self) -> SimpleNamespace:
        """What stands in for the module of that name."""
        return SimpleNamespace(**vars(subprocess) | {"Popen": self.start})

    def close(self) -> None:
        """End it; those who were forked have ended with who asked for them."""
        if self._process:
            self._asked.close()
            self._process.wait()


@contextmanager
def nursery() -> Iterator[Nursery]:
    """A process to fork from, ended at the end."""
    made = Nursery()
    try:
        yield made
    finally:
        made.close()


def _serve(asked: socket.socket) -> None:
    """Fork a keeper for every request, until nobody can ask any more."""
    while True:
        request, given, *_ = socket.recv_fds(asked, MOST_BYTES, 4)
        if not request:
            return
        while _has_ended_child():
            pass
        if os.fork() == 0:
            asked.close()
            _keep(json.loads(request), given)
            return  # a worker's end
        for descriptor in given:
            os.close(descriptor)


def _has_ended_child() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def _keep(request: Mapping[str, Any], given: Sequence[int]) -> None:
    """Fork one worker and tell its process id, then how it ended; end it with who asked."""
    tells = socket.socket(fileno=given[0])
    worker = os.fork()
    if worker == 0:
        _become(request, given[1:])
        return
    os.setpgid(worker, worker)
    for descriptor in given[1:]:
        os.close(descriptor)
    tells.send(str(worker).encode())
    ends = os.pidfd_open(worker)
    if ends not in select.select([tells, ends], [], [])[0]:
        os.killpg(worker, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    with suppress(BrokenPipeError):  # whoever asked is gone
        tells.send(str(status).encode())
    os._exit(0)  # with torch inside, an orderly end takes as long as a worker's whole life


def _become(request: Mapping[str, Any], given: Sequence[int]) -> None:
    """Be the module of a request, in this process."""
    for number, descriptor in enumerate(given):
        os.dup2(descriptor, number)
    os.closerange(3, 1024)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    tempfile.tempdir = None
    module, *arguments = request["argv"]
    if "--parent" in arguments:
        arguments[arguments.index("--parent") + 1] = str(os.getppid())
    sys.path[:0] = request["env"].get("PYTHONPATH", "").split(os.pathsep)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _program(arguments: Sequence[str]) -> None:
    """Be `lstm-bench`, with workers that are forked."""
    from lstm_harness.__main__ import main
    from lstm_harness.race import process

    with nursery() as made:
        process.subprocess = made.subprocess
        sys.argv = ["lstm-bench", *arguments]
        main()


if __name__ == "__main__" and sys.argv[1] == PROGRAM:
    _program(sys.argv[2:])
elif __name__ == "__main__":
    # What every worker would import, and every backward pass of one.
    import torch.fx.experimental.symbolic_shapes  # noqa: F401 - it is for those who are forked

    _serve(socket.socket(fileno=int(sys.argv[1])))
