"""Which backend runs a problem: the one that was named, or PyTorch's own where none was."""

import warnings
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lstm_kernels import registry
from lstm_kernels.names import check_name
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Unsupported
from lstm_kernels.tracing import transforms

AUTO = "auto"
# What runs where a transform of torch.func does not go through a backend.
GONE_THROUGH = "naive"


class Chosen(NamedTuple):
    """A backend and what holds its `layer` or `stack`."""

    name: str
    implementation: Any


def check_backend(name: str, *, recompute: bool = False) -> str:
    """Return the name if a backend, or `auto`, has it.

    Raises:
        ValueError: unknown, with the nearest known name; or it has no recompute, which is wanted.
    """
    check_name("backend", name, (*registry.backends(), AUTO))
    able = [each.name for each in registry.registered().values() if each.recompute]
    if recompute and name not in able:
        raise ValueError(f"backend {name!r} has no recompute; it is in: {', '.join(able)}")
    return name


def choose(name: str, problem: Problem, device: torch.device) -> Chosen:
    """The backend of that name; for `auto` PyTorch's own, as nothing has been measured.

    `auto` takes `cudnn` on CUDA where cuDNN would run, else `aten`. Under a transform of torch.func
    that does not go through it, `naive` runs in its place, with a warning where it was named.

    Raises:
        Unsupported: with the reason the backend gives.
    """
    pytorch = ("cudnn", "aten") if device.type == "cuda" else ("aten",)
    candidates = pytorch if name == AUTO else (name,)
    under = transforms()
    if under and not all(under <= set(registry.get(each).transforms) for each in candidates):
        if name != AUTO:
            warnings.warn(
                f"torch.func's {', '.join(sorted(under))} does not go through backend {name!r}; "
                f"{GONE_THROUGH} runs in its place",
                stacklevel=2,
            )
        candidates = (GONE_THROUGH,)
    for candidate in candidates:
        implementation = registry.load(candidate)
        reason = implementation.unsupported(problem, str(device))
        if reason is None:
            return Chosen(candidate, implementation)
    raise Unsupported(f"backend {candidate!r}: {reason}")


@lru_cache(maxsize=1024)
def problem_of(**fields: Any) -> Problem:
    """`Problem(**fields)`, made once for the same fields: a module asks at every call."""
    return Problem(**fields)


def number_format(x: Tensor) -> dict[str, str]:
    """The problem's dtype and precision for this input.

    Float32 products on CUDA are `tf32` where `torch.set_float32_matmul_precision` allows it.
    """
    relaxed = x.is_cuda and x.dtype is torch.float32
    relaxed = relaxed and torch.get_float32_matmul_precision() != "highest"
    return {
        "dtype": str(x.dtype).removeprefix("torch."),
        "precision": "tf32" if relaxed else "ieee",
    }
