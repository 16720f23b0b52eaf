"""Memory filled with garbage, so that a backend that reads what nobody wrote is found out."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_M_PERTURB = -6  # glibc's malloc.h
# malloc then fills new memory with the complement, 0x7f: NaN in float16, about 1e38 or more in
# the other formats.
_PERTURB_BYTE = 0x80


@contextmanager
def poisoned_memory(device: str) -> Iterator[None]:
    """Fill memory that is allocated inside with garbage, on the CPU where malloc is glibc's."""
    if device != "cpu":
        _poison_cuda_cache(device)
        yield
        return
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(_M_PERTURB, _PERTURB_BYTE)
    try:
        yield
    finally:
        libc.mallopt(_M_PERTURB, 0)


def can_poison(device: str) -> bool:
    """Whether fresh memory can be poisoned here; the manifest says so."""
    return device != "cpu" or _glibc() is not None


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None


def _poison_cuda_cache(device: str) -> None:
    """Leave NaN in the blocks that the caching allocator hands out next."""
    torch.cuda.empty_cache()  # what earlier passes freed holds right answers
    free, _ = torch.cuda.mem_get_info(device)
    bytes_each = min(free // 4, 1 << 30)
    block = torch.full((bytes_each // 4,), float("nan"), device=device)
    small = [torch.full((1 << 16,), float("nan"), device=device) for _ in range(64)]
    torch.cuda.synchronize()
    del block, small
