"""Layers of a fused backend in a regime of choice, whatever their size, and how right they are."""

import importlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import torch
from closeness import relative_errors
from torch import Tensor

import lstm_kernels as lk
from lstm_kernels import registry, tuning
from lstm_kernels.stack import Weights

# By backend, the one with the narrowest claim first.
REGIMES = {"triton": ("own", "held", "streamed"), "numba_cuda": ("held", "streamed")}


def module_of(backend: str, name: str) -> Any:
    """One of the modules of a backend that is a folder."""
    return importlib.import_module(f"{registry.get(backend).module}.{name}")


@contextmanager
def only(backend: str, regime: str) -> Iterator[None]:
    """Have a backend's layers run in one regime, whatever their size."""
    parameters = module_of(backend, "parameters")
    regimes = REGIMES[backend]
    # A cell without a product has a regime of its own, which nothing else claims.
    narrower = regimes[: regimes.index(regime)] if regime in regimes else ()
    with ExitStack() as patches:
        for other in narrower:
            patches.enter_context(patch.object(parameters, f"_{other}", lambda *_: None))
        # Nor are parameters taken that were tuned on this machine.
        patches.enter_context(patch.object(tuning, "active", lambda *_: tuning.Active()))
        patches.callback(parameters.choose.cache_clear)
        parameters.choose.cache_clear()
        yield


@contextmanager
def simulated(
    lanes: int, parts: int, sm_count: int, registers: tuple[int, ...] = (4,)
) -> Iterator[None]:
    """Have layers of `numba_cuda` run in such blocks, on a simulated GPU of so many SMs."""
    parameters = module_of("numba_cuda", "parameters")
    choices = parameters.Choices(lanes * parts, (lanes,), registers, registers[-1], 99)
    with ExitStack() as patches:
        patches.enter_context(patch.object(parameters, "SIMULATED", choices))
        simulator = replace(parameters.SIMULATOR, sm_count=sm_count)
        patches.enter_context(patch.object(parameters, "SIMULATOR", simulator))
        patches.callback(parameters.choose.cache_clear)
        parameters.choose.cache_clear()
        yield


def regimes_of(backend: str, problem: lk.Problem, device: torch.device) -> list[str]:
    """The regime of the forward and of the backward that would run now."""
    facts = module_of(backend, "sequence").architecture_of(device)
    choose = module_of(backend, "parameters").choose
    return [choose(problem, which, facts).regime for which in ("forward", "backward")]


@dataclass(frozen=True)
class Layer:
    """One layer's arguments and its outputs' gradients, the same numbers every time."""

    problem: lk.Problem
    backend: str
    arguments: dict[str, Any]
    d_outputs: list[Tensor]

    @classmethod
    def draw(cls, problem: lk.Problem, device: torch.device, backend: str) -> "Layer":
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
        return cls(problem, backend, arguments, [numbers(*shape).detach() for shape in shapes])

    def run(self) -> dict[str, Tensor]:
        """Forward and backward: every output and every gradient, by name."""
        outputs = registry.load(self.backend).layer(**self.arguments, problem=self.problem)
        named = dict(zip(("y", "h_n", "c_n"), outputs, strict=True))
        named = {name: output for name, output in named.items() if output is not None}
        leaves = {name: self.arguments[name] for name in ("x", "h0", "c0")}
        for direction, weights in enumerate(self.arguments["weights"]):
            leaves |= {f"{name}.{direction}": w for name, w in weights._asdict().items()}
        leaves = {name: leaf for name, leaf in leaves.items() if leaf is not None}
        gradients = torch.autograd.grad(
            list(named.values()), list(leaves.values()), self.d_outputs, allow_unused=True
        )
        for name, gradient in zip(leaves, gradients, strict=True):
            if gradient is not None:
                named[f"d_{name}"] = gradient
        return {name: tensor.detach() for name, tensor in named.items()}


def draw(problem: lk.Problem, *, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Arguments of `layer`, the problem's own numbers whatever the dtype; gates not saturated.

    States that are positive begin above 0.
    """
    generator = torch.Generator().manual_seed(0)
    own = getattr(torch, problem.dtype)

    def numbers(*shape: int, scale: float = 1.0) -> Tensor:
        drawn = torch.randn(shape, generator=generator) * scale
        return drawn.to(own).to(device, dtype).requires_grad_()

    T, B, H, D = problem.seq_len, problem.batch, problem.hidden_size, problem.directions
    rows, rows_h, scale = problem.gates * H, problem.h_gates * H, 0.6 * H**-0.5
    units = len(problem.definition.per_unit) * H
    weights = tuple(
        Weights(
            numbers(rows, problem.input_size, scale=0.4),
            numbers(rows_h, problem.met_size, scale=scale),
            numbers(rows, scale=0.3) if problem.bias else None,
            numbers(rows_h, scale=0.3) if problem.bias else None,
            per_unit=numbers(units, scale=0.3) if units else None,
        )
        for _ in range(D)
    )
    drawn = {
        "x": numbers(T, B, problem.input_size),
        "h0": numbers(D, B, H, scale=0.5),
        "c0": numbers(D, B, problem.cell_state_size, scale=0.5) if problem.has_cell_state else None,
        "weights": weights,
    }
    with torch.no_grad():
        for columns in problem.definition.positive_columns(H):
            drawn["c0"][..., columns] = drawn["c0"][..., columns].abs() + 0.5
    return drawn


def lengths_of(problem: lk.Problem) -> Tensor | None:
    """The problem's lengths, as `layer` takes them."""
    return None if problem.lengths == "full" else torch.tensor(problem.sequence_lengths())


def results(
    backend: Any,
    problem: lk.Problem,
    *,
    dtype: torch.dtype,
    device: torch.device,
    **options: Any,
) -> dict[str, Tensor]:
    """Outputs, last states and every gradient, by name, on the CPU."""
    arguments = draw(problem, dtype=dtype, device=device)
    lengths = lengths_of(problem)
    outputs = backend.layer(**arguments, problem=problem, lengths=lengths, **options)
    named = dict(zip(("y", "h_n", "c_n"), outputs, strict=True))
    named = {name: tensor for name, tensor in named.items() if tensor is not None}
    generator = torch.Generator().manual_seed(1)
    loss = sum(
        (out.cpu().double() * torch.randn(out.shape, generator=generator)).sum()
        for out in named.values()
    )
    loss.backward()
    leaves = {name: arguments[name] for name in ("x", "h0", "c0")}
    for direction, weights in enumerate(arguments["weights"]):
        leaves |= {f"{name}.{direction}": w for name, w in weights._asdict().items()}
    for name, leaf in leaves.items():
        if leaf is not None and leaf.numel():
            # Where no sequence has a step, no weight takes part.
            named[f"d_{name}"] = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
    return {name: tensor.detach().cpu() for name, tensor in named.items()}


def errors(
    backend: Any, problem: lk.Problem, device: torch.device, **options: Any
) -> dict[str, float]:
    """Relative L2 errors against float64, by tensor."""
    dtype, cpu = getattr(torch, problem.dtype), torch.device("cpu")
    got = results(backend, problem, dtype=dtype, device=device, **options)
    want = results(registry.load("reference"), problem, dtype=torch.float64, device=cpu)
    return relative_errors(got, want)
