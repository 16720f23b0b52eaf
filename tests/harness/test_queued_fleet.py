"""The simulation behind docs/scale.md keeps the laws of queueing and of restarts."""

import heapq
import math
import random
from dataclasses import replace

import pytest
from queued_fleet import Fleet, Task, erlang_wait, simulated


def equal(count, work_s):
    return [Task(work_s)] * count


def test_without_failures_equal_tasks_run_in_rounds():
    found = simulated(Fleet(4, start_s=2), equal(10, 5))
    assert found.makespan_s == 3 * (2 + 5)
    assert (found.useful_s, found.start_s) == (50, 20)
    assert found.idle_s == 4 * 21 - 70
    assert (found.lost_s, found.down_s, found.losses, found.coordinator_s) == (0, 0, 0, 0)
    assert found.wait_s == (4 * 0 + 4 * 7 + 2 * 14) / 10


def test_a_task_takes_two_messages_and_the_coordinator_one_at_a_time():
    alone = simulated(Fleet(1, start_s=2, message_s=1), equal(3, 5))
    assert alone.makespan_s == 3 * (1 + 2 + 5 + 1)
    # The last of 100 devices gets its task after 100 messages, and nobody waits at the end.
    many = simulated(Fleet(100, message_s=1), equal(100, 500))
    assert many.makespan_s == 100 + 500 + 1
    assert many.coordinator_s == 200
    # Short tasks: the coordinator is never idle, whatever the devices do.
    short = simulated(Fleet(100, message_s=1), equal(1000, 5))
    assert short.coordinator_s == 2000
    assert 2000 <= short.makespan_s < 2010


@pytest.mark.parametrize("repair_s", [0, 3])
def test_a_task_that_starts_again_after_a_failure_takes_as_long_as_theory_says(repair_s):
    """(e^(t/m) - 1)(m + r) for a task of t, failures each m on average and a repair of r."""
    fleet = Fleet(1, start_s=4, failure_s=10, repair_s=repair_s)
    found = simulated(fleet, equal(20_000, 6))
    assert found.makespan_s / 20_000 == pytest.approx(math.expm1(1) * (10 + repair_s), rel=0.03)
    assert found.losses / 20_000 == pytest.approx(math.expm1(1), rel=0.03)


def arrivals(offered, count):
    draw, now, tasks = random.Random(1), 0.0, []
    for _ in range(count):
        now += draw.expovariate(offered)
        tasks.append(Task(draw.expovariate(1), now))
    return tasks


@pytest.mark.parametrize(("servers", "offered"), [(1, 0.95), (3, 2.4), (8, 9)])
def test_a_task_waits_for_the_first_device_that_is_free(servers, offered):
    tasks, free, waits = arrivals(offered, 3_000), [0.0] * servers, []
    for task in tasks:
        start_s = max(heapq.heappop(free), task.submitted_s)
        heapq.heappush(free, start_s + task.work_s)
        waits.append(start_s - task.submitted_s)
    assert simulated(Fleet(servers), tasks).wait_s == pytest.approx(math.fsum(waits) / 3_000)


@pytest.mark.parametrize(("servers", "offered"), [(1, 0.5), (2, 1.2), (3, 1.8)])
def test_random_arrivals_wait_as_erlang_says(servers, offered):
    found = simulated(Fleet(servers), arrivals(offered, 40_000))
    assert found.wait_s == pytest.approx(erlang_wait(servers, offered), rel=0.1)


def test_erlangs_wait_is_that_of_one_and_of_two_servers():
    """By hand: load / (1 - load) for one; load^2 / (1 - load^2) for two."""
    assert erlang_wait(1, 0.9) == pytest.approx(9)
    assert erlang_wait(2, 1.6) == pytest.approx(0.64 / 0.36)
    assert erlang_wait(1000, 950) < 0.01


FAILING = Fleet(16, start_s=3, message_s=0.01, group=8, failure_s=200, repair_s=20, notice_s=5)


def test_every_device_second_is_accounted_for_and_every_task_ends():
    found = simulated(FAILING, equal(500, 10))
    assert found.losses > 20
    parts = found.useful_s, found.start_s, found.lost_s, found.down_s, found.idle_s
    assert math.fsum(parts) == pytest.approx(16 * found.makespan_s)
    assert all(part > 0 for part in parts)
    assert (found.useful_s, found.start_s) == (5000, 1500)
    # No task is lost for longer than it takes, or than the coordinator keeps it.
    assert found.lost_s < found.losses * (13 + 16 * 0.02)


def test_a_host_takes_all_of_its_tasks_with_it():
    alike = replace(FAILING, message_s=0, notice_s=0, repair_s=0)
    assert simulated(alike, equal(1600, 10)).losses % 8 == 0
    alone = simulated(replace(alike, group=1), equal(1600, 10))
    assert alone.losses % 8 != 0


def test_a_loss_that_is_noticed_late_is_repeated_late():
    """One task on 100 devices: one that fails in its 10 s is followed by one that does not."""
    fleet = Fleet(100, failure_s=30, repair_s=1e9)
    seed = next(s for s in range(100) if simulated(fleet, equal(1, 10), s).losses == 1)
    soon = simulated(fleet, equal(1, 10), seed)
    late = simulated(replace(fleet, notice_s=0.5), equal(1, 10), seed)
    assert late.losses == 1
    assert late.makespan_s == pytest.approx(soon.makespan_s + 0.5)


def test_a_seed_decides_everything():
    tasks = equal(300, 10)
    assert simulated(FAILING, tasks, 1) == simulated(FAILING, tasks, 1)
    assert simulated(FAILING, tasks, 1) != simulated(FAILING, tasks, 2)
