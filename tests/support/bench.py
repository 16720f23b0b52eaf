"""The program as a user starts it: a process of its own, in a folder and with a lock of its own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import forked_workers
from waiting import PATIENCE_S

import lstm_harness
import lstm_kernels

PACKAGE = "lstm_harness"
ROOTS = [str(Path(package.__path__[0]).parent) for package in (lstm_harness, lstm_kernels)]


def environment(folder: Path, *more_roots: Path) -> dict[str, str]:
    """What the program is started with: a device lock, scratch and a cache of the test's own."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    paths = os.pathsep.join([*map(str, more_roots), *ROOTS])
    own = {"XDG_CACHE_HOME": str(folder / "cache")}
    own |= dict.fromkeys(("TMPDIR", "LSTM_BENCH_LOCKS"), str(temporary))
    return os.environ | {"PYTHONPATH": paths} | own


def start(
    arguments: str, folder: Path, forked: bool = False, **options: Any
) -> subprocess.Popen[str]:
    """Start one command line; the caller waits for it.

    Where `forked`, it forks its workers from one process that has torch, which it starts itself.
    """

    def before_it_starts() -> None:
        # Where the tests run in the background these are ignored, and children inherit that.
        for ignored in (signal.SIGINT, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_DFL)

    options.setdefault("env", environment(folder))
    program = [forked_workers.__file__, forked_workers.PROGRAM] if forked else ["-m", PACKAGE]
    return subprocess.Popen(
        [sys.executable, *program, *arguments.split()],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=before_it_starts,
        **options,
    )


def bench(arguments: str, folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run one command line to its end."""
    process = start(arguments, folder, **options)
    out, err = process.communicate(timeout=PATIENCE_S)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def records_of(run: Path) -> list[dict[str, Any]]:
    """The stored records, as the file has them, but for a last line that is not whole."""
    path = run / "records.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def manifest_of(run: Path) -> dict[str, Any]:
    """The stored manifest."""
    return json.loads((run / "run.json").read_text())


def workers_of(folder: Path) -> list[int]:
    """Process ids of the workers whose files lie in a folder, by what /proc tells of everyone.

    What they are forked from, whose command line they keep, is one of them.
    """
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            if b"lstm_harness.worker" in command or b"worker/nursery.py" in command:
                ours = bytes(folder) in (process / "environ").read_bytes()
                found += [int(process.name)] if ours else []
        except OSError:
            continue  # it ended meanwhile
    return found
