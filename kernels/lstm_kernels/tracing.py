"""How PyTorch's tools see a call: torch.compile, tracers, torch.func.

For torch.compile see `lstm_kernels.compiling`. Tracers (torch.jit,
torch.export, ONNX) get torch.nn's own path; but torch.export for any T, which that path
does not support, gets the operators of a backend that has some. torch.func's transforms, and
forward-mode differentiation, work on PyTorch's operations: `naive` runs if a backend does not
support them.
"""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

Called = TypeVar("Called", bound=Callable[..., Any])
_NONE: frozenset[str] = frozenset()


def known_while_tracing(function: Called) -> Called:
    """Make torch.compile treat what a function returns as a constant of the graph.

    Its arguments are numbers and names, on which the graph depends. So does
    `torch.compiler.assume_constant_result`, which would import the compiler.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined] # as Dynamo has it
    return function


def is_traced(input: Tensor) -> bool:
    """Whether a call's operations or shapes are recorded, without numbers."""
    if torch.compiler.is_exporting() or torch._C._is_tracing() or input.is_meta:
        return True
    return _is_a("torch._subclasses.fake_tensor", "FakeTensor", input)


def is_proxy(input: Any) -> bool:
    """Whether torch.fx is tracing a model."""
    return _is_a("torch.fx", "Proxy", input)


def _is_a(module: str, name: str, input: Any) -> bool:
    """Whether a value is an instance of a class; it is not if nobody imported the class."""
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
