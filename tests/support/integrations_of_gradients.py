"""Rows of docs/compatibility.md: gradients, autocast and torch.func."""

from collections.abc import Callable
from typing import Any

import closeness
import torch
from integrations import (
    B,
    Column,
    Found,
    H,
    I,
    Results,
    T,
    curved,
    everything,
    graded,
    like,
    numbers,
    of_model,
    row,
    weighed,
)
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, stack_module_state, vmap
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

CHECK = {"eps": 1e-6, "atol": 1e-5, "rtol": 1e-3}  # gradcheck's own, for float64
# Either of two may be that far from what is exact.
AUTOCAST = 2 * closeness.LAYER["bfloat16"]


@row("gradients", "outputs and gradients of x, states and weights")
def first_gradient(column: Column) -> Found:
    return Found(everything(column.new()), everything(column.exact()))


@row("gradients", "`torch.no_grad`, `torch.inference_mode`")
def without_gradients(column: Column) -> Found:
    lstm, x, got = column.new(), numbers(T, B, I), {}
    with torch.no_grad():
        got["no_grad"] = lstm(x)[0]
    with torch.inference_mode():
        got["inference_mode"] = lstm(x)[0].clone()
    with torch.no_grad():
        y = column.exact()(x.double())[0]
    return Found(got, dict.fromkeys(got, y))


@row("gradients", "`checkpoint(use_reentrant=False)`")
def checkpointed(column: Column) -> Found:
    return _by_checkpoint(column, use_reentrant=False)


@row("gradients", "`checkpoint(use_reentrant=True)`")
def checkpointed_reentrant(column: Column) -> Found:
    return _by_checkpoint(column, use_reentrant=True)


@row("gradients", "`saved_tensors_hooks`")
def saved_tensors_hooks(column: Column) -> Found:
    lstm = column.new()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.numpy(), torch.from_numpy):
        got = everything(lstm)
    return Found(got, everything(column.exact()))


@row("gradients", "`set_detect_anomaly`")
def anomaly_mode(column: Column) -> Found:
    with torch.autograd.set_detect_anomaly(True):
        got = everything(column.new())
    return Found(got, everything(column.exact()))


