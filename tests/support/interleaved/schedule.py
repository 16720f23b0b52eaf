"""Who goes on: strands of a program each, of which one runs at a time, changed over by a seed.

A strand says where another may go on (`turn`), and what it waits for (`sleep`, until somebody says
`wake`). Some are faster than others, so that one is steps ahead in this run and behind in that. The
same seed draws the same sequence.
"""

import random
from collections.abc import Callable, Hashable, Sequence
from contextvars import copy_context

from greenlet import GreenletExit, getcurrent, greenlet

from interleaved.defects import Endless

# Of two strands drawn the faster one goes on, but once in so many times.
ONCE_IN = 8
# More changes than any case here needs.
MOST_TURNS = 5_000_000


class Stuck(Exception):  # noqa: N818 - not an error of ours; whoever knows the strands tells of it
    """All strands that are left sleep."""


class Schedule:
    """Bodies run to their ends, interleaved; `resident` gangs at once, others as those end.

    A gang is as many bodies that begin together, in their order: the threads of a block.
    `current` is the index of the body that runs, `history` every one that went on, in order.
    """

    def __init__(
        self, seed: str, bodies: Sequence[Callable[[], None]], resident: int, gang: int = 1
    ) -> None:
        self._chance = random.Random(seed)
        gangs = list(range(len(bodies) // gang))
        self._chance.shuffle(gangs)
        order = [first * gang + member for first in gangs for member in range(gang)]
        # Ranks, drawn apart from the order of starting.
        self._rank = list(range(len(bodies)))
        self._chance.shuffle(self._rank)
        self._gang = gang
        self._ready, self._outside = order[: resident * gang], order[resident * gang :]
        self._left = [gang] * len(gangs)
        self._asleep: dict[Hashable, list[int]] = {}
        self._bodies = bodies
        self._strands: dict[int, greenlet] = {}
        self._hub = getcurrent()
        self.current = -1
        self.history: list[int] = []

    def run(self) -> None:
        """Run all bodies; the first exception of one ends the others and is raised.

        Raises:
            Stuck: those that are left sleep.
        """
        self._hub = getcurrent()
        try:
            while self._ready:
                self._switch_to(self._drawn())
                if self._strands[self.current].dead:
                    self._ready.remove(self.current)
                    self._ended(self.current // self._gang)
            if self._asleep:
                raise Stuck
        finally:
            for strand in self._strands.values():
                if strand and not strand.dead:
                    strand.throw(GreenletExit)

    def turn(self) -> None:
        """Let another strand go on, or this one."""
        if len(self.history) > MOST_TURNS:
            raise Endless(f"no end after {MOST_TURNS} accesses of memory")
        drawn = self._drawn()
        self.history.append(drawn)
        if drawn != self.current:
            self._switch_to(drawn)

    def sleep(self, key: Hashable) -> None:
        """Have the current strand go on no sooner than after a `wake` of this key."""
        self._asleep.setdefault(key, []).append(self.current)
        self._ready.remove(self.current)
        if self._ready:
            self._switch_to(self._drawn())
        else:
            self._hub.switch()

    def wake(self, key: Hashable) -> None:
        """Have all that sleep for this go on some time."""
        self._ready += self._asleep.pop(key, [])

    @property
    def sleeping(self) -> list[int]:
        """Who waits, in order."""
        return sorted(strand for strands in self._asleep.values() for strand in strands)

    @property
    def outside(self) -> list[int]:
        """Who has not begun for want of room, in order."""
        return sorted(self._outside)

    def _ended(self, gang: int) -> None:
        """Have the next gang begin where one has ended."""
        self._left[gang] -= 1
        if not self._left[gang]:
            self._ready += self._outside[: self._gang]
            del self._outside[: self._gang]

    def _drawn(self) -> int:
        one, other = self._chance.choice(self._ready), self._chance.choice(self._ready)
        if (self._rank[one] > self._rank[other]) == (self._chance.randrange(ONCE_IN) > 0):
            return one
        return other

    def _switch_to(self, strand: int) -> None:
        self.current = strand
        if strand not in self._strands:
            made = greenlet(self._bodies[strand], self._hub)
            # NumPy's error state, and whatever else the caller set.
            made.gr_context = copy_context()
            self._strands[strand] = made
        self._strands[strand].switch()
