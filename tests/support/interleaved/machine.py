"""A launch on a machine: its groups of threads, and what they meet there.

An adapter makes one with a name for each group and a body for each strand, and has the bodies call
`load`, `store`, `add`, `assembly` and `barrier`; every one of them is a place where another strand
may go on. A strand may be a whole group (a Triton program), or one of its threads: `strands` says
how many there are of a group.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from interleaved import ptx
from interleaved.clocks import RELEASES, WIDE_SCOPES, Clocks
from interleaved.defects import Deadlock, Defect, Event, TooLarge, Trap, Unwritten, event
from interleaved.late import Late
from interleaved.memory import REGION_BITS, Memory
from interleaved.ptx import Kind
from interleaved.schedule import Schedule, Stuck

NUMBERS = {
    **{"u32": np.uint32, "b32": np.uint32, "s32": np.int32, "u64": np.uint64, "b64": np.uint64},
    **{"s64": np.int64, "f32": np.float32, "f64": np.float64},
}
# A poll that sees the same so often in a row sleeps until somebody writes there: it would see no
# more if it went on. Until then it spins as on a GPU, and may reach its bound.
MOST_SPINS = 8


class Machine:
    """`names` are the groups', of `threads` agents each; `resident` groups run at once."""

    def __init__(
        self,
        names: Sequence[str],
        threads: int,
        what: str,
        *,
        seed: str,
        resident: int,
        strands: int = 1,
    ) -> None:
        self.names, self.what, self._seed, self._resident = names, what, seed, resident
        self._strands = strands
        self.clocks = Clocks(len(names), threads)
        self.memory = Memory(self.clocks, len(names), names.__getitem__)
        self.late = Late(self.clocks, seed, self.memory.arrive)
        self.schedule: Schedule
        self._waits: dict[int, str] = {}
        # By agent and place that it polls, how often that had been written, and how often in a row.
        self._spins: dict[int, dict[int, tuple[int, int]]] = {}
        # What nobody has written yet holds, by bytes of an element; in which regions; and by agent
        # which such elements it has loaded, and not again since somebody wrote them.
        self._not_yet: dict[int, int] = {}
        self._exchanged: set[int] = set()
        self._unwritten: dict[int, dict[int, Event]] = {}
        self._versions: dict[int, int] = {}
        self._added: dict[int, dict[str, int]] = {}

    def run(self, bodies: Sequence[Callable[[], None]], *, at_once: bool = False) -> None:
        """Run every strand to its end.

        Args:
            at_once: a cooperative launch, which needs all of them resident.
        Raises:
            Defect: what was found, and how to see it again.
        """
        try:
            if at_once and len(self.names) > self._resident:
                raise TooLarge(
                    f"a cooperative launch of {len(self.names)}, and {self._resident} can be"
                    " resident: CUDA refuses it"
                )
            self.schedule = Schedule(self._seed, bodies, self._resident, self._strands)
            self.schedule.run()
        except Stuck:
            raise Deadlock(f"deadlock: {self._who_waits()}\n{self.replay()}") from None
        except Defect as defect:
            raise type(defect)(f"{defect}\n{self.replay()}") from None
        self.late.all()
        self.memory.finish()

    def replay(self) -> str:
        """What ran, and the seed that has it run so again."""
        return f"in {self.what}; seed {self._seed}"

    def exchange(self, address: int, not_yet: dict[int, int]) -> None:
        """Have the tensor there be one whose elements are polled until they are written.

        Args:
            not_yet: by bytes of an element, the integer that it holds until then.
        """
        self._exchanged.add(address >> REGION_BITS)
        self._not_yet = not_yet

    def name(self, agent: int) -> str:
        """What to call its group."""
        return self.names[self.clocks.group_of(agent)]

    def who(self, agent: int) -> str:
        """What to call it: its group, and its thread where that is a strand."""
        thread = agent % self.clocks.threads
        return f"{self.name(agent)}, thread {thread}" if self._strands > 1 else self.name(agent)

    def load(
        self,
        agent: int,
        addresses: np.ndarray,
        dtype: np.dtype,
        lanes: np.ndarray | None = None,
    ) -> np.ndarray:
        """Weak loads of one instruction, [n]; lanes as `Memory.load` has them."""
        self.schedule.turn()
        for address in addresses:
            self.late.look(agent, int(address))
        return self.memory.load(agent, addresses, dtype, event(self.who(agent), "loads it"), lanes)

    def store(
        self,
        agent: int,
        addresses: np.ndarray,
        values: np.ndarray,
        lanes: np.ndarray | None = None,
    ) -> None:
        """Weak stores of one instruction, [n] each; lanes likewise."""
        self.schedule.turn()
        doing = event(self.who(agent), "stores it")
        self._must_be_written(agent, values, doing)
        for address in addresses:
            self.late.look(agent, int(address))
        self.memory.store(agent, addresses, values, doing, lanes)
        for address in addresses[:1]:
            self._changed(int(address))

    def add(self, agent: int, address: int, value: Any, sem: str, scope: str) -> Any:
        """An atomic addition; what was there before."""
        self.schedule.turn()
        doing = event(self.who(agent), f"adds {value} ({sem}, {scope})")
        size = np.asarray(value).dtype.itemsize
        data = self.memory.strong(agent, address, size, scope, doing, writes=True)
        place = data.view(np.asarray(value).dtype)
        self.late.all_at(address)
        before = place[0].copy()
        self._acquire(agent, address, sem, scope)
        self._publish(agent, address, sem, scope, adds=True)
        place += value
        counted = self._added.setdefault(address, {})
        counted[self.name(agent)] = counted.get(self.name(agent), 0) + 1
        self._changed(address)
        return before

    def assembly(
        self, agent: int, text: str, inputs: Sequence[Any], results: int, waits: str = ""
    ) -> list[Any]:
        """Run a text of PTX as this agent; its results.

        Args:
            waits: what for, where the text itself does not compare.
        """
        thread = agent % self.clocks.threads
        return ptx.run(text, inputs, results, thread, _Thread(self, agent), waits)

    def barrier(self, group: int) -> None:
        """All threads of a group met; those that wait for it are the adapter's business."""
        self.clocks.barrier(group)
        self.memory.barrier(group)

    def strong_load(self, agent: int, address: int, kind: Kind, text: str) -> Any:
        """An atomic load."""
        doing = event(self.who(agent), f"polls it by `{text}`")
        data = self.memory.strong(agent, address, kind.size, kind.scope, doing, writes=False)
        self.late.look(agent, address)
        value = data.view(NUMBERS[kind.type])[0]
        self._acquire(agent, address, kind.sem, kind.scope)
        if address >> REGION_BITS in self._exchanged:
            unwritten = self._unwritten.setdefault(agent, {})
            unwritten.pop(address, None)
            if self.is_not_yet(address, kind.size):
                unwritten[address] = doing
        return value

    def strong_store(self, agent: int, address: int, value: Any, kind: Kind, text: str) -> None:
        """An atomic store; a relaxed one is seen some time."""
        doing = event(self.who(agent), f"stores it by `{text}`")
        raw = np.array([value], NUMBERS[kind.type]).view(np.uint8)
        if int.from_bytes(raw.tobytes(), "little") == self._not_yet.get(kind.size):
            where = self.memory.where(address)
            raise Unwritten(f"{where} is told what says that nobody has told it\n{doing.told()}")
        self.memory.strong(agent, address, kind.size, kind.scope, doing, writes=True)
        self._publish(agent, address, kind.sem, kind.scope, adds=False)
        self.late.put(agent, int(self.clocks.known[agent, agent]), address, raw)
        if kind.sem != "relaxed":
            self.late.all_at(address)
        self._changed(address)

    def may_wait_for(self, address: int, size: int) -> bool:
        """Whether a load there may be a poll that has to go on: not of what is written."""
        return not self._not_yet or self.is_not_yet(address, size)

    def is_not_yet(self, address: int, size: int) -> bool:
        """Whether nobody's store to a place has arrived there."""
        return self.memory.value(address, size) == self._not_yet.get(size)

    def fence(self, agent: int, kind: Kind) -> None:
        """A fence."""
        if kind.scope in WIDE_SCOPES:
            self._release(agent)
            self.memory.acquire(agent)
        self.clocks.fence(agent)

    def poll(self, agent: int, address: int, waits: str) -> None:
        """Go on to a poll; asleep, where so many in a row saw that nobody wrote there.

        Args:
            waits: what the agent waits for, in words.
        """
        now = self._versions.get(address, 0)
        places = self._spins.setdefault(agent, {})
        version, spins = places.get(address, (-1, 0))
        # What is on its way arrives, some time.
        if version == now and spins >= MOST_SPINS and not self.late.all_at(address):
            doing = event(self.name(agent), f"waits for {self.memory.where(address)}: {waits}")
            counts = self._added.get(address, {})
            added = ", ".join(f"{who} {times} times" for who, times in counts.items())
            told = f"{doing.told()}\n    added there so far: {added or 'nothing'}"
            self.sleep(("written", address), doing.told() if self._not_yet else told)
        self.schedule.turn()
        now = self._versions.get(address, 0)
        places[address] = now, spins + 1 if version == now else 0

    def sleep(self, key: Hashable, told: str) -> None:
        """Have the current strand wait for a wake of that key; `told` is for who finds it so."""
        strand = self.schedule.current
        self._waits[strand] = told
        self.schedule.sleep(key)
        del self._waits[strand]

    def end_of_poll(self, agent: int) -> None:
        """Whatever polls next begins to."""
        self._spins.pop(agent, None)

    def _acquire(self, agent: int, address: int, sem: str, scope: str) -> None:
        if self.clocks.read(agent, address, sem, scope) and scope in WIDE_SCOPES:
            self.memory.acquire(agent)

    def _publish(self, agent: int, address: int, sem: str, scope: str, *, adds: bool) -> None:
        if sem in RELEASES and scope in WIDE_SCOPES:
            self._release(agent)
        self.clocks.write(agent, address, sem, scope, adds=adds)

    def _release(self, agent: int) -> None:
        self.late.all_known(agent)
        self.memory.release(agent)

    def _must_be_written(self, agent: int, values: np.ndarray, doing: Event) -> None:
        """Whether an agent goes on with what it loaded before anybody wrote it."""
        unwritten = self._unwritten.get(agent)
        bits = self._not_yet.get(values.dtype.itemsize)
        if unwritten and (values.view(f"u{values.dtype.itemsize}") == bits).any():
            address, loaded = next(iter(unwritten.items()))
            raise Unwritten(
                f"{self.memory.where(address)} is taken, and nobody has written it yet\n"
                f"{loaded.told()}\n{doing.told()}"
            )

    def _changed(self, address: int) -> None:
        self._versions[address] = self._versions.get(address, 0) + 1
        self.schedule.wake(("written", address))

    def _who_waits(self) -> str:
        sleeping, outside = self.schedule.sleeping, self.schedule.outside
        told = [f"{len(sleeping)} wait, and nobody is left to do what they wait for"]
        if outside:
            count = len(outside) // self._strands
            told[0] += f"; {count} have not begun, since {self._resident} are resident"
        return "\n".join([*told, *dict.fromkeys(self._waits[each] for each in sleeping)])


