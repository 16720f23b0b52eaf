"""What rows of docs/compatibility.md share: a column's modules, their inputs, and the list of rows.

A row is a function that uses a column's LSTM the way one of PyTorch's tools does, and returns what
came out of it beside what should have: the same numbers through a plain float64 torch.nn.LSTM.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import closeness
import torch
from torch import Tensor

import lstm_kernels as lk

T, B, I, H = 3, 2, 3, 4  # noqa: E741 - the field's name of the input's size
TORCH_NN = "nn.LSTM"

Results = dict[str, Tensor]


class Found(NamedTuple):
    """What a column gave, what it should have, and how far apart they may be."""

    got: Results
    want: Results
    bound: float = closeness.LAYER["float32"]


@dataclass(frozen=True)
class Column:
    """Who is asked: torch.nn.LSTM itself, or ours on a backend."""

    name: str

    def new(self, *, seed: int = 0, **settings: Any) -> torch.nn.LSTM:
        """A module with the numbers that every column has."""
        sizes = {"input_size": I, "hidden_size": H}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self._made(**sizes | settings)

    def exact(self, *, seed: int = 0, **settings: Any) -> torch.nn.LSTM:
        """torch.nn's in float64, with the same numbers."""
        return Column(TORCH_NN).new(seed=seed, **settings).double()

    def _made(self, **settings: Any) -> torch.nn.LSTM:
        if self.name == TORCH_NN:
            return torch.nn.LSTM(**settings)
        return lk.LSTM(**settings, backend=self.name)


@dataclass(frozen=True)
class Row:
    """An integration: of what kind, which, and how it is tried."""

    kind: str
    name: str
    run: Callable[[Column], Found]
    slow: bool = False
    by_bfloat16: bool = False  # what torch.nn does depends on whether oneDNN has it on this CPU


ROWS: list[Row] = []


def row(kind: str, name: str, **marks: bool) -> Callable[[Any], Any]:
    """Add a function to the table, as the row of that name."""

    def add(function: Callable[[Column], Found]) -> Callable[[Column], Found]:
        ROWS.append(Row(kind, name, function, **marks))
        return function

    return add


class Tagger(torch.nn.Module):
    """A model that an LSTM is a part of."""

    def __init__(self, rnn: torch.nn.Module) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0] * 2


def numbers(*shape: int, seed: int = 1) -> Tensor:
    """The same float32 numbers every time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.5


def like(module: torch.nn.Module, tensor: Tensor) -> Tensor:
    """A leaf with these numbers, in the module's dtype."""
    return tensor.detach().clone().to(next(module.parameters()).dtype).requires_grad_()


def weighed(tensors: Any) -> Tensor:
    """A loss to which every element counts differently, so that no error cancels."""
    return sum((t * torch.linspace(-1, 1.5, t.numel()).view_as(t).to(t)).sum() for t in tensors)


def curved(tensors: Any) -> Tensor:
    """The same, whose gradient has a gradient."""
    tensors = list(tensors)
    return weighed(tensors) + weighed([t * t for t in tensors])


def graded(outputs: Results, leaves: Mapping[str, Tensor]) -> Results:
    """The outputs, and the gradient of every leaf."""
    weighed(outputs.values()).backward()
    missing = [name for name, leaf in leaves.items() if leaf.grad is None]
    if missing:
        raise ValueError(f"no gradient of {missing[0]}")
    return outputs | {f"d_{name}": leaf.grad for name, leaf in leaves.items()}


def everything(
    module: torch.nn.Module, call: Callable[..., Any] | None = None, x: Tensor | None = None
) -> Results:
    """Outputs, last states and all gradients of one call, states given."""
    module.zero_grad()
    rnn = getattr(module, "module", module)
    layers = rnn.num_layers * (2 if rnn.bidirectional else 1)
    x = like(module, numbers(T, B, I) if x is None else x)
    states = [B] if x.dim() == 3 else []
    h0 = like(module, numbers(layers, *states, rnn.proj_size or H, seed=2))
    c0 = like(module, numbers(layers, *states, H, seed=3))
    y, (h_n, c_n) = (module if call is None else call)(x, (h0, c0))
    return graded(
        {"y": y, "h_n": h_n, "c_n": c_n},
        {"x": x, "h0": h0, "c0": c0, **dict(rnn.named_parameters())},
    )


def of_model(model: torch.nn.Module, x: Tensor | None = None, call: Any = None) -> Results:
    """What a model makes of x, the gradient of x and those of its parameters."""
    model.zero_grad()
    x = like(model, numbers(T, B, I) if x is None else x)
    parameters = {name.rpartition(".")[2]: p for name, p in model.named_parameters()}
    return graded({"y": (model if call is None else call)(x)}, {"x": x, **parameters})
