"""What the harness's own clocks say of a cell's times: the honest are believed, others are not."""

import pytest

from lstm_harness.race.account import LONG_SAMPLES, LONGEST_NS, Account
from lstm_harness.race.process import Spent

# What a message each way takes, about, as measured.
MESSAGE_NS = 200_000
SAMPLES = 21


def work(wall_ns, cores=1.0):
    """A request that took so long beside its messages."""
    return Spent(wall_ns + MESSAGE_NS, round(cores * wall_ns) + MESSAGE_NS)


def told_by(
    execution_ns,
    told=lambda ns: ns,
    repeats=1,
    threads=1,
    numbers=10_000,
    preparing_ns=20_000,
    handing_ns=20_000,
    cores=1.0,
    samples=SAMPLES,
):
    """The doubt about samples of a pass, whose worker tells `told` of the time they took."""
    account = Account(threads, numbers)
    for _ in range(samples):
        account.beside("preparing", repeats, work(repeats * preparing_ns))
        took_ns = repeats * execution_ns
        account.executed(told(took_ns), work(took_ns, cores))
    account.beside("handing over", repeats, work(repeats * handing_ns))
    as_told_ns = told(repeats * execution_ns) / repeats
    longer = account.repeats_longer(as_told_ns, repeats)
    if longer:
        for _ in range(LONG_SAMPLES):
            took_ns = longer * execution_ns
            account.longer(told(took_ns), longer, work(took_ns, cores))
    return account.doubt(as_told_ns)


@pytest.mark.parametrize(
    ("execution_ns", "repeats"),
    [(1_000, 250), (50_000, 5), (250_000, 1), (1_000_000, 1), (20_000_000, 1), (10**10, 1)],
)
def test_an_honest_worker_is_not_doubted(execution_ns, repeats):
    assert told_by(execution_ns, repeats=repeats) == ""


@pytest.mark.parametrize("threads", [1, 2, 16])
def test_as_many_threads_as_it_may_have_are_no_doubt(threads):
    assert told_by(20_000_000, threads=threads, cores=threads) == ""


@pytest.mark.parametrize("numbers", [10_000, 10_000_000])
def test_drawing_and_copying_many_numbers_takes_its_time(numbers):
    copying_ns = 5 * numbers
    how = {"numbers": numbers, "preparing_ns": copying_ns, "handing_ns": copying_ns}
    assert told_by(1_000_000, **how) == ""


