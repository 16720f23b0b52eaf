"""What interleaved programs run on: its memory, clocks, schedules, and the reader of PTX."""

from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import pytest
import torch

pytest.importorskip("greenlet", reason="interleaved programs are greenlets")

from interleaved import ptx, schedule
from interleaved.clocks import Clocks
from interleaved.defects import (
    Deadlock,
    Defect,
    Endless,
    OutOfBounds,
    Race,
    TooLarge,
    Trap,
    Unwritten,
)
from interleaved.machine import Machine
from interleaved.memory import Memory

INT32 = np.dtype(np.int32)
RELEASED = "red.release.gpu.global.add.u32 [$0], 1;"
POLL = """
AGAIN:
    ld.acquire.gpu.global.u32 seen, [$0];
    setp.lt.u32 early, seen, $1;
    @early bra AGAIN;
"""
# What one of the two programs does.
Body = Callable[["Two"], None]


class Two:
    """Two programs of two threads, the memory they share, and what was read of it."""

    def __init__(self, seed: int = 0, resident: int = 2) -> None:
        self.data, self.counter = (torch.zeros(8, dtype=torch.int32) for _ in range(2))
        self.machine = Machine(
            ["program 0", "program 1"], 2, "a test", seed=str(seed), resident=resident
        )
        self.at = self.machine.memory.add("data", self.data)
        self.flag = self.machine.memory.add("counter", self.counter)
        self.read: list[int] = []

    def run(self, writer: Body, reader: Body, **options: bool) -> list[int]:
        """What the reader read."""
        self.machine.run([lambda: writer(self), lambda: reader(self)], **options)
        return self.read

    def store(self, program: int, value: int, offset: int = 0) -> None:
        values = np.array([value], INT32)
        self.machine.store(2 * program + 1, np.array([self.at + offset]), values)

    def load(self, program: int, offset: int = 0) -> None:
        places = np.array([self.at + offset])
        self.read += self.machine.load(2 * program + 1, places, INT32).tolist()

    def assembly(self, program: int, text: str, *inputs: int) -> None:
        self.machine.assembly(2 * program, text, [self.flag, *inputs], 0)


def send(two: Two, flag: str = RELEASED, meets: bool = True) -> None:
    two.store(0, 7)
    if meets:
        two.machine.barrier(0)
    two.assembly(0, flag)


def receive(two: Two, poll: str = POLL, meets: bool = True) -> None:
    two.assembly(1, poll, 1)
    if meets:
        two.machine.barrier(1)
    two.load(1)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_released_is_read(seed: int) -> None:
    two = Two(seed)
    assert two.run(send, receive) == [7]
    assert two.data.tolist() == [7, 0, 0, 0, 0, 0, 0, 0]


FENCE = "fence.acq_rel.gpu;"
# A sender, a receiver, and whether a GPU guarantees that the one is heard.
PROTOCOLS = [
    (RELEASED, POLL, True),
    ("st.release.gpu.global.u32 [$0], 1;", POLL, True),
    ("atom.acq_rel.gpu.global.add.u32 old, [$0], 1;", POLL, True),
    (FENCE + RELEASED.replace("release", "relaxed"), POLL, True),
    (RELEASED, POLL.replace("acquire", "relaxed") + FENCE, True),
    (RELEASED + "red.relaxed.gpu.global.add.u32 [$0], 1;", POLL.replace("$1", "2"), True),
    (RELEASED, POLL.replace("acquire.gpu", "acquire.sys"), True),
    (RELEASED.replace("release", "relaxed"), POLL, False),
    (RELEASED.replace("gpu", "cta"), POLL, False),
    (RELEASED.replace("gpu", "cluster"), POLL, False),
    (RELEASED, POLL.replace("acquire", "relaxed"), False),
    (RELEASED, POLL.replace("acquire.gpu", "volatile"), False),
    (RELEASED, POLL.replace("acquire.gpu", "acquire.cta"), False),
    (RELEASED, POLL.replace("acquire.gpu.", ""), False),
    (RELEASED + FENCE, POLL.replace("acquire", "relaxed"), False),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("flag", "poll", "is_heard"), PROTOCOLS)
