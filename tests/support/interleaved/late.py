"""Relaxed stores that are on their way: each is seen when it arrives, in no order among them.

A GPU orders two relaxed stores to different places by nothing, one thread's own ones neither. So a
store waits here until somebody who loads from its place finds by chance that it has arrived. It
must have arrived for whoever knows of it by a barrier or an acquire, and for all at the launch's
end; a place's own stores arrive in their order.
"""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

import numpy as np

from interleaved.clocks import Clocks


class _Store(NamedTuple):
    agent: int
    time: int
    raw: np.ndarray


class Late:
    """Stores by address; `arrive` puts the bytes of one into memory."""

    def __init__(
        self, clocks: Clocks, seed: str, arrive: Callable[[int, np.ndarray], None]
    ) -> None:
        self._clocks, self._chance, self._arrive = clocks, Random(f"late {seed}"), arrive
        self._under_way: dict[int, list[_Store]] = {}

    def put(self, agent: int, time: int, address: int, raw: np.ndarray) -> None:
        """Send a store off; `time` is that of its event."""
        self._under_way.setdefault(address, []).append(_Store(agent, time, raw))

    def look(self, agent: int, address: int) -> None:
        """Have arrive what an agent must see at a place, and by chance what it may."""
        stores = self._under_way.get(address, [])
        known = [n for n, each in enumerate(stores, 1) if self._is_known(each, agent)]
        count = max(known, default=0)
        while count < len(stores) and self._chance.random() < 0.5:
            count += 1
        self._let(address, count)

    def all_known(self, agent: int) -> None:
        """Have arrive what an agent knows of: it tells others now."""
        for address, stores in list(self._under_way.items()):
            known = [n for n, each in enumerate(stores, 1) if self._is_known(each, agent)]
            self._let(address, max(known, default=0))

    def all_at(self, address: int) -> bool:
        """Have all of a place arrive; whether there was any."""
        count = len(self._under_way.get(address, []))
        self._let(address, count)
        return count > 0

    def all(self) -> None:
        """Have everything arrive."""
        for address in list(self._under_way):
            self.all_at(address)

    def _is_known(self, store: _Store, agent: int) -> bool:
        return bool(self._clocks.known[agent, store.agent] >= store.time)

    def _let(self, address: int, count: int) -> None:
        if not count:
            return
        stores = self._under_way[address]
        self._arrive(address, stores[count - 1].raw)
        del stores[:count]
        if not stores:
            del self._under_way[address]
