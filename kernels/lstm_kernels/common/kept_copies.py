"""What a backend makes of weights and keeps: copies in another layout, a session that holds them.

Made once, and again where the weights changed. PyTorch counts every change in place that it makes
(`Tensor._version`), an optimiser's step or `load_state_dict`, and looking at that count costs a
microsecond. What is written past it, through `Tensor.data` or a NumPy view, is not counted. So
whoever may be given such weights asks for a look at their content too, which costs about what two
steps of the layer do: the modules and functions of this package do (`lstm_kernels.stack`).
"""

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

# What one backend keeps at most: of a network of eight layers, each for two shapes of batch.
MOST_KEPT = 16
# The numbers that content is looked at with: any would do that no weights were made with.
_SEED = 20261130


@dataclass
class _Entry(Generic[Made]):
    made: Made
    # Kept alive as an address alone, so that nothing else can be taken for them; their memory is
    # their owner's.
    storages: tuple[StorageWeakRef, ...]
    versions: tuple[int, ...] | None
    content: tuple[Tensor, ...]


class KeptCopies(Generic[Made]):
    """What one backend has made of weights, the last used of them; safe to use from any thread."""

    def __init__(self, most: int = MOST_KEPT) -> None:
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
        """What was made of these weights, or what `make` makes now.

        Args:
            settings: what else `make` looks at.
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
                and not (look and _is_another(entry.content, _content(tensors)))
            ):
                self._entries.move_to_end(key)
                return entry.made
            # What is out of date goes first: two of a kind need not be held at once.
            self._entries.pop(key, None)
            for old in [k for k, each in self._entries.items() if _is_gone(each)]:
                del self._entries[old]
            while len(self._entries) >= self._most:
                self._entries.popitem(last=False)
            storages = tuple(StorageWeakRef(t.untyped_storage()) for t in tensors)
            entry = _Entry(make(), storages, versions, _content(tensors))
            self._entries[key] = entry
            return entry.made


def _place(tensor: Tensor) -> Hashable:
    """Which memory a tensor is, and how it lies there."""
    storage = tensor.untyped_storage()._cdata
    return storage, tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def _versions(tensors: list[Tensor]) -> tuple[int, ...] | None:
    """How often each was changed; None where one is not counted, made in inference mode."""
    if any(tensor.is_inference() for tensor in tensors):
        return None
    return tuple(tensor._version for tensor in tensors)


@torch.no_grad()
def _content(tensors: list[Tensor]) -> tuple[Tensor, ...]:
    """What each tensor's rows make of one vector of random numbers, in float32 at least.

    One product tells a change of any element that is no smaller than the rounding of its row's sum.
    """
    found = []
    for tensor in tensors:
        rows = tensor.detach().unsqueeze(0) if tensor.dim() == 1 else tensor.detach()
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        found.append(torch.mv(rows, _numbers(rows.shape[1]).to(rows)))
    return tuple(found)


_drawn: dict[int, Tensor] = {}


def _numbers(count: int) -> Tensor:
    if count not in _drawn:
        _drawn[count] = torch.randn(count, generator=torch.Generator().manual_seed(_SEED))
    return _drawn[count]


def _is_another(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    """Whether contents differ, or may: what is not finite hides the rest of its row."""
    is_finite = all(bool(tensor.isfinite().all()) for tensor in other)
    return not (is_finite and all(map(torch.equal, one, other)))


def _is_gone(entry: _Entry[Any]) -> bool:
    """Whether memory that an entry was made of has been given back."""
    return any(each.expired() for each in entry.storages)
