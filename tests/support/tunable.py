"""A plugin whose backend has launch parameters: how much useless work it does beside its layer.

The only sense of them is that some choices are slower than others, and some do worse.
"""

import os
from functools import partial

import torch

from lstm_kernels import Backend, registry, tuning

NAME = "tunable"
BACKENDS = [Backend(NAME, __name__, "naive, and beside it some work for nothing")]

# What it takes by itself, then better ones, worse ones, and those that must not be kept.
CHOICES = (
    {"waste": 24, "fault": "none"},
    {"waste": 48, "fault": "none"},
    {"waste": 0, "fault": "wrong"},
    {"waste": 0, "fault": "wrong_gradient"},
    {"waste": 6, "fault": "none"},
    {"waste": 0, "fault": "exits"},
    {"waste": 0, "fault": "none"},
    {"waste": 0, "fault": "raises"},
)

using = partial(tuning.trial, NAME)


def unsupported(problem, device):
    return "only one layer" if problem.num_layers > 1 else None


def tuning_key(problem, pass_name, device):
    return tuning.key_of(problem, pass_name)


def candidates(problem, pass_name, device):
    return [dict(choice) for choice in CHOICES]


def kernels_used(problem):
    return [f"forward: {_choice(problem)}"]


def layer(x, h0, c0, weights, *, problem, lengths=None):
    choice = _choice(problem)
    if choice["fault"] == "exits":
        os._exit(3)
    if choice["fault"] == "raises":
        raise RuntimeError("this choice is not for me")
    for _ in range(choice["waste"]):
        torch.mm(torch.ones(128, 128), torch.ones(128, 128))
    naive = registry.load("naive")
    y, h_n, c_n = naive.layer(x, h0, c0, weights, problem=problem, lengths=lengths)
    if choice["fault"] == "wrong":
        y = 1.5 * y
    if choice["fault"] == "wrong_gradient" and y.requires_grad:
        y.register_hook(lambda gradient: 2 * gradient)
    return y, h_n, c_n


def _choice(problem):
    key = tuning.key_of(problem, "forward")
    return tuning.chosen(NAME, key, "cpu") or CHOICES[0]
