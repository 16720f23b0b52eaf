"""Which backend runs a problem: the one that was named, or for `auto` the fastest one measured."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lstm_kernels import registry
from lstm_kernels.names import check_name
from lstm_kernels.preference import preferred, unmeasured
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Unsupported
from lstm_kernels.tracing import transforms

AUTO = "auto"
# What runs if a backend does not support a transform of torch.func.
GONE_THROUGH = "naive"


class Chosen(NamedTuple):
    """A backend, the object with its `layer` or `stack`, and why it was chosen, in a sentence."""

    name: str
    implementation: Any
    why: str


def check_backend(name: str, *, recompute: bool = False) -> str:
    """Return the name if a backend, or `auto`, has it.

    Raises:
        ValueError: unknown, with the nearest known name; or it has no recompute, which is required.
    """
    check_name("backend", name, (*registry.backends(), AUTO))
    able = [each.name for each in registry.registered().values() if each.recompute]
    if recompute and name not in able:
        raise ValueError(f"backend {name!r} has no recompute; expected one of: {', '.join(able)}")
    return name


def choose(
    name: str, problem: Problem, device: torch.device, given: Iterable[Tensor | None]
) -> Chosen:
    """The backend of that name; for `auto` the fastest measured (see `lstm_kernels.preference`).

    Under a transform of torch.func `auto` is PyTorch's own. If that, or the named one, does not
    support the transform, `naive` runs instead, with a warning if a backend was named.

    Args:
        given: input, states and weights, which show `auto` whether gradients may be needed.
    Raises:
        Unsupported: with the reason the backend gives, or because it has no gradients.
    """
    under = transforms()
    if under:
        return _under(under, name, problem, device)
    training = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in given)
    if name != AUTO:
        if training and "backward" not in registry.get(name).passes:
            raise Unsupported(
                f"backend {name!r} has no gradients, and this call may need them; "
                "call it under torch.no_grad()"
            )
        return _first((name,), problem, device, "it was named")
    preference = preferred(problem, str(device), training, torch.get_num_threads())
    return _first(preference.order, problem, device, preference.why)


def _first(
    names: tuple[str, ...],
    problem: Problem,
    device: torch.device,
    why: str | Callable[[str, Mapping[str, str]], str],
) -> Chosen:
    """The first of these backends that runs the problem.

    Args:
        why: the reason; or a function of the backend and those before it, each with its reason.
    """
    refused: dict[str, str] = {}
    for name in names:
        implementation = registry.load(name)
        reason = registry.unsupported(name, problem, str(device))
        if reason is None:
            said = f"{name}: {why}" if isinstance(why, str) else why(name, refused)
            return Chosen(name, implementation, said)
        refused[name] = reason
    raise Unsupported(f"backend {name!r}: {reason}")


def _under(under: frozenset[str], name: str, problem: Problem, device: torch.device) -> Chosen:
    """As `choose`, under these transforms of torch.func."""
    candidates = unmeasured(problem, device.type) if name == AUTO else (name,)
    told = f"torch.func's {', '.join(sorted(under))}"
    if all(under <= set(registry.get(each).transforms) for each in candidates):
        ground = f"PyTorch's own, which supports {told}" if name == AUTO else "it was named"
        return _first(candidates, problem, device, ground)
    if name != AUTO:
        warnings.warn(
            f"backend {name!r} does not support {told}; {GONE_THROUGH} runs in its place",
            stacklevel=3,
        )
    lacking = "PyTorch's own" if name == AUTO else f"backend {name!r}"
    return _first((GONE_THROUGH,), problem, device, f"{lacking} does not support {told}")


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