def test_protocols(flag: str, poll: str, is_heard: bool, seed: int) -> None:
    two = Two(seed)
    if is_heard:
        assert two.run(lambda two: send(two, flag), lambda two: receive(two, poll)) == [7]
        return
    with pytest.raises(Race) as caught:
        two.run(lambda two: send(two, flag), lambda two: receive(two, poll))
    assert "program 0" in str(caught.value)
    assert "program 1" in str(caught.value)


def test_a_plain_store_ends_what_an_addition_passes_on() -> None:
    def tells(*later: tuple[str, bool]) -> bool:
        clocks = Clocks(2, 1)
        for sem, adds in (("release", True), *later):
            clocks.write(0, 8, sem, "gpu", adds=adds)
        return clocks.read(1, 8, "acquire", "gpu")

    assert tells()
    assert tells(("relaxed", True))
    assert not tells(("relaxed", False))
    assert tells(("relaxed", False), ("release", False))


@pytest.mark.parametrize(("sender", "receiver"), [(False, True), (True, False)])
def test_threads_beside_the_first_need_a_barrier(sender: bool, receiver: bool) -> None:
    with pytest.raises(Race, match="no barrier") as caught:
        Two().run(lambda two: send(two, meets=sender), lambda two: receive(two, meets=receiver))
    assert "data[0] (byte 0 of data)" in str(caught.value)


def test_what_was_not_released_or_acquired_is_not_seen() -> None:
    """Were races not looked for, wrong numbers would still tell."""
    with patch.object(Memory, "_check", lambda *_, **__: None):
        relaxed = POLL.replace("acquire", "relaxed")
        assert Two().run(send, receive) == [7]
        assert Two().run(send, lambda two: (two.load(1), receive(two, relaxed))) == [0, 0]
        assert Two().run(lambda two: send(two, meets=False), receive) == [0]


TOLD = "st.relaxed.gpu.global.s32 [$0], $1;"
ASKED = "ld.relaxed.gpu.global.s32 $0, [$1];"


def tell(two: Two, value: int, offset: int = 0, thread: int = 0) -> None:
    two.machine.assembly(thread, TOLD, [two.at + offset, value], 0)


def ask(two: Two, offset: int = 0, agent: int = 2) -> int:
    (value,) = two.machine.assembly(agent, ASKED, [two.at + offset], 1)
    return int(value)


def ask_until(two: Two, want: int, offset: int = 0) -> None:
    while ask(two, offset) != want:
        pass


def test_relaxed_stores_arrive_in_any_order_though_one_thread_made_them() -> None:
    seen = set()
    for seed in range(30):
        two = Two(seed)

        def both(two: Two) -> None:
            tell(two, 1)
            tell(two, 2, offset=4)

        def last_then_first(two: Two) -> None:
            ask_until(two, 2, offset=4)
            seen.add(ask(two))
            ask_until(two, 1)

        two.run(both, last_then_first)
        assert two.data.tolist()[:2] == [1, 2]
    assert seen == {0, 1}


def test_relaxed_stores_to_one_place_arrive_in_their_order() -> None:
    for seed in range(30):
        got: list[int] = []

        def thrice(two: Two) -> None:
            for value in (1, 2, 3):
                tell(two, value)

        def often(two: Two) -> None:
            while not got or got[-1] != 3:  # noqa: B023 - run at once
                got.append(ask(two))  # noqa: B023 - run at once

        Two(seed).run(thrice, often)
        assert got == sorted(got)


def test_a_relaxed_store_orders_nothing_else() -> None:
    """Who saw the value of one place may not load another as if it knew."""
    for seed in range(3):
        with pytest.raises(Race, match=r"race on data\[1\]"):
            Two(seed).run(
                lambda two: (two.store(0, 7, offset=4), tell(two, 1)),
                lambda two: (ask_until(two, 1), two.load(1, offset=4)),
            )


@pytest.mark.parametrize("access", ["store", "load"])
def test_a_relaxed_access_races_with_a_weak_one_of_the_same_place(access: str) -> None:
    pairs: dict[str, tuple[Body, Body]] = {
        "store": (lambda two: two.store(0, 7), ask),
        "load": (lambda two: tell(two, 7), lambda two: two.load(1)),
    }
    for seed in range(3):
        with pytest.raises(Race, match=r"race on data\[0\]"):
            Two(seed).run(*pairs[access])
    with pytest.raises(Race, match=r"race on data\[0\]"):
        Two().run(
            lambda two: two.machine.assembly(0, TOLD.replace("gpu", "cta"), [two.at, 7], 0), ask
        )


