"""What holds of every workload: its test asks it."""

import importlib.util
import sys
from functools import cache, partial

import pytest
import torch

from lstm_harness.worker.workloads.layers import Layers
from lstm_harness.worker.workloads.task import Choices, MissingData, make

# What float32 may change where the same numbers are summed in another place.
NOISE = {"rtol": 0, "atol": 1e-6}
# Of losses after steps of Adam.
REACH = 1e-5


def made(name, cell="lstm", backend="aten", packed=True, seed=0):
    """A workload's task, as training makes it, yet in evaluation mode."""
    torch.manual_seed(seed)
    task = make(name, Layers(cell, backend, packed=packed), Choices(), seed)
    task.model.eval()
    return task


def logits(task, *inputs):
    with torch.no_grad():
        return task.model(*inputs)


def opening(name, backend):
    """The losses of the first three steps of training, which make a loss smaller."""
    task = made(name, backend=backend)
    first = task.batch(0)
    before = float(task.loss(first).mean.detach())
    optimizer = torch.optim.Adam(task.model.parameters(), lr=task.learning_rate)
    task.model.train()
    losses = []
    for step in range(3):
        loss = task.loss(task.batch(step)).mean
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    task.model.eval()
    assert float(task.loss(first).mean.detach()) < before
    assert task.remembered == {}
    return losses


expected_opening = cache(partial(opening, backend="naive"))


def check_opening(name, backend):
    """It begins as `naive` does."""
    assert opening(name, backend) == pytest.approx(expected_opening(name), rel=REACH)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def check_batches(task, again, other):
    """A batch follows from its number and the seed: `again` has the same one, `other` another."""
    assert same(task.batch(3), task.batch(3))
    assert same(task.batch(3), again.batch(3))
    assert not same(task.batch(3)[:1], task.batch(4)[:1])
    assert not same(task.batch(3)[:1], other.batch(3)[:1])


def check_missing(monkeypatch, name, package, message):
    """Without a package, neither found nor imported, there is one line that says what to type."""
    found = importlib.util.find_spec

    def hidden(asked, *of):
        return None if asked == package else found(asked, *of)

    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingData) as refused:
        made(name)
    assert str(refused.value) == message
