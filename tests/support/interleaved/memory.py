"""Memory as programs share it: who sees what when, and what no order is guaranteed between.

Every tensor lies in a region of addresses of its own, far from the next one, so that an address
outside of all of them is out of bounds wherever it is. A group (a program or block) has a view of
its own: its stores go there, and to all by a release that comes after them; it sees those of others
after an acquiring read and, but for the thread that read, a barrier. What was not released yet is
out for all when the launch ends.

Of each byte the last store is known and every thread's last load: a load or store is a race with
what its thread does not know of, whether or not it happened to come late enough this time. Strong
accesses (`ld.acquire`, `ld.relaxed`, atomics) race with weak ones alone, and with strong ones whose
scope is too narrow. A relaxed one is no more than that: whoever loads what another stored so may
have it, and knows no more of anything else than before.
"""

import ctypes
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from interleaved.clocks import WIDE_SCOPES, Clocks
from interleaved.defects import Event, OutOfBounds, Race

# Regions lie this many bytes apart, and start half way: an offset may be negative.
REGION_BITS = 40
HALF = 1 << (REGION_BITS - 1)


@dataclass
class Part:
    """A tensor's place in a region; several may share it, such as one given twice."""

    name: str
    first: int
    shape: tuple[int, ...]
    size: int

    def element(self, byte: int) -> str:
        """The element of a byte of the region, as one writes it in PyTorch."""
        index = np.unravel_index((byte - self.first) // self.size, self.shape)
        return f"{self.name}[{', '.join(str(int(i)) for i in index)}]"

    @property
    def end(self) -> int:
        """The byte past its last."""
        return self.first + self.size * math.prod(self.shape)


@dataclass
class Region:
    """Bytes, what every group sees of them, and the last accesses of each."""

    data: np.ndarray  # [bytes]
    agents: int
    parts: list[Part] = field(default_factory=list)
    # Only one group has it: a block's shared memory.
    private: bool = False
    # [groups, bytes], once somebody stored.
    views: np.ndarray | None = None
    dirty: np.ndarray | None = None

    def __post_init__(self) -> None:
        size = len(self.data)
        self.writer, self.written = np.zeros(size, np.int32), np.zeros(size, np.int32)
        self.loads = np.zeros((self.agents, size), np.int32)
        self.strong_loads: np.ndarray | None = None
        self.strong_stores: np.ndarray | None = None
        # Of the last store which lane of its agent, and after how many barriers.
        self.lane, self.met = np.zeros(size, np.int64), np.zeros(size, np.int32)

    def take(self, part: Part) -> None:
        """Have a tensor lie here."""
        self.parts.append(part)
        self.first = min(each.first for each in self.parts)
        self.end = max(each.end for each in self.parts)

    def make_strong(self) -> None:
        """Have room for strong accesses."""
        if self.strong_loads is None:
            self.strong_loads, self.strong_stores = (np.zeros_like(self.loads) for _ in range(2))

    def seen_by(self, group: int) -> np.ndarray:
        """The bytes as a group sees them."""
        return self.data if self.views is None else self.views[group]

    def named(self, byte: int) -> str:
        """What lies there, in words."""
        for part in self.parts:
            if part.first <= byte < part.end:
                return f"{part.element(byte)} (byte {byte - part.first} of {part.name})"
        return f"byte {byte} of {self.parts[0].name}"


class Memory:
    """All regions, for `groups` of threads; `name` tells what to call a group."""

    def __init__(self, clocks: Clocks, groups: int, name: Callable[[int], str]) -> None:
        self.clocks, self._groups, self._name = clocks, groups, name
        self._regions: list[Region] = []
        self._by_storage: dict[int, int] = {}
        self._shared: list[Region] = []
        self._acquired: set[int] = set()

    def add(self, name: str, tensor: Tensor) -> int:
        """The address of a tensor's first element."""
        storage = tensor.untyped_storage()
        start = storage.data_ptr()
        if start not in self._by_storage or not start:
            size = storage.nbytes()
            data = np.empty(0, np.uint8)
            if size:
                data = np.frombuffer((ctypes.c_uint8 * size).from_address(start), np.uint8)
            self._by_storage[start] = len(self._regions)
            self._regions.append(Region(data, self.clocks.agents))
        number = self._by_storage[start]
        first = tensor.storage_offset() * tensor.element_size()
        part = Part(name, first, tuple(tensor.shape), tensor.element_size())
        self._regions[number].take(part)
        return self.address(number, first)

    def add_private(self, name: str, data: np.ndarray) -> int:
        """The address of memory that one group has for itself, [bytes]."""
        self._regions.append(Region(data, self.clocks.agents, private=True))
        self._regions[-1].take(Part(name, 0, (len(data),), 1))
        return self.address(len(self._regions) - 1, 0)

    @staticmethod
    def address(region: int, offset: int) -> int:
        """Of a byte of a region."""
        return ((region + 1) << REGION_BITS) + HALF + offset

    def load(
        self,
        agent: int,
        addresses: np.ndarray,
        dtype: np.dtype,
        event: Event,
        lanes: np.ndarray | None = None,
    ) -> np.ndarray:
        """Weak loads of one instruction, [n].

        Args:
            lanes: [n], where an agent stands for several threads; another lane, another thread.
        """
        group = self.clocks.group_of(agent)
        if agent in self._acquired:
            self._see_others(group)
        loaded = np.empty(len(addresses), dtype)
        for region, where, at in self._placed(addresses, dtype.itemsize, event):
            self._check(region, agent, at, event, writes=False)
            self._check_lanes(region, agent, at, event, lanes, where)
            region.loads[agent, at] = self.clocks.tick(agent, event)
            loaded[where] = region.seen_by(group)[at].view(dtype)
        return loaded

    def store(
        self,
        agent: int,
        addresses: np.ndarray,
        values: np.ndarray,
        event: Event,
        lanes: np.ndarray | None = None,
    ) -> None:
        """Weak stores of one instruction, [n] each; lanes as in `load`."""
        size = values.dtype.itemsize
        raw = np.ascontiguousarray(values).view(np.uint8).reshape(-1, size)
        for region, where, at in self._placed(addresses, size, event):
            if len(at) > size and len(np.unique(at)) < len(at):
                kinds, counts = np.unique(at, return_counts=True)
                twice = region.named(int(kinds[counts > 1][0]))
                raise Race(f"race within one instruction: {twice} is stored twice\n{event.told()}")
            self._check(region, agent, at, event, writes=True)
            spread = self._check_lanes(region, agent, at, event, lanes, where)
            if spread is not None:
                region.lane[at] = spread
                region.met[at] = self.clocks.met[self.clocks.group_of(agent)]
            region.writer[at], region.written[at] = agent, self.clocks.tick(agent, event)
            self._put(region, self.clocks.group_of(agent), at, raw[where].ravel())

    def strong(
        self, agent: int, address: int, size: int, scope: str, event: Event, *, writes: bool
    ) -> np.ndarray:
        """Note an atomic load, store or addition; its bytes in memory, to read or to fill."""
        ((region, _, at),) = self._placed(np.array([address]), size, event)
        region.make_strong()
        wide = scope in WIDE_SCOPES
        self._check(region, agent, at, event, writes=writes, with_strong=not wide)
        time = self.clocks.tick(agent, event)
        if wide:
            noted = region.strong_stores if writes else region.strong_loads
            noted[agent, at] = time
        elif writes:
            region.writer[at], region.written[at] = agent, time
        else:
            region.loads[agent, at] = time
        return region.data[at[0] : at[-1] + 1]

    def arrive(self, address: int, raw: np.ndarray) -> None:
        """Put the bytes of a strong store into memory, for all to see but who stored there too."""
        number, offset = divmod(address, 1 << REGION_BITS)
        region, at = self._regions[number - 1], slice(offset - HALF, offset - HALF + len(raw))
        region.data[at] = raw
        if region.views is not None:
            np.copyto(region.views[:, at], raw, where=~region.dirty[:, at])

    def release(self, agent: int) -> None:
        """Have all see what comes before, stored by this agent or by those it met."""
        known, group = self.clocks.known[agent], self.clocks.group_of(agent)
        for region in self._shared:
            at = np.flatnonzero(region.dirty[group])
            at = at[region.written[at] <= known[region.writer[at]]]
            region.data[at] = region.views[group, at]
            region.dirty[group, at] = False

    def acquire(self, agent: int) -> None:
        """Have this agent see what is released, and its group from its next barrier on."""
        self._acquired.add(agent)

    def barrier(self, group: int) -> None:
        """Have a group see what any of its agents acquired."""
        members = self.clocks.members(group)
        if any(members.start <= agent < members.stop for agent in self._acquired):
            self._see_others(group)

    def finish(self) -> None:
        """The launch ended: whatever was stored is out."""
        for region in self._shared:
            for group in range(self._groups):
                np.copyto(region.data, region.views[group], where=region.dirty[group])
            region.views = region.dirty = None

    def value(self, address: int, size: int) -> int:
        """An integer as it is in memory now, of which nobody takes note."""
        number, offset = divmod(address, 1 << REGION_BITS)
        at = offset - HALF
        return int.from_bytes(self._regions[number - 1].data[at : at + size].tobytes(), "little")

    def where(self, address: int) -> str:
        """What lies at an address, in words."""
        number, offset = divmod(address, 1 << REGION_BITS)
        return self._regions[number - 1].named(offset - HALF)

    def _see_others(self, group: int) -> None:
        members = self.clocks.members(group)
        self._acquired -= set(range(members.start, members.stop))
        for region in self._shared:
            np.copyto(region.views[group], region.data, where=~region.dirty[group])

    def _put(self, region: Region, group: int, at: np.ndarray, raw: np.ndarray) -> None:
        if region.private:
            region.data[at] = raw
            return
        if region.views is None:
            region.views = np.repeat(region.data[None], self._groups, 0)
            region.dirty = np.zeros(region.views.shape, bool)
            self._shared.append(region)
        region.views[group, at] = raw
        region.dirty[group, at] = True

    def _placed(
        self, addresses: np.ndarray, size: int, event: Event
    ) -> Iterator[tuple[Region, np.ndarray, np.ndarray]]:
        """By region: which of the addresses lie there, and all of their bytes, element by element.

        Raises:
            OutOfBounds: one lies nowhere, or is no multiple of its element's size.
        """
        numbers = addresses >> REGION_BITS
        alike = (numbers == numbers[0]).all()
        for number in numbers[:1] if alike else np.unique(numbers):
            where = np.arange(len(numbers)) if alike else np.flatnonzero(numbers == number)
            offset = (addresses[where] & ((1 << REGION_BITS) - 1)) - HALF
            if not 0 < number <= len(self._regions):
                raise OutOfBounds(f"an address that is none, {addresses[where[0]]}\n{event.told()}")
            region = self._regions[number - 1]
            self._within(region, offset, size, event)
            yield region, where, (offset[:, None] + np.arange(size)).ravel()

    def _within(self, region: Region, offset: np.ndarray, size: int, event: Event) -> None:
        names = "/".join(dict.fromkeys(part.name for part in region.parts))
        outside = (offset < region.first) | (offset + size > region.end)
        if outside.any():
            at, count = int(offset[outside][0]), int(outside.sum())
            raise OutOfBounds(
                f"out of bounds of {names}, which has {region.end - region.first} bytes: "
                f"byte {at - region.first} ({count} of {len(offset)} elements lie outside)\n"
                f"{event.told()}"
            )
        odd = offset % size != 0
        if odd.any():
            raise OutOfBounds(
                f"byte {int(offset[odd][0])} of {names} is no multiple of {size}\n{event.told()}"
            )

    def _check(
        self,
        region: Region,
        agent: int,
        at: np.ndarray,
        event: Event,
        *,
        writes: bool,
        with_strong: bool = True,
    ) -> None:
        """Whether an access knows of all that it must not race with.

        Raises:
            Race: it does not, with both sides of it.
        """
        known = self.clocks.known[agent]
        writer, written = region.writer[at], region.written[at]
        self._first(region, agent, at, event, written > known[writer], writer, written)
        others = []
        if with_strong and region.strong_stores is not None:
            others.append(region.strong_stores)
        if writes:
            others.append(region.loads)
            if with_strong and region.strong_loads is not None:
                others.append(region.strong_loads)
        for times in others:
            late = times[:, at] > known[:, None]
            if late.any():
                other = int(np.flatnonzero(late.any(1))[0])
                time = times[other, at]
                self._first(region, agent, at, event, late[other], np.full(len(at), other), time)

    def _check_lanes(
        self,
        region: Region,
        agent: int,
        at: np.ndarray,
        event: Event,
        lanes: np.ndarray | None,
        where: np.ndarray,
    ) -> np.ndarray | None:
        """Whether another lane of this agent stored since the last barrier; the lanes by byte."""
        if lanes is None:
            return None
        spread = np.repeat(lanes[where], len(at) // len(where))
        writer, written = region.writer[at], region.written[at]
        since = region.met[at] == self.clocks.met[self.clocks.group_of(agent)]
        late = (written > 0) & (writer == agent) & since & (region.lane[at] != spread)
        self._first(region, agent, at, event, late, writer, written)
        return spread

    def _first(
        self,
        region: Region,
        agent: int,
        at: np.ndarray,
        event: Event,
        late: np.ndarray,
        others: np.ndarray,
        times: np.ndarray,
    ) -> None:
        """Tell of the first byte that was touched too late to be known of, if there is one."""
        if not late.any():
            return
        place = int(np.flatnonzero(late)[0])
        other, time = int(others[place]), int(times[place])
        before = self.clocks.events[other][time - 1]
        why = self.clocks.why_unknown(agent, other, time, self._name)
        raise Race(
            f"race on {region.named(int(at[place]))}, and {int(late.sum()) - 1} bytes more\n"
            f"{event.told()}\nbefore that, and nothing orders the two:\n{before.told()}\n{why}"
        )