def test_a_relaxed_store_is_seen_by_whoever_knows_of_it() -> None:
    def own(two: Two) -> None:
        tell(two, 7)
        two.read.append(ask(two, agent=0))
        two.machine.barrier(0)
        two.read.append(ask(two, agent=1))
        two.load(0)

    def released(two: Two) -> None:
        tell(two, 7)
        two.assembly(0, RELEASED)

    def acquired(two: Two) -> None:
        two.assembly(1, POLL, 1)
        two.read.append(ask(two))

    for seed in range(20):
        assert Two(seed).run(own, lambda two: None) == [7, 7, 7]
        assert Two(seed).run(released, acquired) == [7]


def exchanging(seed: int = 0) -> Two:
    """Two programs whose data is polled: -1 until it is told."""
    two = Two(seed)
    two.data.fill_(-1)
    two.machine.exchange(two.at, {4: 0xFFFFFFFF})
    two.shared = torch.zeros(1, dtype=torch.int32)
    two.place = two.machine.memory.add("place", two.shared)
    return two


def take(two: Two, value: int) -> None:
    two.machine.store(2, np.array([two.place]), np.array([value], INT32))


def test_what_was_told_is_taken() -> None:
    def polls(two: Two) -> None:
        while (value := ask(two)) == -1:
            pass
        take(two, value)

    for seed in range(20):
        two = exchanging(seed)
        two.run(lambda two: tell(two, 7), polls)
        assert two.shared.tolist() == [7]


def test_what_nobody_told_yet_is_no_value() -> None:
    with pytest.raises(Unwritten) as caught:
        exchanging().run(lambda two: None, lambda two: take(two, ask(two, offset=8)))
    told = str(caught.value)
    assert "data[2] (byte 8 of data) is taken, and nobody has written it yet" in told
    assert "program 1, before its first step: polls it by `ld.relaxed.gpu.global.s32" in told
    assert "stores it" in told
    assert "seed 0" in told


def test_what_says_that_nobody_told_it_may_not_be_told() -> None:
    with pytest.raises(Unwritten, match=r"data\[0\].*is told what says that nobody has told it"):
        exchanging().run(lambda two: tell(two, -1), lambda two: None)


def test_a_poll_of_what_nobody_tells_is_a_deadlock() -> None:
    with pytest.raises(Deadlock, match=r"program 1.* data\[0\].*until somebody writes it"):
        exchanging().run(lambda two: tell(two, 7, offset=4), lambda two: ask_until(two, 7))


def test_a_race_is_found_whoever_comes_first() -> None:
    for seed in range(5):
        with pytest.raises(Race, match="nothing orders the two"):
            Two(seed).run(lambda two: two.store(0, 1), lambda two: two.load(1))
        with pytest.raises(Race, match="nothing orders the two"):
            Two(seed).run(lambda two: two.store(0, 1), lambda two: two.store(1, 1))


def test_bytes_are_told_apart() -> None:
    """Of neighbours each may be written by one; an element that overlaps one byte may not."""
    Two().run(lambda two: two.store(0, 1), lambda two: two.load(1, offset=4))
    two = Two()
    byte = np.array([1], np.uint8)
    with pytest.raises(Race, match=r"data\[0\] \(byte 3 of data\), and 0 bytes more"):
        two.run(
            lambda two: two.machine.store(1, np.array([two.at + 3]), byte),
            lambda two: two.load(1),
        )


def test_lanes_of_one_agent_need_a_barrier_too() -> None:
    place, values = np.zeros(1, np.int64), np.array([7], INT32)

    def run(lane: int, meets: bool) -> None:
        def one(two: Two) -> None:
            two.machine.store(1, place + two.at, values, np.array([0]))
            if meets:
                two.machine.barrier(0)
            two.machine.load(1, place + two.at, INT32, np.array([lane]))

        Two().run(one, lambda two: None)

    run(lane=0, meets=False)
    run(lane=1, meets=True)
    with pytest.raises(Race, match="program 0 met at no barrier between the two"):
        run(lane=1, meets=False)


