"""A part of a test in a child of its process: what it changes there, and compiles, goes with it."""

import os
import traceback
from collections.abc import Callable


def in_a_fork(function: Callable[[], None]) -> None:
    """Call a function in a forked child; what is raised there fails here, with its traceback."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            with os.fdopen(writer, "w") as told:
                try:
                    function()
                    code = 0
                except BaseException:
                    told.write(traceback.format_exc())
                    raise
        finally:
            # Nothing of the parent's is ended here: no test, no file, no worker of xdist.
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as told:
        said = told.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == 0, f"the child ended with {code}\n{said}"
