"""torch.compile of a model with our layers: by operators, or around them.

A layer on a backend with operators (`common.operators`) is traced, and stands as those operators in
the graph of the model around it: whatever T and B, `fullgraph=True`. Any other layer is left alone:
the graph ends before it, it runs as ever, and another begins after it; so does one whose input is
packed.

Dynamo, torch.compile's tracer, has to be told three things for that, once it is imported:

- It looks into no module that is a torch.nn.LSTM, GRU or RNN but with `allow_rnn` of its config,
  which is not ours to set for torch.nn's own. So it is set for as long as a layer of ours is looked
  at.
- What is left alone it would compile from inside, function by function.
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

# What of Dynamo is used here.
_INSIDES = attrgetter(
    "disable",
    "config.allow_rnn",
    "external_utils.wrap_inline",
    "variables.builder.VariableBuilder.wrap_module",
    *(f"eval_frame.{name}" for name in ("set_code_exec_strategy", "FrameAction.SKIP")),
    *(f"eval_frame.{name}" for name in ("FrameExecStrategy", "DisableContext")),
    "eval_frame.OptimizedModule._initialize",
)
# By name, what calls a function and has Dynamo look no further.
_ALONE: dict[str, Callable[..., Any]] = {}


def traced_where_called(*functions: Callable[..., Any]) -> None:
    """Have Dynamo trace these functions in what calls them, or nothing that is inside them.

    Those that find themselves in a graph, and are not to be there, call themselves by `alone`.
    """
    when_imported("torch._dynamo", partial(_leave_whole, functions))


def layers_traced_where_called(layers: type[torch.nn.Module]) -> None:
    """The same of the `forward` of modules of that type."""
    traced_where_called(layers.forward)
    when_imported("torch._dynamo", partial(_look_into, layers))


def alone(name: str) -> Callable[..., Any]:
    """The function of that name, for torch.compile to end its graph before it is called."""
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
    """Whether this Dynamo has inside what is told above, which is no promise of PyTorch's."""
    try:
        _INSIDES(dynamo)
    except AttributeError as error:
        warnings.warn(
            f"torch.compile breaks its graphs at every layer of lstm_kernels: torch "
            f"{torch.__version__} is newer than what lstm_kernels knows ({error})",
            stacklevel=2,
        )
        return False
    return True


def in_graph() -> bool:
    """Whether torch.compile is making a graph of what calls this.

    torch.export is not: it may do so by the same means, and is shown what it is shown otherwise.
    """
    return is_dynamo_compiling() and not is_exporting()


@known_while_tracing
def has_operators(
    backend: str, cell: str, proj_size: int, device: str, dtype: str, precision: str
) -> bool:
    """Whether a backend has operators, and supports such a layer of any other size.

    They are made where it does. No transform of torch.func goes through them.
    """
    record = registry.registered().get(backend)
    if record is None or not record.operators or transforms():
        return False
    one = Problem(cell, seq_len=1, batch=1, input_size=1, hidden_size=proj_size + 1)
    dtype = operators.computed_in(backend, dtype)
    problem = replace(one, proj_size=proj_size, dtype=dtype, precision=precision)
    operators.define(backend)
    return operators.reason_against(backend, problem, device) is None
