"""Scratch memory of numba_cpu that is kept from call to call, and huge pages."""

from pathlib import Path

import pytest
import torch

import lstm_kernels as lk
from lstm_kernels.backends.numba_cpu import memory

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _nothing_is_kept():
    memory.empty_cache()
    yield
    memory.empty_cache()


def test_the_next_call_gets_what_the_last_one_gave_back():
    first = memory.take(1000)
    memory.give_back(first)
    assert memory.take(800) is first
    assert memory.take(800) is not first


def test_a_larger_call_gets_more_and_the_smaller_is_freed():
    memory.give_back(memory.take(1000))
    larger = memory.take(3000)
    assert len(larger) >= 3000
    memory.give_back(larger)
    assert memory.take(1000) is larger


def test_of_calls_at_the_same_time_the_largest_is_kept():
    small, large, middle = memory.take(1000), memory.take(3000), memory.take(2000)
    for each in (small, large, middle):
        memory.give_back(each)
    assert memory.take(1) is large
    assert all(memory.take(1) is not each for each in (small, middle))


def test_no_more_than_the_most_is_kept(monkeypatch):
    monkeypatch.setattr(memory, "MOST_KEPT", 2000)
    much = memory.take(2001)
    memory.give_back(much)
    assert memory.take(1) is not much


def test_an_emptied_cache_keeps_nothing():
    one = memory.take(1000)
    memory.give_back(one)
    memory.empty_cache()
    assert memory.take(1000) is not one


def test_a_layer_in_kept_memory_gives_the_same_bits():
    """What another layer left there reaches no result."""
    torch.manual_seed(0)
    layers = [lk.LSTM(48, hidden, backend="numba_cpu") for hidden in (32, 80)]
    x = torch.randn(6, 5, 48)

    def results():
        for layer in layers:
            layer.zero_grad()
            y, _ = layer(x)
            y.sum().backward()
            yield from (y, *(parameter.grad for parameter in layer.parameters()))

    expected = list(results())
    memory.give_back(torch.full((MIB,), 0xFF, dtype=torch.uint8))
    assert all(map(torch.equal, results(), expected))


def _advised(address: int) -> bool:
    """Whether the mapping that an address lies in asks for huge pages."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        word = line.split()[0]
        if not word.endswith(":"):
            low, high = (int(end, 16) for end in word.split("-"))
            inside = low <= address < high
        elif inside and word == "VmFlags:":
            return "hg" in line.split()
    raise AssertionError(f"no mapping at {address:#x}")


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="no huge pages on this system"
)
def test_large_tensors_lie_in_huge_pages_and_small_ones_do_not():
    large = torch.empty(40 * MIB, dtype=torch.uint8)  # malloc maps it on its own
    middle = large.data_ptr() + len(large) // 2
    assert not _advised(middle)
    assert memory.in_huge_pages(large) is large
    assert _advised(middle)
    small = memory.in_huge_pages(torch.empty(MIB, dtype=torch.uint8))
    assert not _advised(small.data_ptr())
    assert memory.in_huge_pages(torch.empty(0, dtype=torch.uint8)).nbytes == 0