@pytest.mark.parametrize("execution_ns", [1_500_000, 20_000_000, 10**10])
def test_a_clock_that_tells_half_is_doubted(execution_ns):
    doubt = told_by(execution_ns, told=lambda ns: ns // 2)
    told_ms, longer_ms = execution_ns / 2e6, (execution_ns / 2 + MESSAGE_NS) / 1e6
    assert doubt == (
        f"its samples were reported to take {told_ms:.3f} ms, "
        f"but the harness waited {longer_ms:.3f} ms longer for each"
    )


# A sample holds so many executions that it is told to take a quarter of a millisecond at least.
@pytest.mark.parametrize("repeats", [1, 100])
@pytest.mark.parametrize(
    "part",
    [
        1.5,
        2,
        4,
    ],
)
def test_a_clock_that_tells_a_part_of_short_samples_is_doubted(repeats, part):
    execution_ns = round(part * 250_000 / repeats)
    assert told_by(execution_ns, told=lambda ns: round(ns / part), repeats=repeats)


@pytest.mark.parametrize(("execution_ns", "repeats"), [(1_000, 250), (250_000, 1)])
def test_what_short_samples_hide_longer_ones_show(execution_ns, repeats):
    # All of this goes on within the time that a message may take.
    hidden_ns = 150_000
    doubt = told_by(execution_ns, told=lambda ns: ns - hidden_ns, repeats=repeats)
    told_ms = (repeats * execution_ns - hidden_ns) / repeats / 1e6
    assert doubt.startswith(f"an execution was reported to take {told_ms:.4f} ms, but ")
    assert doubt.endswith(" ms in longer samples")


def test_longer_samples_are_asked_for_where_they_tell_more_and_fit_in_memory():
    account = Account(threads=1, numbers=1_000)
    assert account.repeats_longer(2_000_000, 1) is None
    assert account.repeats_longer(1_000, 1_000) is None
    assert account.repeats_longer(1_000, 250) == 8_000
    assert account.repeats_longer(300_000, 1) == 27
    large = Account(threads=1, numbers=1 << 23)
    assert large.repeats_longer(300_000, 1) == 2
    assert large.repeats_longer(300_000, 2) is None


def test_an_execution_that_is_a_little_slower_in_longer_samples_is_not_doubted():
    account = Account(threads=1, numbers=1_000)
    account.executed(300_000, work(300_000))
    account.longer(27 * 500_000, 27, work(27 * 500_000))
    assert account.doubt(300_000) == ""
    account.longer(27 * 450_000, 27, work(27 * 450_000))
    assert account.doubt(300_000) == ""


@pytest.mark.parametrize("what", ["preparing", "drawing gradients for", "handing over"])
@pytest.mark.parametrize("repeats", [1, 50])
def test_work_done_beside_the_samples_is_doubted(what, repeats):
    account = Account(threads=1, numbers=10_000)
    for _ in range(SAMPLES):
        account.executed(repeats * 100_000, work(repeats * 100_000))
        account.beside(what, repeats, work(repeats * 5_000_000))
    doubt = account.doubt(100_000)
    assert doubt.startswith(f"{what} an execution took ")
    assert doubt.endswith(
        " ms, but the execution was reported to take 0.100 ms: work was done outside the samples"
    )


@pytest.mark.parametrize("beside", ["executed", "preparing"])
def test_one_request_that_was_disturbed_is_no_doubt(beside):
    account = Account(threads=1, numbers=10_000)
    for number in range(SAMPLES):
        hiccup_ns = 50_000_000 if number == 7 else 0
        at_executing = hiccup_ns if beside == "executed" else 0
        account.executed(2_000_000, work(2_000_000 + at_executing))
        account.beside("preparing", 1, work(hiccup_ns - at_executing))
    assert account.doubt(2_000_000) == ""


@pytest.mark.parametrize(("threads", "cores"), [(1, 2.0), (2, 4.0), (1, 1.3)])
def test_more_threads_than_it_may_have_are_doubted(threads, cores):
    doubt = told_by(10**9, threads=threads, cores=cores)
    assert doubt == f"it used {cores:.1f} cores at a time, but --threads is {threads}"


@pytest.mark.parametrize(("execution_ns", "repeats"), [(1_000, 250), (250_000, 1)])
def test_more_threads_than_it_may_have_are_doubted_in_short_samples(execution_ns, repeats):
    assert told_by(execution_ns, repeats=repeats, cores=3.0, samples=400)


def test_where_nobody_tells_cpu_time_threads_are_not_counted():
    account = Account(threads=1, numbers=10_000)
    account.executed(2_000_000, Spent(2_100_000, None))
    account.beside("preparing", 1, Spent(200_000, None))
    assert account.doubt(2_000_000) == ""


def test_a_clock_is_held_to_its_word_where_nobody_tells_cpu_time():
    account = Account(threads=1, numbers=10_000)
    account.executed(2_000_000, Spent(4_100_000, None))
    assert account.doubt(2_000_000).endswith("the harness waited 2.100 ms longer for each")


def test_a_neighbour_that_takes_the_core_between_samples_is_no_doubt():
    account = Account(threads=1, numbers=10_000)
    for _ in range(SAMPLES):
        account.executed(2_000_000, work(2_000_000))
        account.beside("preparing", 1, Spent(3_000_000, None, waiting_ns=2_700_000))
    assert account.doubt(2_000_000) == ""


def test_a_neighbour_that_takes_the_core_in_longer_samples_is_no_doubt():
    account = Account(threads=1, numbers=1_000)
    account.executed(300_000, work(300_000))
    stalled_ns = 27 * 500_000
    told_ns = 27 * 300_000 + stalled_ns
    account.longer(told_ns, 27, Spent(told_ns + MESSAGE_NS, None, waiting_ns=stalled_ns))
    assert account.doubt(300_000) == ""


def test_samples_that_are_taken_once_more_are_held_against_what_was_told():
    for again_ns, waiting_ns, believed in (
        (2_500_000, 0, True),
        (4_000_000, 0, False),
        (4_000_000, 1_800_000, True),
    ):
        account = Account(threads=1, numbers=1_000, again=2)
        for _ in range(SAMPLES):
            spent = Spent(again_ns + MESSAGE_NS, None, waiting_ns)
            account.executed(again_ns, spent)
        took = "an execution was reported to take 1.0000 ms"
        said = f"{took}, but 2.0000 ms when it was measured again"
        assert account.doubt(1_000_000) == ("" if believed else said)


def test_no_sample_is_repeated_beyond_what_the_fastest_was_waited_for():
    account = Account(threads=1, numbers=10_000)
    account.waited(1, 0.001)
    assert account.most_repeats() == LONGEST_NS // 1_000_000
    account.waited(10, 0.1)
    assert account.most_repeats() == LONGEST_NS // 1_000_000
    account.waited(10, 0.001)
    assert account.most_repeats() == LONGEST_NS // 100_000
    slow = Account(threads=1, numbers=10_000)
    slow.waited(1, 1.0)
    assert slow.most_repeats() == 1
