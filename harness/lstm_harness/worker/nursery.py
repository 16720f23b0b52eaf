"""The process that a block's workers are forked from: it has imported torch, and nothing else.

Importing torch takes longer than all else that a worker does before its first cell. Run as a file,
`python -P nursery.py SOCKET PARENT`, because it must not import our packages: each worker imports
the kernels that its request names. A request is five files: one that holds the JSON of a worker's
arguments, environment and folder, the socket that gets its process id and then how it ended, and
its standard input, output and error.
"""

import ctypes
import json
import os
import runpy
import select
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress

FILES = 5
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


def serve(asked: socket.socket) -> list[int] | None:
    """Fork a worker for each request, and report how each ended, until the harness is gone.

    Returns:
        None, at the end; in a forked process the files of the request that it must run.
    """
    living: dict[int, tuple[int, socket.socket]] = {}
    while True:
        readable, _, _ = select.select([asked.fileno(), *living], [], [])
        for ended in living.keys() & readable:
            _tell_end(ended, *living.pop(ended))
        if asked.fileno() not in readable:
            continue
        said, files, *_ = socket.recv_fds(asked, 1, FILES)
        if not said:
            return None
        worker = os.fork()
        if worker == 0:
            return files
        # Before anyone knows it: to end it is to end its group.
        os.setpgid(worker, worker)
        request, told, *standard = files
        tells = socket.socket(fileno=told)
        for descriptor in (request, *standard):
            os.close(descriptor)
        with suppress(BrokenPipeError):  # the harness is gone
            tells.send(str(worker).encode())
        living[os.pidfd_open(worker)] = worker, tells


def _tell_end(descriptor: int, worker: int, tells: socket.socket) -> None:
    os.close(descriptor)
    status = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    with tells, suppress(BrokenPipeError):
        tells.send(str(status).encode())


def become(files: Sequence[int]) -> None:
    """Run the module of a request in this process, with no files except its own."""
    with os.fdopen(files[0]) as file:
        request = json.load(file)
    for number, descriptor in enumerate(files[2:]):
        os.dup2(descriptor, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None  # torch may have looked for it in another environment
    sys.path[:0] = request["environment"].get("PYTHONPATH", "").split(os.pathsep)
    sys.argv = request["arguments"]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _die_with_parent(parent: int) -> None:
    """As in `lstm_harness.worker`, which this must not import."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the harness is gone")


def main() -> None:
    """Serve until the harness closes its socket or ends; or become a worker."""
    descriptor, parent = map(int, sys.argv[1:])
    _die_with_parent(parent)
    # Processes that workers leave behind stay below this process, where they are found and ended.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    # What every worker would import, and every backward pass of one.
    import torch.fx.experimental.symbolic_shapes  # noqa: F401 - the forked workers use it

    asked = socket.socket(fileno=descriptor)
    files = serve(asked)
    if files is None:
        os._exit(0)  # with torch inside, an orderly end takes as long as a worker's whole life
    asked.detach()  # `become` closes it, with everything else that is not the worker's
    become(files)


if __name__ == "__main__":
    main()
