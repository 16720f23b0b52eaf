"""Vector clocks: of every thread, how much of every other's doings comes before what it does next.

Threads stand in groups, a program or block each. A barrier tells all of a group what any of it
knows. A release leaves what the releasing thread knows at an address; an acquiring read there takes
it up. As PTX has it: an addition at that address in between keeps what was left (a release
sequence), a plain store does not; a scope that is too narrow tells its own group alone.
"""

from collections.abc import Callable

import numpy as np

from interleaved.defects import Event

# Scopes that reach other groups.
WIDE_SCOPES = ("gpu", "sys")
# What tells others, and what is told.
RELEASES = ("release", "acq_rel")
ACQUIRES = ("acquire", "acq_rel")


class Clocks:
    """`groups` times `threads` agents; an agent's time is the number of its events."""

    def __init__(self, groups: int, threads: int) -> None:
        self.threads, self.agents = threads, groups * threads
        # By agent, of every agent the last event that comes before.
        self.known = np.zeros((self.agents, self.agents), np.int32)
        self.events: list[list[Event]] = [[] for _ in range(self.agents)]
        # By group, how often it met at a barrier.
        self.met = [0] * groups
        # By address, and by address and group of what is left for that one alone.
        self._left: dict[tuple[int, int | None], np.ndarray] = {}
        # What fences hold back, or have yet to take up.
        self._fenced: dict[int, np.ndarray] = {}
        self._read: dict[int, np.ndarray] = {}

    def group_of(self, agent: int) -> int:
        """Whose barriers it meets."""
        return agent // self.threads

    def members(self, group: int) -> slice:
        """The agents of a group."""
        return slice(group * self.threads, (group + 1) * self.threads)

    def tick(self, agent: int, event: Event) -> int:
        """Note an event; its time."""
        self.events[agent].append(event)
        self.known[agent, agent] = len(self.events[agent])
        return len(self.events[agent])

    def barrier(self, group: int) -> None:
        """All threads of a group met."""
        members = self.members(group)
        self.known[members] = self.known[members].max(0)
        self.met[group] += 1

    def write(self, agent: int, address: int, sem: str, scope: str, *, adds: bool) -> None:
        """A strong write; what readers that acquire it will know."""
        key = address, None if scope in WIDE_SCOPES else self.group_of(agent)
        told = self.known[agent] if sem in RELEASES else self._fenced.get(agent)
        if not adds:
            for place in [place for place in self._left if place[0] == address]:
                del self._left[place]
        if told is not None:
            before = self._left.get(key)
            self._left[key] = told.copy() if before is None else np.maximum(before, told)

    def read(self, agent: int, address: int, sem: str, scope: str) -> bool:
        """A strong read of what was last written there; whether it told the agent anything."""
        keys = [(address, self.group_of(agent))]
        if scope in WIDE_SCOPES:
            keys.append((address, None))
        found = [self._left[key] for key in keys if key in self._left]
        if not found:
            return False
        if sem in ACQUIRES:
            self._join(agent, *found)
            return True
        self._read[agent] = np.maximum.reduce([*found, self._read.get(agent, found[0])])
        return False

    def fence(self, agent: int) -> None:
        """What was read before is known after; what is known now, later writes tell."""
        if agent in self._read:
            self._join(agent, self._read.pop(agent))
        self._fenced[agent] = self.known[agent].copy()

    def why_unknown(self, agent: int, other: int, time: int, name: Callable[[int], str]) -> str:
        """Which link of the chain is missing from another's event to what an agent does now."""
        mine, theirs = self.group_of(agent), self.group_of(other)
        if mine == theirs:
            return f"{name(mine)} met at no barrier between the two"
        if not any(left[other] >= time for left in self._left.values()):
            knows = self.known[self.members(theirs), other] >= time
            knows[other % self.threads] = self.threads == 1
            if knows.any():
                return f"since then {name(theirs)} released nothing that others can acquire"
            return f"since then {name(theirs)} met at no barrier, before which thread 0 tells none"
        if (self.known[self.members(mine), other] >= time).any():
            return (
                f"a thread of {name(mine)} has acquired what {name(theirs)} released since then, "
                "and no barrier told the others"
            )
        return f"{name(mine)} has acquired nothing that {name(theirs)} released since then"

    def _join(self, agent: int, *others: np.ndarray) -> None:
        self.known[agent] = np.maximum.reduce([self.known[agent], *others])
