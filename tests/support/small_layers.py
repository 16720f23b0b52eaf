"""Layers of the Triton backend in a regime of choice, whatever their size, for what needs a GPU."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

import lstm_kernels as lk
from lstm_kernels import tuning
from lstm_kernels.backends.fused_triton import parameters, sequence
from lstm_kernels.stack import Weights

REGIMES = ("own", "held", "streamed")


@contextmanager
def only(regime: str) -> Iterator[None]:
    """Have layers run in one regime, whatever their size."""
    with ExitStack() as patches:
        for other in REGIMES[: REGIMES.index(regime)]:
            patches.enter_context(patch.object(parameters, f"_{other}", lambda *_: None))
        # Nor are parameters taken that were tuned on this machine.
        patches.enter_context(patch.object(tuning, "active", lambda *_: tuning.Active()))
        patches.callback(parameters.choose.cache_clear)
        parameters.choose.cache_clear()
        yield


def regimes_of(problem: lk.Problem, device: torch.device) -> list[str]:
    """The regime of the forward and of the backward that would run now."""
    facts = sequence.architecture_of(device)
    return [parameters.choose(problem, which, facts).regime for which in ("forward", "backward")]


@dataclass(frozen=True)
class Layer:
    """One layer's arguments and its outputs' gradients, the same numbers every time."""

    problem: lk.Problem
    arguments: dict[str, Any]
    d_outputs: list[Tensor]

    @classmethod
    def draw(cls, problem: lk.Problem, device: torch.device) -> "Layer":
        """Gates not saturated; lengths, where ragged, lie on the device."""
        generator = torch.Generator().manual_seed(0)
        dtype = getattr(torch, problem.dtype)

        def numbers(*shape: int, scale: float = 0.5) -> Tensor:
            drawn = torch.randn(shape, generator=generator) * scale
            return drawn.to(device, dtype).requires_grad_()

        T, B, H = problem.seq_len, problem.batch, problem.hidden_size
        D, rows = problem.directions, problem.gates * problem.hidden_size
        weights = tuple(
            Weights(
                numbers(rows, problem.input_size, scale=0.3),
                numbers(rows, H, scale=0.6 * H**-0.5),
                numbers(rows),
                numbers(rows),
            )
            for _ in range(D)
        )
        c0 = numbers(D, B, H) if problem.has_cell_state else None
        lengths = None
        if problem.lengths != "full":
            lengths = torch.tensor(problem.sequence_lengths(), device=device)
        arguments = {
            "x": numbers(T, B, problem.input_size),
            "h0": numbers(D, B, H),
            "c0": c0,
            "weights": weights,
            "lengths": lengths,
        }
        shapes = [(T, B, D * H), (D, B, H)] + [(D, B, H)] * problem.has_cell_state
        return cls(problem, arguments, [numbers(*shape).detach() for shape in shapes])

    def run(self, backend: Any) -> dict[str, Tensor]:
        """Forward and backward: every output and every gradient, by name."""
        outputs = backend.layer(**self.arguments, problem=self.problem)
        found = dict(zip(("y", "h_n", "c_n"), outputs, strict=True))
        found = {name: output for name, output in found.items() if output is not None}
        leaves = {name: self.arguments[name] for name in ("x", "h0", "c0")}
        for direction, weights in enumerate(self.arguments["weights"]):
            leaves |= {f"{name}.{direction}": w for name, w in weights._asdict().items()}
        leaves = {name: leaf for name, leaf in leaves.items() if leaf is not None}
        gradients = torch.autograd.grad(
            list(found.values()), list(leaves.values()), self.d_outputs, allow_unused=True
        )
        for name, gradient in zip(leaves, gradients, strict=True):
            if gradient is not None:
                found[f"d_{name}"] = gradient
        return {name: tensor.detach() for name, tensor in found.items()}
