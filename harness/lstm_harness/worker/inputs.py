"""Seeded inputs: the same seed and problem give the same numbers, on any machine.

Every set of one problem shares its weights and differs in x, states and output gradients. All
numbers are drawn in float32 on the CPU and then rounded to the problem's dtype.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lstm_harness.worker.older_kernels import cell_sizes, met_size
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Weights

# States are normal numbers of this size.
STATE_SCALE = 0.5

TORCH_DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True)
class Inputs:
    """The inputs of one execution.

    x [T, B, I]; h0 [L*D, B, S]; c0 [L*D, B, K*H] or None; weights L*D of them; d_y [T, B, D*S],
    d_h_n and d_c_n like the states: the gradients that backward starts from. lengths [B] or None.
    `positive` are the columns of c0 that are above 0, and away from it.
    """

    x: Tensor
    h0: Tensor
    c0: Tensor | None
    weights: tuple[Weights, ...]
    d_y: Tensor
    d_h_n: Tensor
    d_c_n: Tensor | None
    lengths: Tensor | None
    positive: tuple[slice, ...] = ()

    def per_set(self) -> tuple[Tensor, ...]:
        """The tensors in which two sets of one problem differ."""
        tensors = (self.x, self.h0, self.c0, self.d_y, self.d_h_n, self.d_c_n)
        return tuple(tensor for tensor in tensors if tensor is not None)

    def parameters(self) -> tuple[Tensor, ...]:
        """Every weight and bias, layer by layer, direction by direction."""
        return tuple(t for weights in self.weights for t in weights if t is not None)

    def d_outputs(self) -> tuple[Tensor, ...]:
        """The gradients of y, h_n and, where there is one, c_n."""
        return (self.d_y, self.d_h_n) + (() if self.d_c_n is None else (self.d_c_n,))


def make_inputs(
    problem: Problem,
    seed: int,
    index: int,
    device: str,
    weights: tuple[Weights, ...] | None = None,
) -> Inputs:
    """Draw set number `index` of a problem, over weights drawn earlier where they are given.

    Weights and biases are uniform in ±1/sqrt(H), as PyTorch initialises them, which keeps the
    gates between their extremes; everything else is standard normal, states at half size.
    """
    draw = _Draw(problem, device)
    weights = weights or draw.weights(_generator(problem, seed, "weights"))
    generator = _generator(problem, seed, f"set {index}")
    T, B, L_D = problem.seq_len, problem.batch, problem.num_layers * problem.directions
    S, sizes = problem.state_size, cell_sizes(problem)
    lengths = None
    if problem.lengths != "full":
        lengths = torch.tensor(problem.sequence_lengths(), dtype=torch.int64)
    has_c = problem.has_cell_state
    made = Inputs(
        x=draw.normal(generator, T, B, problem.input_size),
        h0=draw.normal(generator, L_D, B, S, scale=STATE_SCALE),
        c0=draw.normal(generator, L_D, B, sizes.c, scale=STATE_SCALE) if has_c else None,
        weights=weights,
        d_y=draw.normal(generator, T, B, problem.directions * S),
        d_h_n=draw.normal(generator, L_D, B, S),
        d_c_n=draw.normal(generator, L_D, B, sizes.c) if has_c else None,
        lengths=lengths,
        positive=sizes.positive,
    )
    keep_positive(made)
    return made


def keep_positive(inputs: Inputs) -> None:
    """Make the states positive that have to be, in place."""
    for columns in inputs.positive:
        assert inputs.c0 is not None
        inputs.c0[..., columns].abs_().add_(STATE_SCALE)


def on_batched(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    """The same inputs with every tensor but the weights changed."""

    def changed(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else change(tensor)

    return replace(
        inputs,
        x=change(inputs.x),
        h0=change(inputs.h0),
        c0=changed(inputs.c0),
        d_y=change(inputs.d_y),
        d_h_n=change(inputs.d_h_n),
        d_c_n=changed(inputs.d_c_n),
    )


def only_rows(inputs: Inputs, rows: tuple[int, ...]) -> Inputs:
    """The same inputs for only some rows of the batch."""
    lengths = None if inputs.lengths is None else inputs.lengths[list(rows)]
    picked = on_batched(inputs, lambda tensor: tensor[:, list(rows)].contiguous())
    return replace(picked, lengths=lengths)


def silence_other_rows(inputs: Inputs, rows: tuple[int, ...]) -> Inputs:
    """The same inputs with zero output gradients outside `rows`.

    Batch rows are independent, so every gradient, also of the weights, then depends only on
    `rows`.
    """

    def keep(tensor: Tensor) -> Tensor:
        kept = torch.zeros_like(tensor)
        kept[:, list(rows)] = tensor[:, list(rows)]
        return kept

    d_c_n = None if inputs.d_c_n is None else keep(inputs.d_c_n)
    return replace(inputs, d_y=keep(inputs.d_y), d_h_n=keep(inputs.d_h_n), d_c_n=d_c_n)


def cast(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    """The same numbers in another format."""
    weights = tuple(
        Weights._make(t if t is None else t.to(dtype) for t in one) for one in inputs.weights
    )
    return replace(on_batched(inputs, lambda tensor: tensor.to(dtype)), weights=weights)


def _generator(problem: Problem, seed: int, what: str) -> torch.Generator:
    text = f"{seed} {what} {sorted(problem.to_dict().items())}"
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


class _Draw:
    def __init__(self, problem: Problem, device: str) -> None:
        self._problem = problem
        self._device = torch.device(device)
        self._dtype = TORCH_DTYPES[problem.dtype]

    def normal(self, generator: torch.Generator, *shape: int, scale: float = 1.0) -> Tensor:
        drawn = torch.randn(shape, generator=generator).mul_(scale)
        return drawn.to(self._device, self._dtype)

    def weights(self, generator: torch.Generator) -> tuple[Weights, ...]:
        layers = range(self._problem.num_layers)
        return tuple(
            self._one(generator, self._problem.layer(index))
            for index in layers
            for _ in range(self._problem.directions)
        )

    def _one(self, generator: torch.Generator, layer: Problem) -> Weights:
        H, P, sizes = layer.hidden_size, layer.proj_size, cell_sizes(layer)
        rows, rows_h = layer.gates * H, sizes.h_gates * H

        def uniform(*shape: int) -> Tensor:
            drawn = torch.rand(shape, generator=generator).mul_(2).sub_(1).mul_(H**-0.5)
            return drawn.to(self._device, self._dtype)

        weights = Weights(
            w_ih=uniform(rows, layer.input_size),
            w_hh=uniform(rows_h, met_size(layer)),
            b_ih=uniform(rows) if layer.bias else None,
            b_hh=uniform(rows_h) if layer.bias else None,
            w_hr=uniform(P, H) if P else None,
        )
        if sizes.units:
            weights = weights._replace(per_unit=uniform(sizes.units * H))
        return weights