class _Thread:
    """One agent, as a text of PTX acts through it."""

    def __init__(self, machine: Machine, agent: int) -> None:
        self.machine, self.agent = machine, agent

    def load(self, address: int, kind: Kind, text: str, waits: str) -> Any:
        machine = self.machine
        if machine.may_wait_for(address, kind.size):
            machine.poll(self.agent, address, waits or "until somebody writes it")
        else:
            machine.schedule.turn()
        if kind.sem != "weak":
            return machine.strong_load(self.agent, address, kind, text)
        doing = event(machine.who(self.agent), f"loads it by `{text}`")
        places = np.array([address])
        dtype = np.dtype(NUMBERS[kind.type])
        return machine.memory.load(self.agent, places, dtype, doing)[0]

    def store(self, address: int, value: Any, kind: Kind, text: str) -> None:
        if kind.sem == "weak":
            values = np.array([value], NUMBERS[kind.type])
            self.machine.store(self.agent, np.array([address]), values)
            return
        self.machine.schedule.turn()
        self.machine.strong_store(self.agent, address, value, kind, text)

    def add(self, address: int, value: int, kind: Kind, text: str) -> int:
        number = NUMBERS[kind.type](value)
        return int(self.machine.add(self.agent, address, number, kind.sem, kind.scope))

    def fence(self, kind: Kind, text: str) -> None:
        self.machine.fence(self.agent, kind)

    def trap(self, text: str, waits: str) -> None:
        doing = event(self.machine.who(self.agent), f"traps; it waited for {waits}")
        raise Trap(f"trap\n{doing.told()}")
