"""What a backend makes from weights and keeps: copies in another layout, or a session with them.

Made once, and again if the weights changed. PyTorch counts every in-place change that it makes
(`Tensor._version`), an optimiser's step or `load_state_dict`, and looking at that count costs a
microsecond. Writes through `Tensor.data` or a NumPy view are not counted. So
a caller that may get such weights also asks to compare their content, bit by bit with a copy:
the modules and functions of this package do (`lstm_kernels.stack`).
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from lstm_kernels.stack import Weights

Made = TypeVar("Made")

# The most that one backend keeps: a network of eight layers, each for two shapes of batch.
MOST_KEPT = 16
# Integers as wide as an element, by its bytes: their equality also works for NaN.
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass
class _Entry(Generic[Made]):
    made: Made
    # Only their address is kept alive, so that no other tensor can be mistaken for them; their
    # memory is their owner's.
    storages: tuple[StorageWeakRef, ...]
    versions: tuple[int, ...] | None
    # A copy of each, or None if nobody asked to compare.
    content: tuple[Tensor, ...] | None


class KeptCopies(Generic[Made]):
    """What one backend has made from weights, the last used ones; safe to use from any thread.

    `process` is the one that made the first, None before.
    """

    def __init__(self, most: int = MOST_KEPT) -> None:
        self.process: int | None = None
        self._most = most
        self._entries: OrderedDict[Hashable, _Entry[Made]] = OrderedDict()
        self._lock = threading.Lock()

    def get(
        self,
        weights: tuple[Weights, ...],
        settings: Hashable,
        make: Callable[[], Made],
        *,
        look: bool,
    ) -> Made:
        """What was made from these weights, or what `make` makes now.

        Args:
            settings: what else `make` depends on.
            look: whether to compare the weights' content too, and not their counts alone.
        """
        tensors = [tensor for one in weights for tensor in one if tensor is not None]
        key = settings, tuple(map(_place, tensors))
        versions = _versions(tensors)
        with self._lock:
            entry = self._entries.get(key)
            if (
                entry is not None
                and versions is not None
                and entry.versions == versions
                and not (look and _is_another(entry.content, tensors))
            ):
                self._entries.move_to_end(key)
                return entry.made
            # Outdated entries go first: two of a kind need not be held together.
            self._entries.pop(key, None)
            for old in [k for k, each in self._entries.items() if _is_gone(each)]:
                del self._entries[old]
            while len(self._entries) >= self._most:
                self._entries.popitem(last=False)
            storages = tuple(StorageWeakRef(t.untyped_storage()) for t in tensors)
            content = tuple(tensor.detach().clone() for tensor in tensors) if look else None
            self.process = self.process or os.getpid()
            entry = _Entry(make(), storages, versions, content)
            self._entries[key] = entry
            return entry.made


def _place(tensor: Tensor) -> Hashable:
    """A tensor's memory, and its layout there."""
    storage = tensor.untyped_storage()._cdata
    return storage, tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def _versions(tensors: list[Tensor]) -> tuple[int, ...] | None:
    """How often each was changed; None if one is not counted, made in inference mode."""
    if any(tensor.is_inference() for tensor in tensors):
        return None
    return tuple(tensor._version for tensor in tensors)


def _is_another(kept: tuple[Tensor, ...] | None, tensors: list[Tensor]) -> bool:
    """Whether any bit of these differs, or may differ, from their copies."""
    return kept is None or not all(
        torch.equal(one.view(_BITS[one.element_size()]), other.view(_BITS[other.element_size()]))
        for one, other in zip(kept, (tensor.detach() for tensor in tensors), strict=True)
    )


def _is_gone(entry: _Entry[Any]) -> bool:
    """Whether memory that an entry was made from has been freed."""
    return any(each.expired() for each in entry.storages)
