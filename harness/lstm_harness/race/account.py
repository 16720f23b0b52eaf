"""A cell's time by the harness's own clocks, compared with what its worker reported.

A worker runs only while it answers a request, so everything it does happens within a request:
preparing a sample, executing it, handing it over. What an honest worker does in addition to
executing is known and small. This shows work outside the two readings of the clock, a clock that
reports less time than has passed, and more threads than allowed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from statistics import median

from lstm_harness.race.process import Spent

# What a request takes in addition to its work: a message each way, resuming, waking up. About 0.2
# ms were measured (docs/method.md, What a backend can fake).
MESSAGE_NS = 400_000
# How much longer than its sample a request may take, as a part of the sample.
MOST_AROUND = 0.10
# Shorter samples could hide in that time. So some longer ones are taken, and must agree, except for
# the cost of more memory and of a neighbour.
SHORT_NS = 1_000_000
LONG_NS = 8_000_000
LONG_SAMPLES = 3
MOST_LONGER = 2.0
# How much longer samples may take when they are repeated.
MOST_SLOWER = 1.3
# No sample is made longer than that by repeats, whatever time its worker reports.
LONGEST_NS = 32_000_000
# All executions of a long sample are in memory at once.
MOST_NUMBERS = 1 << 24
MOST_THREADS_OVER = 0.10
# The time from a reply until its worker is stopped.
STOPPING_NS = 100_000
# The time that threads ran before they stopped, over all samples of a cell.
STOPPED_LATE_NS = 10_000_000
# The time to prepare an execution, or to report it: leaves, views, checks; and for each
# number drawn or copied.
EXECUTION_NS = 300_000
NUMBER_NS = 10
# How much preparing an execution may take in addition, as a part of its time.
MOST_BESIDE = 0.25


@dataclass
class Account:
    """The time that the requests of one cell took.

    Args:
        threads: how many its worker may have.
        numbers: about how many numbers an execution reads and makes: inputs, outputs, gradients.
        again: how many executions each sample holds, if samples are repeated: they are
            compared with the first ones.
    """

    threads: int
    numbers: int
    again: int | None = None
    _told_ns: list[int] = field(default_factory=list)
    _told_awake_ns: list[int] = field(default_factory=list)
    _around_ns: list[int] = field(default_factory=list)
    _executions_ns: list[int] = field(default_factory=list)
    _beside_ns: dict[str, list[float]] = field(default_factory=dict)
    _executing: list[Spent] = field(default_factory=list)
    _longer: list[tuple[int, int, Spent]] = field(default_factory=list)
    _executing_longer: list[Spent] = field(default_factory=list)

    def executed(self, told_ns: int, spent: Spent, together: Spent | None = None) -> None:
        """Add a sample: the time its worker reported, and the time the harness waited.

        Args:
            together: what it took, including the requests that were sent together with it.
        """
        self._told_ns.append(told_ns)
        self._told_awake_ns.append(told_ns - spent.waiting_ns)
        self._around_ns.append(_awake_ns(spent) - told_ns)
        self._executing.append(together or spent)

    def waited(self, repeats: int, waited_s: float) -> None:
        """Add the time waited for a sample of this many executions and its preparation."""
        self._executions_ns.append(round(waited_s / repeats * 1e9))

    def beside(self, what: str, executions: int, spent: Spent) -> None:
        """Add work that was not a sample, for this many executions."""
        per_execution = (_awake_ns(spent) - MESSAGE_NS) / executions
        self._beside_ns.setdefault(what, []).append(per_execution)

    @property
    def executing_ms(self) -> float:
        """How long the harness waited for all its samples together."""
        return sum(spent.wall_ns for spent in self._executing) / 1e6

    def most_repeats(self) -> int:
        """How many executions a sample may have, by the shortest wait for a sample."""
        return max(1, LONGEST_NS // max(1, min(self._executions_ns, default=1)))

    def repeats_longer(self, execution_ns: float, repeats: int) -> int | None:
        """How many executions a sample needs to hide nothing, if it has too few; else None."""
        if execution_ns * repeats >= SHORT_NS:
            return None
        most = max(1, MOST_NUMBERS // self.numbers)
        longer = min(ceil(LONG_NS / max(1.0, execution_ns)), most)
        return longer if longer > repeats else None

    def longer(
        self, told_ns: int, repeats: int, spent: Spent, together: Spent | None = None
    ) -> None:
        """Add a longer sample, separate from those that count; see `executed`."""
        self._longer.append((told_ns, repeats, spent))
        self._executing_longer.append(together or spent)

    def doubt(self, execution_ns: float) -> str:
        """Why its times are not believed; empty if they are.

        Args:
            execution_ns: the time of one execution, by the samples.
        """
        return (
            self._unexplained()
            or self._slower_again(execution_ns)
            or self._too_short(execution_ns)
            or self._work_beside(execution_ns)
            or self._too_many_threads()
        )

    def _unexplained(self) -> str:
        told, around = median(self._told_ns), median(self._around_ns)
        if around > MESSAGE_NS + MOST_AROUND * told:
            return _waited_longer("its samples were", told, around)
        if self._longer:
            # One of them may have been disturbed.
            around, told = min((_awake_ns(spent) - told, told) for told, _, spent in self._longer)
            if around > MESSAGE_NS + MOST_AROUND * told:
                return _waited_longer("longer samples were", told, around)
        return ""

    def _slower_again(self, execution_ns: float) -> str:
        if self.again is None:
            return ""
        again_ns = median(self._told_awake_ns) / self.again
        if again_ns <= MOST_SLOWER * execution_ns:
            return ""
        told, again = f"{execution_ns / 1e6:.4f} ms", f"{again_ns / 1e6:.4f} ms"
        return f"an execution was reported to take {told}, but {again} when it was measured again"

    def _too_short(self, execution_ns: float) -> str:
        # A neighbour is more likely to disturb a long sample than a short one.
        longer_ns = min(
            ((told - spent.waiting_ns) / repeats for told, repeats, spent in self._longer),
            default=0.0,
        )
        if longer_ns <= MOST_LONGER * execution_ns:
            return ""
        return (
            f"an execution was reported to take {execution_ns / 1e6:.4f} ms, but "
            f"{longer_ns / 1e6:.4f} ms in longer samples"
        )

    def _work_beside(self, execution_ns: float) -> str:
        allowed = EXECUTION_NS + self.numbers * NUMBER_NS + MOST_BESIDE * execution_ns
        for what, spent in self._beside_ns.items():
            if median(spent) > allowed:
                return (
                    f"{what} an execution took {median(spent) / 1e6:.3f} ms, but the execution "
                    f"was reported to take {execution_ns / 1e6:.3f} ms: "
                    "work was done outside the samples"
                )
        return ""

    def _too_many_threads(self) -> str:
        # In short samples the messages hide extra threads.
        cores = max(_cores(self._executing), _cores(self._executing_longer))
        if cores <= self.threads * (1 + MOST_THREADS_OVER):
            return ""
        return f"it used {cores:.1f} cores at a time, but --threads is {self.threads}"


def _waited_longer(what: str, told: float, around: float) -> str:
    took, longer = f"{told / 1e6:.3f} ms", f"{around / 1e6:.3f} ms"
    return f"{what} reported to take {took}, but the harness waited {longer} longer for each"


def _cores(requests: Sequence[Spent]) -> float:
    """How many cores worked at a time, at least, over all these requests."""
    told = [(each.cpu_ns, each.wall_ns) for each in requests if each.cpu_ns is not None]
    wall_ns = sum(wall + STOPPING_NS for _, wall in told)
    return max(0, sum(cpu for cpu, _ in told) - STOPPED_LATE_NS) / max(1, wall_ns)


def _awake_ns(spent: Spent) -> int:
    """How long a request took, without the time that worker and harness waited for a core."""
    return spent.wall_ns - spent.waiting_ns
