"""Tensors handed from one process to another, in a file in memory.

A worker writes its results; the harness seals them (`race.sealed`), and the oracle reads them.
"""

import mmap
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lstm_harness.model.protocol import Handed
from lstm_harness.worker.inputs import Inputs
from lstm_harness.worker.passes import PARAMETER_NAMES, Malformed

_LIKE = {"y": "d_y", "h_n": "d_h_n", "c_n": "d_c_n", "d_x": "x", "d_h0": "h0", "d_c0": "c0"}


class HandedOut:
    """The memory that this worker handed over and has not freed yet."""

    def __init__(self) -> None:
        self._descriptor: int | None = None

    def hand(self, executions: Sequence[Mapping[str, Sequence[Tensor]]]) -> Handed:
        """Copy the results of executions, in order; free what was handed over before."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = os.memfd_create("handed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        tensors = [t for made in executions for group in made.values() for t in group]
        os.truncate(self._descriptor, sum(map(_bytes, tensors)))
        at = 0
        for tensor in tensors:
            content = _plain(tensor).view(torch.uint8).numpy().data
            while content:
                written = os.pwrite(self._descriptor, content, at)
                content, at = content[written:], at + written
        counts = tuple({name: len(group) for name, group in made.items()} for made in executions)
        return Handed(self._descriptor, counts)


def taken(place: str, handed: Handed, like: Inputs, execution: int) -> dict[str, list[Tensor]]:
    """Read the results of one execution.

    Args:
        place: the path of the sealed file.
        like: inputs of the problem, with the shapes and dtypes of outputs and gradients.
    Raises:
        Malformed: it is not the result of such an execution.
    """
    all_like = [_like(counts, like) for counts in handed.counts]
    sizes = [sum(_bytes(t) for group in each.values() for t in group) for each in all_like]
    with Path(place).open("rb") as file:
        found = os.fstat(file.fileno()).st_size
        if found != sum(sizes):
            raise Malformed(f"{found} bytes were handed over; expected {sum(sizes)}")
        if not found:
            return {name: [] for name in all_like[execution]}
        # Read in place. The tensors keep it; what is written to them changes no file.
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    at = sum(sizes[:execution])
    made: dict[str, list[Tensor]] = {}
    for name, group in all_like[execution].items():
        made[name] = []
        for each in group:
            made[name].append(_tensor(memory, at, each))
            at += _bytes(each)
    return made


def _like(counts: Mapping[str, int], like: Inputs) -> dict[str, list[Tensor]]:
    """Tensors with the shapes and dtypes of an execution's results, by their names."""
    found = {}
    for name, count in counts.items():
        expected = _expected(name, like)
        if not 0 <= count <= len(expected):
            raise Malformed(f"{count} tensors of {name}; expected {len(expected)}")
        found[name] = expected[:count]
    return found


def _expected(name: str, like: Inputs) -> list[Tensor]:
    if name in _LIKE:
        tensor = getattr(like, _LIKE[name])
        return [] if tensor is None else [tensor]
    if name.removeprefix("d_") not in PARAMETER_NAMES:
        raise Malformed(f"there is no tensor {name!r}")
    group = [getattr(weights, name.removeprefix("d_")) for weights in like.weights]
    return [tensor for tensor in group if tensor is not None]


def _tensor(memory: mmap.mmap, at: int, like: Tensor) -> Tensor:
    if not like.numel():
        return torch.empty_like(like)
    flat = torch.frombuffer(memory, dtype=like.dtype, count=like.numel(), offset=at)
    return flat.reshape(like.shape)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().cpu().reshape(-1)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
