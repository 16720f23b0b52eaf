"""Memory filled with garbage, to detect a backend that reads what nobody wrote."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_M_PERTURB = -6  # glibc's malloc.h
# malloc then fills new memory with the complement, 0x7f: NaN in float16, about 1e38 or more in
# the other formats.
_PERTURB_BYTE = 0x80
# From glibc 2.41 on, aligned blocks up to that size are handed out from a cache of the thread's,
# as they were freed: a few of each size, in steps of an alignment.
_CACHED_BYTES = 1040
_ALIGNMENT_BYTES = 16
_CACHED_BLOCKS = 16


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
        _poison_thread_cache()
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


def _poison_thread_cache() -> None:
    """Leave garbage in the small blocks that this thread gets next, except 16 bytes of each.

    Those hold what the allocator itself keeps in a block that is free.
    """
    for size in range(_ALIGNMENT_BYTES, _CACHED_BYTES + 1, _ALIGNMENT_BYTES):
        blocks = [
            torch.full((size,), 0xFF ^ _PERTURB_BYTE, dtype=torch.uint8)
            for _ in range(_CACHED_BLOCKS)
        ]
        del blocks


def _poison_cuda_cache(device: str) -> None:
    """Leave NaN in the blocks that the caching allocator hands out next."""
    torch.cuda.empty_cache()  # memory that earlier passes freed holds right answers
    free, _ = torch.cuda.mem_get_info(device)
    bytes_each = min(free // 4, 1 << 30)
    block = torch.full((bytes_each // 4,), float("nan"), device=device)
    small = [torch.full((1 << 16,), float("nan"), device=device) for _ in range(64)]
    torch.cuda.synchronize()
    del block, small
