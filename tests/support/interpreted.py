"""Where there is no GPU, this process interprets CUDA kernels; others that tests start do not.

Triton and Numba ask the environment when they, and a kernel's module, are imported. Whichever test
module is collected first imports them, so the variables are set before any is, and until all are.
"""

import importlib
import os
from contextlib import suppress

import torch

from lstm_kernels import registry

VARIABLES: dict[str, str] = {}
if not torch.cuda.is_available():
    VARIABLES = {b.interpreter: "1" for b in registry.BUILT_IN if b.interpreter}
_BEFORE = {name: os.environ.get(name) for name in VARIABLES}


def begin() -> None:
    """Have what is imported from here on interpreted."""
    os.environ.update(VARIABLES)
    for library in ("triton", "numba.cuda"):
        with suppress(ImportError):
            importlib.import_module(library)


def end() -> None:
    """Leave the environment as it was, for processes that tests start."""
    for name, value in _BEFORE.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
