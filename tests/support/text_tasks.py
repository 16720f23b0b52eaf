"""Tasks that tests make: from a seed, and their first losses as `lstm-bench train` has them."""

import torch

from lstm_harness.model.training import Curve, TrainingSpec
from lstm_harness.worker.training import Training
from lstm_harness.worker.workloads.layers import Layers
from lstm_harness.worker.workloads.task import Choices, make

BACKENDS = ("aten", "numba_cpu")
# Cells of each kind of states, and one whose states are four.
CELLS = ("lstm", "gru", "rnn_tanh", "lstm_peephole", "slstm")


def made(workload, *, cell="lstm", backend="naive", seed=0, choices=None, **how):
    """A task of a seed, its parameters among it."""
    torch.manual_seed(seed)
    return make(workload, Layers(cell, backend, **how), choices or Choices(), seed)


def first_losses(workload, backend, folder, steps=3, cell="lstm", text=None):
    """The losses of the first steps, trained."""
    spec = TrainingSpec(workload, (backend,), (cell,), (0,), 1.0, text=text)
    training = Training(spec, Curve(0, cell, backend), "cpu", folder / f"{backend}.pt")
    return training.go_on(steps).opening


def gradients(task):
    """Of every parameter, by name; they are cleared."""
    found = {name: each.grad.clone() for name, each in task.model.named_parameters()}
    task.model.zero_grad()
    return found
