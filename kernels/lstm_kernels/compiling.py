"""torch.compile of a model with our layers: by operators, or around them.

A layer on a backend with operators (`common.operators`) is traced, and appears as those operators
in the graph of the model around it: for any T and B, with `fullgraph=True`. Any other layer is left
alone: the graph ends before it, it runs as usual, and another begins after it. The same holds if
its input is packed.

Dynamo, torch.compile's tracer, needs three settings for that, once it is imported:

- It does not trace a module that is a torch.nn.LSTM, GRU or RNN without `allow_rnn` of its config,
  which we must not set for torch.nn's own. So it is set only while a layer of ours is
  traced.
- It would compile a layer that is left alone from inside, function by function.
- A layer that is compiled by itself is called from a function of Dynamo's, as torch.nn's are.
"""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, partial
from operator import attrgetter
from types import ModuleType
from typing import Any

import torch
from torch.compiler import is_dynamo_compiling, is_exporting

from lstm_kernels import registry
from lstm_kernels.arrival import when_imported
from lstm_kernels.common import operators
from lstm_kernels.problem import Problem
from lstm_kernels.tracing import known_while_tracing, transforms

# The parts of Dynamo that are used here.
_INSIDES = attrgetter(
    "disable",
    "config.allow_rnn",
    "external_utils.wrap_inline",
    "variables.builder.VariableBuilder.wrap_module",
    *(f"eval_frame.{name}" for name in ("set_code_exec_strategy", "FrameAction.SKIP")),
    *(f"eval_frame.{name}" for name in ("FrameExecStrategy", "DisableContext")),
    "eval_frame.OptimizedModule._initialize",
)
# By name: a function's caller that Dynamo does not trace into.
_ALONE: dict[str, Callable[..., Any]] = {}


def traced_where_called(*functions: Callable[..., Any]) -> None:
    """Make Dynamo trace these functions as part of their caller, or nothing inside them.

    A function that is traced, but must not be, calls itself by `alone`.
    """
    when_imported("torch._dynamo", partial(_leave_whole, functions))


def layers_traced_where_called(layers: type[torch.nn.Module]) -> None:
    """The same for the `forward` of modules of that type."""
    traced_where_called(layers.forward)
    when_imported("torch._dynamo", partial(_look_into, layers))


def alone(name: str) -> Callable[..., Any]:
    """The function of that name; torch.compile ends its graph before this call."""
    return _ALONE[name]


def _leave_whole(functions: Iterable[Callable[..., Any]], dynamo: ModuleType) -> None:
    if not _is_known(dynamo):
        return
    eval_frame = dynamo.eval_frame
    skip = eval_frame.FrameAction.SKIP
    both = eval_frame.FrameExecStrategy(skip, skip)  # the function, and what it calls
    for function in functions:
        eval_frame.set_code_exec_strategy(function.__code__, both)
        reason = "its backend has no operators for this call"
        _ALONE[function.__name__] = dynamo.disable(function, reason=reason)


def _look_into(layers: type[torch.nn.Module], dynamo: ModuleType) -> None:
    if not _is_known(dynamo):
        return
    builder, compiled = dynamo.variables.builder.VariableBuilder, dynamo.eval_frame.OptimizedModule
    wrap, initialize = builder.wrap_module, compiled._initialize

    def wrap_module(self: Any, value: torch.nn.Module) -> Any:
        if not isinstance(value, layers):
            return wrap(self, value)
        with dynamo.config.patch(allow_rnn=True):
            return wrap(self, value)

    def initialize_then(self: Any) -> None:
        initialize(self)
        disabled = isinstance(self.dynamo_ctx, dynamo.eval_frame.DisableContext)
        if isinstance(self._orig_mod, layers) and not disabled:
            self.forward = self.dynamo_ctx(dynamo.external_utils.wrap_inline(self._orig_mod))

    builder.wrap_module = wrap_module
    compiled._initialize = initialize_then


@cache
def _is_known(dynamo: ModuleType) -> bool:
    """Whether this Dynamo has the parts named above, which PyTorch does not promise."""
    try:
        _INSIDES(dynamo)
    except AttributeError as error:
        warnings.warn(
            f"torch.compile breaks its graph at every layer of lstm_kernels: torch "
            f"{torch.__version__} is newer than this lstm_kernels supports ({error})",
            stacklevel=2,
        )
        return False
    return True


def in_graph() -> bool:
    """Whether torch.compile is tracing the caller.

    torch.export does not count: it may use the same means, and it is treated separately.
    """
    return is_dynamo_compiling() and not is_exporting()


@known_while_tracing
def has_operators(
    backend: str, cell: str, proj_size: int, device: str, dtype: str, precision: str
) -> bool:
    """Whether a backend has operators, and supports such a layer of any size.

    They are made if it does. They support no transform of torch.func.
    """
    record = registry.registered().get(backend)
    if record is None or not record.operators or transforms():
        return False
    one = Problem(cell, seq_len=1, batch=1, input_size=1, hidden_size=proj_size + 1)
    dtype = operators.computed_in(backend, dtype)
    problem = replace(one, proj_size=proj_size, dtype=dtype, precision=precision)
    operators.define(backend)
    return operators.reason_against(backend, problem, device) is None