@row("gradients", "double backward: `gradgradcheck` in float64")
def gradgradcheck(column: Column) -> Found:
    lstm = column.new().double()
    x = like(lstm, numbers(T, B, I))
    names, weights = zip(*lstm.named_parameters(), strict=True)

    def outputs(x: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        y, (h, c) = lstm(x)
        return y, h, c

    torch.autograd.gradgradcheck(outputs, (x, *weights), fast_mode=True, **CHECK)
    return Found(_second(lstm, x, names), _second(column.exact(), x, names))


@row("gradients", "Hessian-vector product")
def hessian_vector_product(column: Column) -> Found:
    def product(lstm: torch.nn.LSTM) -> Results:
        x, v = like(lstm, numbers(T, B, I)), like(lstm, numbers(T, B, I, seed=4)).detach()
        value, hv = torch.autograd.functional.hvp(lambda x: curved([lstm(x)[0]]), x, v)
        return {"value": value, "hv": hv}

    return Found(product(column.new()), product(column.exact()))


@row("gradients", "a step with a gradient penalty")
def gradient_penalty(column: Column) -> Found:
    def step(lstm: torch.nn.LSTM) -> Results:
        x = like(lstm, numbers(T, B, I))
        y = lstm(x)[0]
        (d_x,) = torch.autograd.grad(curved([y]), x, create_graph=True)
        (y.square().mean() + (d_x.norm() - 1).square()).backward()
        d_weights = {f"d_{name}": p.grad for name, p in lstm.named_parameters()}
        torch.optim.SGD(lstm.parameters(), lr=0.1).step()
        return d_weights | dict(lstm.state_dict())

    return Found(step(column.new()), step(column.exact()))


@row("autocast", "bfloat16, a float32 input", by_bfloat16=True)
def autocast_float32(column: Column) -> Found:
    lstm = column.new()
    return Found(of_model(lstm, call=_under_autocast(lstm)), _plain(column.exact()), AUTOCAST)


@row("autocast", "bfloat16, an input from a `Linear`")
def autocast_after_linear(column: Column) -> Found:
    def run(lstm: torch.nn.LSTM) -> Results:
        with torch.random.fork_rng():
            torch.manual_seed(6)
            linear = torch.nn.Linear(I, I).to(lstm.weight_hh_l0.dtype)
        x = like(lstm, numbers(T, B, I))
        on = lstm.weight_hh_l0.dtype is torch.float32
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            y, (h, c) = lstm(linear(x))
        outputs = {"y": y.to(x), "h": h.to(x), "c": c.to(x)}
        leaves = {"x": x, **dict(lstm.named_parameters()), "linear": linear.weight}
        return graded(outputs, leaves)

    return Found(run(column.new()), run(column.exact()), AUTOCAST)


@row("torch.func", "`functional_call`")
def called_functionally(column: Column) -> Found:
    lstm, leaves = column.new(seed=7), _weights(column.new())
    x = like(lstm, numbers(T, B, I))
    got = graded({"y": functional_call(lstm, leaves, (x,))[0]}, {"x": x, **leaves})
    return Found(got, _plain(column.exact()))


@row("torch.func", "`grad`")
def func_grad(column: Column) -> Found:
    lstm = column.new()

    def loss(weights: Results, x: Tensor) -> Tensor:
        return weighed([functional_call(lstm, weights, (x,))[0]])

    weights, x = _weights(lstm), numbers(T, B, I)
    d_weights, d_x = grad(loss, argnums=(0, 1))(weights, x)
    got = {f"d_{name}": d for name, d in d_weights.items()} | {"d_x": d_x}
    want = _plain(column.exact())
    return Found(got, {name: want[name] for name in got})


@row("torch.func", "`vmap` over inputs")
def vmap_over_inputs(column: Column) -> Found:
    lstm, exact = column.new(), column.exact()
    xs = numbers(2, T, B, I)
    got = of_model(lstm, xs, vmap(lambda x: lstm(x)[0]))
    return Found(got, of_model(exact, xs, lambda xs: torch.stack([exact(x)[0] for x in xs])))


@row("torch.func", "`vmap` over weights: an ensemble")
def vmap_over_weights(column: Column) -> Found:
    seeds = (0, 7)
    lstm = column.new()
    weights, _ = stack_module_state([column.new(seed=seed) for seed in seeds])
    x = like(lstm, numbers(T, B, I))

    def one(weights: Results) -> Tensor:
        return functional_call(lstm, weights, (x,))[0]

    got = graded({"y": vmap(one)(weights)}, {"x": x, **weights})
    exact = [column.exact(seed=seed) for seed in seeds]
    x = like(exact[0], numbers(T, B, I))
    y = torch.stack([each(x)[0] for each in exact])
    weighed([y]).backward()
    want = {"y": y, "d_x": x.grad}
    for name, _ in exact[0].named_parameters():
        want[f"d_{name}"] = torch.stack([each.get_parameter(name).grad for each in exact])
    return Found(got, want)


@row("torch.func", "`vmap` of `grad`: a gradient for every sample")
def per_sample_gradients(column: Column) -> Found:
    lstm, exact = column.new(), column.exact()
    weights, samples = _weights(lstm), numbers(B, T, 1, I)

    def loss(weights: Results, x: Tensor) -> Tensor:
        return weighed([functional_call(lstm, weights, (x,))[0]])

    got = vmap(grad(loss), (None, 0))(weights, samples)
    parts = [_plain(exact, sample) for sample in samples]
    return Found(got, {name: torch.stack([p[f"d_{name}"] for p in parts]) for name in got})


@row("torch.func", "`jvp`")
def func_jvp(column: Column) -> Found:
    lstm = column.new()
    x, tangent = numbers(T, B, I), numbers(T, B, I, seed=4)
    y, d_y = jvp(lambda x: lstm(x)[0], (x,), (tangent,))
    return Found({"y": y, "d_y": d_y}, _jvp(column.exact()))


@row("torch.func", "forward-mode AD, `forward_ad`")
def forward_mode(column: Column) -> Found:
    lstm = column.new()
    with forward_ad.dual_level():
        x = forward_ad.make_dual(numbers(T, B, I), numbers(T, B, I, seed=4))
        y, d_y = forward_ad.unpack_dual(lstm(x)[0])
    if d_y is None:
        raise ValueError("the result has no tangent")
    return Found({"y": y, "d_y": d_y}, _jvp(column.exact()))


@row("observers", "under `FlopCounterMode`")
def flop_counter(column: Column) -> Found:
    lstm = column.new()
    with FlopCounterMode(display=False):
        got = everything(lstm)
    return Found(got, everything(column.exact()))


@row("observers", "`FlopCounterMode` counts the products of a forward")
def flops_counted(column: Column) -> Found:
    lstm = column.new()
    with FlopCounterMode(display=False) as counter:
        lstm(numbers(T, B, I))
    counted, expected = counter.get_total_flops(), 2 * T * B * 4 * H * (I + H)
    if counted != expected:
        raise ValueError(f"{counted} of {expected} operations are counted")
    return Found({"flops": torch.tensor(counted)}, {"flops": torch.tensor(expected)})


@row("observers", "under `torch.profiler`")
def profiled(column: Column) -> Found:
    lstm = column.new()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        got = everything(lstm)
    if not profile.key_averages():
        raise ValueError("nothing was recorded")
    return Found(got, everything(column.exact()))


def _by_checkpoint(column: Column, **how: bool) -> Found:
    lstm = column.new()

    def flat(x: Tensor, h0: Tensor, c0: Tensor) -> tuple[Tensor, ...]:
        y, (h, c) = lstm(x, (h0, c0))
        return y, h, c

    def call(x: Tensor, states: tuple[Tensor, Tensor]) -> Any:
        y, h, c = checkpoint(flat, x, *states, **how)
        return y, (h, c)

    return Found(everything(lstm, call), everything(column.exact()))


def _second(lstm: torch.nn.LSTM, x: Tensor, names: tuple[str, ...]) -> Results:
    """The gradients of a curved function of the gradients."""
    leaves = [x, *(lstm.get_parameter(name) for name in names)]
    y, (h, c) = lstm(x)
    first = torch.autograd.grad(curved([y, h, c]), leaves, create_graph=True)
    second = torch.autograd.grad(curved(first), leaves)
    return dict(zip(("x", *names), second, strict=True))


def _plain(lstm: torch.nn.LSTM, x: Tensor | None = None) -> Results:
    return of_model(lstm, x, lambda x: lstm(x)[0])


def _under_autocast(lstm: torch.nn.LSTM) -> Callable[[Tensor], Tensor]:
    def call(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return lstm(x)[0].to(x)

    return call


def _weights(lstm: torch.nn.LSTM) -> Results:
    return {name: p.detach().clone().requires_grad_() for name, p in lstm.named_parameters()}


def _jvp(exact: torch.nn.LSTM) -> Results:
    """By two backward passes, which need no forward mode."""
    x, tangent = numbers(T, B, I).double(), numbers(T, B, I, seed=4).double()
    y, d_y = torch.autograd.functional.jvp(lambda x: exact(x)[0], x, tangent)
    return {"y": y, "d_y": d_y}
