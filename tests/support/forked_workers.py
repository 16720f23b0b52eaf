"""Workers forked from one process for as long as the tests last, where the start is no subject.

The harness has a nursery a block (`lstm_harness.race.nursery`); here all blocks share one, and the
processes that it starts without one are forked there too.
"""

import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lstm_harness.race import nursery as product

PROGRAM = "--program"


class Nursery:
    """The process that others are forked from, started when the first is asked for."""

    def __init__(self) -> None:
        self._shared: product.Nursery | None = None

    def start(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        stderr: Any,
        cwd: Path | None = None,
        **_: Any,  # pipes for the rest, and a process group of its own: so is every one of ours
    ) -> product.Forked:
        """Start `python -P -m MODULE ARGUMENTS`, as `subprocess.Popen` would."""
        assert list(command[:3]) == [sys.executable, "-P", "-m"], command
        shared = self.shared()
        arguments = list(command[3:])
        if "--parent" in arguments:
            arguments[arguments.index("--parent") + 1] = str(shared.pid)
        forked = shared.start(arguments, env, stderr, cwd)
        assert forked, "the tests' nursery has ended"
        return forked

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

    def use(self, patch: pytest.MonkeyPatch) -> None:
        """Have the harness in this process start its workers here, those of every block too."""
        self.shared()  # what a command finds running it leaves alone
        popen = SimpleNamespace(**vars(subprocess) | {"Popen": self.start})
        patch.setattr("lstm_harness.race.process.subprocess", popen)
        patch.setattr("lstm_harness.race.scheduler.Nursery.possible", lambda: False)

    def shared(self) -> product.Nursery:
        """The process itself, for those who start workers there by themselves."""
        if self._shared is None:
            # Whatever a test limits, it limits its own process.
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            self._shared = product.Nursery()
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        return self._shared

    def close(self) -> None:
        """End it, and those who were forked."""
        if self._shared:
            self._shared.close()


@contextmanager
def nursery() -> Iterator[Nursery]:
    """A process to fork from, ended at the end."""
    made = Nursery()
    # At once: whoever looks for workers of a test's folder finds it in what they were started with.
    made.shared()
    try:
        yield made
    finally:
        made.close()


def _program(arguments: Sequence[str]) -> None:
    """Be `lstm-bench`, with workers that are forked."""
    from lstm_harness.__main__ import main

    with nursery() as made, pytest.MonkeyPatch.context() as patch:
        made.use(patch)
        sys.argv = ["lstm-bench", *arguments]
        main()


if __name__ == "__main__" and sys.argv[1] == PROGRAM:
    _program(sys.argv[2:])
