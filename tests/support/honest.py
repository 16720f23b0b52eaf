"""The backend that every cheat changes one thing of."""

import torch

from lstm_kernels import registry


class Honest:
    """The naive backend; every cheat changes one thing of it."""

    def unsupported(self, problem, device):
        return None

    def layer(self, x, h0, c0, weights, *, problem, lengths=None):
        naive = registry.load("naive")
        return naive.layer(x, h0, c0, weights, problem=problem, lengths=lengths)


def zeros(made):
    """Outputs as they are, but for what is in them."""
    return tuple(torch.zeros_like(out) + 0 * out for out in made)
