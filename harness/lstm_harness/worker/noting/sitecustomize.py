"""Python imports this first in every process of a program that `capture` runs.

The folder it lies in is on the program's PYTHONPATH, and so is inherited by whatever Python the
program starts. It imports nothing that the program would not: once the program has imported torch's
recurrent modules, `calls` notes how they are called. It is gone from sys.path at once, and another
`sitecustomize` that it hides is run after it.
"""

import importlib.machinery
import os
import sys
from typing import Any

FOLDER = "LSTM_BENCH_NOTES"
RECURRENT = "torch.nn.modules.rnn"
MODULE = "_lstm_bench_calls"


class _Waiting:
    """A finder that finds nothing itself, and starts to record when one module is imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """What the other finders find; for that one module, recording starts after its import."""
        if name != RECURRENT:
            return None
        sys.meta_path.remove(self)
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path)
        spec = next((each for each in found if each is not None), None)
        if spec is not None and spec.loader is not None:
            execute = _and_then_note(spec.loader.exec_module)
            spec.loader.exec_module = execute  # type: ignore[method-assign] # of this one loader
        return spec


def _and_then_note(execute: Any) -> Any:
    def execute_and_note(module: Any) -> None:
        execute(module)
        _note_calls()

    return execute_and_note


def _note_calls() -> None:
    """Load `calls` from its path, under a name that no program uses."""
    from importlib import util

    place = os.path.join(os.path.dirname(__file__), "calls.py")  # noqa: PTH118, PTH120 - pathlib is an import the program may not have
    spec = util.spec_from_file_location(MODULE, place)
    assert spec is not None
    assert spec.loader is not None
    # torch.compile looks there for the modules that it traces.
    sys.modules[MODULE] = module = util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        module.begin(os.environ[FOLDER])
    except Exception as error:  # noqa: BLE001 - another version of Python or torch: the program continues, and the end reports it
        _tell("trouble", f"{type(error).__name__}: {error}\n")
    _tell("torch")


def _tell(what: str, said: str = "") -> None:
    """Leave a mark that a process of the program came this far."""
    with open(os.path.join(os.environ[FOLDER], what), "a") as file:  # noqa: PTH118, PTH123 - the same
        file.write(said)


def _run_hidden() -> None:
    """Run the sitecustomize that Python would have found without this one."""
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize")
    if spec is None or spec.loader is None:
        return
    from importlib import util

    module = util.module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


def _begin() -> None:
    own = os.path.dirname(__file__)  # noqa: PTH120 - the same
    sys.path[:] = [each for each in sys.path if each != own]
    # If the folder is gone, the program has outlived the command that records it.
    if os.path.isdir(os.environ.get(FOLDER, "")):  # noqa: PTH112 - the same
        _tell("python")
        if RECURRENT in sys.modules:
            _note_calls()
        else:
            sys.meta_path.insert(0, _Waiting())
    _run_hidden()


# The tests import it as a module of the package.
if __name__ == "sitecustomize":
    _begin()