def test_a_store_twice_to_a_place() -> None:
    def store(two: Two) -> None:
        two.machine.store(1, np.array([two.at, two.at]), np.array([1, 2], INT32))

    with pytest.raises(Race, match="within one instruction"):
        Two().run(store, lambda two: None)


@pytest.mark.parametrize("offset", [-4, 32, 1 << 33])
def test_out_of_bounds(offset: int) -> None:
    with pytest.raises(OutOfBounds, match=f"of data, which has 32 bytes: byte {offset}"):
        Two().run(lambda two: two.store(0, 1, offset), lambda two: None)


def test_what_is_not_aligned() -> None:
    with pytest.raises(OutOfBounds, match="byte 2 of data is no multiple of 4"):
        Two().run(lambda two: two.store(0, 1, 2), lambda two: None)


def test_a_deadlock_tells_who_waits_for_what() -> None:
    with pytest.raises(Deadlock) as caught:
        Two().run(lambda two: None, receive)
    told = str(caught.value)
    assert "1 wait, and nobody is left" in told
    assert "where seen is 0 and $1 1" in told
    assert "seed 0" in told


def test_who_is_not_resident_does_not_begin() -> None:
    begins: dict[int, int] = {}
    for seed in range(50):
        first: list[int] = []
        Two(seed, resident=1).run(lambda _: first.append(0), lambda _: first.append(1))  # noqa: B023 - run at once
        begins[first[0]] = seed
    # Where the sender begins, the other one follows.
    assert Two(begins[0], resident=1).run(send, receive) == [7]
    with pytest.raises(Deadlock, match="1 have not begun, since 1 are resident"):
        Two(begins[1], resident=1).run(send, receive)
    with pytest.raises(TooLarge, match="launch of 2, and 1 can be resident"):
        Two(resident=1).run(send, receive, at_once=True)


def test_a_bounded_poll_traps() -> None:
    bounded = "mov.u32 left, 3;" + POLL.replace(
        "@early", "sub.u32 left, left, 1; setp.gt.s32 some, left, 0; @!some trap; @early"
    )
    with pytest.raises(Trap, match="where seen is 0"):
        Two().run(lambda two: None, lambda two: receive(two, bounded))


def test_what_never_ends() -> None:
    def spin(two: Two) -> None:
        while True:
            two.load(1)

    with patch.object(schedule, "MOST_TURNS", 1000), pytest.raises(Endless, match="1000 accesses"):
        Two().run(lambda two: None, spin)


def test_an_error_of_a_program_is_raised_and_ends_the_others() -> None:
    def fail(two: Two) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Two().run(fail, receive)


def test_a_seed_is_an_order() -> None:
    def orders(seed: int) -> list[int]:
        two = Two(seed)
        two.run(send, receive)
        return two.machine.schedule.history

    assert orders(3) == orders(3)
    assert len({tuple(orders(seed)) for seed in range(10)}) > 3


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("ld.release.gpu.global.u32 x, [$0];", ValueError, "no instruction that PTX"),
        ("ld.acquire.global.u32 x, [$0];", ValueError, "tells no scope"),
        ("red.acquire.gpu.global.add.u32 [$0], 1;", ValueError, "no instruction that PTX"),
        ("red.release.gpu.global.max.u32 [$0], 1;", ValueError, "no instruction that PTX"),
        ("ld.acquire.gpu.shared.u32 x, [$0];", ValueError, "no instruction that PTX"),
        ("multimem.red.global.add.u32 [$0], 1;", NotImplementedError, "teach it"),
        ("mov.u32 x, y;", ValueError, "y has no value yet"),
        ("?", ValueError, "no instruction of PTX"),
    ],
)
def test_what_ptx_has_not_is_an_error(text: str, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        Two().run(lambda two: two.assembly(0, text), lambda two: None)


def test_numbers_are_as_wide_as_their_type() -> None:
    text = """{
        .reg .pred p, q;  // declarations and comments are passed over
        sub.u32 $0, $2, 1;
        setp.ge.u32 p, $0, $2;
        setp.lt.s32 q, $0, $2;
        mov.u32 $1, 0;
        @!p bra END;
        @!q bra END;
        mov.u32 $1, 1;
    END:
    }"""
    assert ptx.run(text, [0], 2, 0, None) == [(1 << 32) - 1, 1]


def test_every_defect_is_a_failed_assertion() -> None:
    assert issubclass(Defect, AssertionError)
