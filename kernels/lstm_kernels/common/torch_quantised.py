"""PyTorch's LSTM and GRU with int8 weights, as `torch.ao.quantization.quantize_dynamic` makes them.

A tensor of weights has one scale, and activations have 7 bits, one scale a step and direction. The
function itself is deprecated; the modules that it makes are not, and are made here without it.
"""

import warnings

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lstm_kernels.common.kept_copies import KeptCopies
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Unsupported, Weights

_MODULES = {"lstm": "LSTM", "gru": "GRU"}
# Weights' names in torch.nn's modules, in the order of `Weights`.
_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

_kept: KeptCopies[torch.nn.Module] = KeptCopies()


def quantised_limit(problem: Problem, device: str) -> str | None:
    """Why PyTorch does not compute this with int8 weights, or None."""
    what = "PyTorch's dynamically quantised layers"
    if torch.device(device).type != "cpu":
        return f"{what} need a CPU, and this is {device!r}"
    if torch.backends.quantized.engine == "none":
        return f"{what} need an engine, and this build of PyTorch has none"
    if problem.cell not in _MODULES:
        return f"{what} are {' and '.join(_MODULES)}, and this is {problem.cell}"
    if problem.proj_size:
        return f"{what} have no projection, and P={problem.proj_size}"
    if not problem.bias:
        return f"{what} have biases, and this problem has none"
    return None


def run_quantised(
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    *,
    problem: Problem,
    lengths: Tensor | None,
    look: bool,
) -> Outputs:
    """A whole network; weights are quantised once, and again if they changed.

    Raises:
        Unsupported: a sequence has no steps; torch cannot pack it.
    """
    kind = problem.cell, problem.num_layers, problem.bidirectional
    module = _kept.get(weights, kind, lambda: _module(problem, weights), look=look)
    states = h0 if c0 is None else (h0, c0)
    if lengths is None:
        y, last = module(x, states)
    else:
        if int(lengths.min()) == 0:
            first = int(lengths.argmin())
            raise Unsupported(f"sequence {first} has 0 steps, torch.nn packs 1 or more")
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        packed_y, last = module(packed, states)
        y, _ = pad_packed_sequence(packed_y, total_length=len(x))
    return (y, last, None) if c0 is None else (y, *last)


def _module(problem: Problem, weights: tuple[Weights, ...]) -> torch.nn.Module:
    """The module that `quantize_dynamic` makes of torch.nn's with these weights."""
    from torch.ao.nn.quantized import dynamic
    from torch.ao.quantization.qconfig import default_dynamic_qconfig

    sizes = problem.input_size, problem.hidden_size, problem.num_layers
    name, both = _MODULES[problem.cell], problem.bidirectional
    module = getattr(torch.nn, name)(*sizes, bidirectional=both, device="meta")
    suffixes = [
        f"_l{layer}{end}"
        for layer in range(problem.num_layers)
        for end in ("", "_reverse")[: problem.directions]
    ]
    for suffix, one in zip(suffixes, weights, strict=True):
        for name_of, tensor in zip(_NAMES, one, strict=False):
            assert tensor is not None
            setattr(module, name_of + suffix, torch.nn.Parameter(tensor.detach().clone(), False))
    module.qconfig = default_dynamic_qconfig
    # It draws weights of its own before it takes these, and warns that its dtype is deprecated.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.quantize_per_tensor")
        made: torch.nn.Module = getattr(dynamic, name).from_float(module)
    return made
