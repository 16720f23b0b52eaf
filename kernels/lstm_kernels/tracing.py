"""What PyTorch's tools make of a call: torch.compile, tracers, torch.func.

torch.compile leaves a layer as it is, as it does torch.nn's recurrent modules: its graph ends
before the layer, and another begins after it. Tracers (torch.jit, torch.export, ONNX) are shown
torch.nn's own path. torch.func's transforms, and forward-mode differentiation, go through what is
made of PyTorch's operations: through `naive` where they do not go through a backend.
"""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")
_NONE: frozenset[str] = frozenset()


def left_alone(function: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
    """Have torch.compile call a function and look no further, nor into what it calls.

    `torch.compiler.disable` does that; it is asked for only there, for it imports the compiler.
    """

    @wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Returned:
        if torch.compiler.is_dynamo_compiling():
            return torch.compiler.disable(function)(*args, **kwargs)  # type: ignore[no-any-return] # untyped
        return function(*args, **kwargs)

    return call


def is_traced(input: Tensor) -> bool:
    """Whether a call's operations are noted, or its shapes, and there are no numbers in it."""
    if torch._C._is_tracing() or torch.compiler.is_exporting() or input.is_meta:
        return True
    return _is_a("torch._subclasses.fake_tensor", "FakeTensor", input)


def is_proxy(input: Any) -> bool:
    """Whether torch.fx goes through a model."""
    return _is_a("torch.fx", "Proxy", input)


def _is_a(module: str, name: str, input: Any) -> bool:
    """Whether it is one of a class; where nobody imported the class, it is none."""
    imported = sys.modules.get(module)
    return imported is not None and isinstance(input, getattr(imported, name))


def transforms() -> frozenset[str]:
    """The transforms of torch.func that a call is under: `grad`, `vmap`, `jvp`.

    Forward-mode differentiation by `torch.autograd.forward_ad` is `jvp`, too.
    """
    stack, is_forward = torch._C._functorch.get_interpreter_stack(), forward_ad._current_level >= 0
    if not stack and not is_forward:
        return _NONE
    names = {each.key().name.lower() for each in stack or ()} - {"functionalize"}
    return frozenset(names | {"jvp"} if is_forward else names)
