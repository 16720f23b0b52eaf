"""What a CPU pass allocates: the peak, what stays, and that nothing else is noted."""

import pytest
import torch
from torch.autograd.profiler import profile

from lstm_harness.worker import memory

KIB = 1024


@pytest.fixture
def profiles(monkeypatch):
    """Every profile that is made."""
    made = []

    def noted(**settings):
        made.append(profile(**settings))
        return made[-1]

    monkeypatch.setattr(memory, "profile", noted)
    return made


def names(profiled):
    return {event.name() for event in profiled.kineto_results.events()}


def block(kib):
    return torch.empty(kib * KIB, dtype=torch.uint8)


def test_the_peak_and_what_is_kept_are_those_of_blocks_in_the_order_they_live():
    kept = []

    def execute():
        kept.append(block(300))
        block(500)
        block(200)

    assert memory.peak_and_kept_bytes("cpu", execute) == (800 * KIB, 300 * KIB)


def test_operations_are_not_noted(profiles):
    x = torch.ones(8, 8, requires_grad=True)
    memory.peak_and_kept_bytes("cpu", lambda: (x @ x).tanh().sum().backward())
    assert names(profiles[0]) == {"[memory]"}


def test_operations_are_noted_again_for_who_profiles_later_also_after_an_error():
    def fails():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        memory.peak_and_kept_bytes("cpu", fails)
    memory.peak_and_kept_bytes("cpu", lambda: None)
    with profile() as later:
        torch.ones(2).tanh()
    assert "aten::tanh" in names(later)
