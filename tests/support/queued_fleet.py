"""A fleet that measures tasks, simulated: queueing, failures, and what each device-second went to.

One coordinator hands tasks out and takes their records in, one message at a time. A device runs one
task at a time, in fresh processes. Devices fail in groups (a GPU alone, or a host with all of its
GPUs), at random and without memory; a group that failed is away until it is repaired. The task that
a failed device ran is lost as a whole, and waits again as soon as the loss is noticed.
"""

import math
import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import simpy

Steps = Generator[simpy.Event, Any, None]


@dataclass(frozen=True)
class Fleet:
    """Devices and what serves them; every duration is in seconds.

    Attributes:
        start_s: what a task costs before its work: its processes, their imports, compiling.
        message_s: the coordinator's time for a message; a task takes two.
        group: the devices that fail together.
        failure_s: the mean time between two failures of a group.
        repair_s: how long a group is away after a failure.
        notice_s: how long the loss of a task stays unnoticed.
    """

    devices: int
    start_s: float = 0.0
    message_s: float = 0.0
    group: int = 1
    failure_s: float = math.inf
    repair_s: float = 0.0
    notice_s: float = 0.0


@dataclass(frozen=True)
class Task:
    """The work of a task, and when it is submitted."""

    work_s: float
    submitted_s: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """How a fleet ended all tasks.

    Attributes:
        makespan_s: until the last task's records were taken in.
        useful_s, start_s, lost_s, down_s, idle_s: the device-seconds of work that counts, of
            starting it, of both in tasks that were lost, of repair, and the rest; together they
            are the devices times the makespan.
        losses: how often a task was lost.
        coordinator_s: how long the coordinator was busy.
        wait_s: the mean time from a task's submission to its first start.
    """

    makespan_s: float
    useful_s: float
    start_s: float
    lost_s: float
    down_s: float
    idle_s: float
    losses: int
    coordinator_s: float
    wait_s: float


@dataclass
class _Tally:
    done: int = 0
    lost_s: float = 0.0
    losses: int = 0
    messages: int = 0
    repairs: list[float] = field(default_factory=list)
    waits: dict[int, float] = field(default_factory=dict)


class _Simulation:
    def __init__(self, fleet: Fleet, tasks: Sequence[Task], seed: int) -> None:
        self.fleet, self.tasks = fleet, tasks
        self.draw = random.Random(seed)
        self.env = simpy.Environment()
        self.queue = simpy.Store(self.env)
        self.coordinator = simpy.Resource(self.env)
        self.finished = self.env.event()
        self.tally = _Tally()

    def run(self) -> Outcome:
        devices = [self.env.process(self.device()) for _ in range(self.fleet.devices)]
        if math.isfinite(self.fleet.failure_s):
            for first in range(0, len(devices), self.fleet.group):
                self.env.process(self.failures(devices[first : first + self.fleet.group]))
        self.env.process(self.submissions())
        self.env.run(until=self.finished)
        return self.outcome()

    def submissions(self) -> Steps:
        order = sorted(range(len(self.tasks)), key=lambda place: self.tasks[place].submitted_s)
        for place in order:
            wait = self.tasks[place].submitted_s - self.env.now
            if wait > 0:
                yield self.env.timeout(wait)
            self.queue.put(place)

    def device(self) -> Steps:
        while True:
            request = self.queue.get()
            try:
                place = yield request
            except simpy.Interrupt:
                # A task may have been assigned in the same moment.
                if request.triggered:
                    self.queue.put(request.value)
                else:
                    request.cancel()
                yield from self.repaired()
                continue
            started = self.env.now
            try:
                yield from self.message()
                started = self.env.now
                self.tally.waits.setdefault(place, started - self.tasks[place].submitted_s)
                yield self.env.timeout(self.fleet.start_s + self.tasks[place].work_s)
                yield from self.message()
            except simpy.Interrupt:
                self.tally.losses += 1
                self.tally.lost_s += self.env.now - started
                self.env.process(self.submitted_again(place))
                yield from self.repaired()
                continue
            self.tally.done += 1
            if self.tally.done == len(self.tasks):
                self.finished.succeed()

    def message(self) -> Steps:
        with self.coordinator.request() as turn:
            yield turn
            self.tally.messages += 1
            yield self.env.timeout(self.fleet.message_s)

    def submitted_again(self, place: int) -> Steps:
        yield self.env.timeout(self.fleet.notice_s)
        self.queue.put(place)

    def failures(self, group: Sequence[simpy.Process]) -> Steps:
        while True:
            yield self.env.timeout(self.draw.expovariate(1 / self.fleet.failure_s))
            for device in group:
                device.interrupt()
            yield self.env.timeout(self.fleet.repair_s)

    def repaired(self) -> Steps:
        self.tally.repairs.append(self.env.now)
        yield self.env.timeout(self.fleet.repair_s)

    def outcome(self) -> Outcome:
        end, tally, fleet = self.env.now, self.tally, self.fleet
        useful_s = math.fsum(task.work_s for task in self.tasks)
        start_s = fleet.start_s * len(self.tasks)
        down_s = math.fsum(min(fleet.repair_s, end - began) for began in tally.repairs)
        spent_s = useful_s + start_s + tally.lost_s + down_s
        return Outcome(
            makespan_s=end,
            useful_s=useful_s,
            start_s=start_s,
            lost_s=tally.lost_s,
            down_s=down_s,
            idle_s=fleet.devices * end - spent_s,
            losses=tally.losses,
            coordinator_s=tally.messages * fleet.message_s,
            wait_s=math.fsum(tally.waits.values()) / len(self.tasks),
        )


def erlang_wait(servers: int, offered: float) -> float:
    """The mean wait where tasks come at random, as a multiple of a task's mean length.

    Lengths are exponential; `offered` of the servers are busy on average (M/M/c, Erlang's C).
    """
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = offered * blocked / (count + offered * blocked)
    load = offered / servers
    return blocked / (1 - load * (1 - blocked)) / (servers - offered)


def simulated(fleet: Fleet, tasks: Sequence[Task], seed: int = 0) -> Outcome:
    """Run all tasks on a fleet."""
    return _Simulation(fleet, tasks, seed).run()
