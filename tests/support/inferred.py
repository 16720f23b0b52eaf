"""Results of an inference on a backend, and the right ones."""

from dataclasses import replace

import torch

from lstm_kernels import registry
from lstm_kernels.stack import Weights, run


def outputs(on, problem, given, **wishes):
    """What a backend returns, by name."""
    lengths = None
    if problem.lengths != "full":
        lengths = torch.tensor(problem.sequence_lengths())
    with torch.no_grad():
        made = run(registry.load(on), **given, problem=problem, lengths=lengths, **wishes)
    return dict(zip(("y", "h_n", "c_n"), (out for out in made if out is not None), strict=False))


def right(problem, given):
    """The same, computed in float64, by name."""

    def exact(tensor):
        return None if tensor is None else tensor.detach().double()

    weights = tuple(Weights._make(map(exact, one)) for one in given["weights"])
    named = {name: exact(given[name]) for name in ("x", "h0", "c0")}
    oracle = replace(problem, dtype="float64", precision="ieee")
    made = outputs("reference", oracle, named | {"weights": weights})
    return {name: out.float() for name, out in made.items()}
