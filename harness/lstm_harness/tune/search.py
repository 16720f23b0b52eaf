"""How `lstm-bench tune` searches: key by key; it measures every choice and keeps a proven one.

A key's candidates are measured with few samples, the best of them again with more, and the best of
those is set against the backend's own choice in fresh processes, A B B A; it is kept where it is
faster beyond noise and by a margin worth having. The measuring object is an argument, so that the
search runs without a device too. A candidate that is wrong, crashes, hangs or runs out of memory
costs only itself.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lstm_harness.model.case import Case
from lstm_kernels.tuning import Choice as Choice

# A time or a ratio, and the ends of its 95% interval: None if too few processes measured it.
Interval = tuple[float, float | None, float | None]

# The default axes. T is short: no choice depends on it.
DEFAULT_AXES = {
    "axis_hidden": "128,256,512,768,1024,2048",
    "axis_dtype": "float16,bfloat16,float32",
    "axis_batch": "16,64,1",
    "axis_seq_len": "64",
}
SETTINGS = ("device", "threads", "cell_timeout_s", "time_budget_s", "seed")
DEFAULT_BUDGET_S = 300.0

# Seconds of samples: of every candidate, of the best ones, of each side of a round of the duel.
SHORT_S = 0.2
LONG_S = 0.5
# This many of the best are measured again, of those that may still be faster.
FINALISTS = 3
STILL_IN_RACE = 1.05
# Fresh processes that measure both sides; which goes first, A B | B A | B A | A B.
ROUNDS = 4
ROUNDS_BEFORE_GIVING_UP = 2
OWN_GOES_FIRST = (True, False, False, True)
# A smaller gain is not worth an entry that differs from the table.
LEAST_GAIN = 0.02

# The sizes that are used most and gain most.
TELLING_DTYPES = ("float16", "bfloat16")
TELLING_HIDDEN = range(256, 1025)
TELLING_BATCHES = (16, 64)
# The size whose times are published, then those near it.
FIRST_HIDDEN = 768


@dataclass(frozen=True)
class TuningKey:
    """The key of a choice, the case that is measured for it, and the candidates.

    The first candidate is the backend's own choice.
    """

    name: str
    case: Case
    candidates: tuple[Choice, ...]

    @property
    def own(self) -> Choice:
        """The backend's own choice."""
        return self.candidates[0]


@dataclass(frozen=True)
class Measured:
    """The result of one measurement; a time only if `status` is ok."""

    status: str
    reason: str = ""
    median_ns: float = math.nan
    compile_ms: float = 0.0


class Device(Protocol):
    """Measures a choice, verified before and after."""

    def measure(self, key: TuningKey, choice: Choice, share_s: float) -> Measured:
        """Measure a choice, with about this many seconds of samples."""
        ...

    def renew(self, ahead: int) -> None:
        """Use a fresh process for this measurement; this many more will follow."""
        ...


@dataclass(frozen=True)
class Failure:
    """A choice that could not be kept because it is wrong, or does not run."""

    choice: Choice
    status: str
    reason: str


@dataclass(frozen=True)
class Finding:
    """The result for a key.

    `status` is tuned, kept (the backend's own choice is), or what the backend's own choice failed
    with. Times in µs; `ratio` is the time of the best other choice over the own one's, where it
    came to a duel. `tuning_s` is the total time of the key, `compile_s` the part for compiling.
    """

    key: TuningKey
    status: str
    reason: str = ""
    choice: Choice | None = None
    own_us: Interval | None = None
    tuned_us: Interval | None = None
    ratio: Interval | None = None
    tried: int = 0
    failures: tuple[Failure, ...] = ()
    tuning_s: float = 0.0
    compile_s: float = 0.0

    @property
    def is_result(self) -> bool:
        """Whether there is a result to store."""
        return self.status in ("tuned", "kept")


class OutOfTime(Exception):  # noqa: N818 - not an error: how a search ends
    """The time is spent; the current measurement is dropped."""


@dataclass
class Stopwatch:
    """The time that a search may take, and the part spent on compiling."""

    budget_s: float
    now: Callable[[], float] = time.monotonic
    compile_s: float = 0.0
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.now()

    @property
    def spent_s(self) -> float:
        """The time since the search began."""
        return self.now() - self.started

    @property
    def left_s(self) -> float:
        """The time until the search must end."""
        return self.budget_s - self.spent_s


Tell = Callable[[TuningKey, str], None]


def in_order(keys: Sequence[TuningKey]) -> list[TuningKey]:
    """The most useful keys first: those that a short search should cover."""
    return sorted(keys, key=_rank)


def _rank(key: TuningKey) -> tuple[Any, ...]:
    problem = key.case.problem
    dtypes, batches = TELLING_DTYPES, TELLING_BATCHES
    is_telling = (
        problem.dtype in dtypes
        and problem.hidden_size in TELLING_HIDDEN
        and problem.batch in batches
    )
    return (
        not is_telling,
        dtypes.index(problem.dtype) if problem.dtype in dtypes else len(dtypes),
        batches.index(problem.batch) if problem.batch in batches else len(batches),
        abs(math.log2(problem.hidden_size / FIRST_HIDDEN)),
    )


def search(
    keys: Sequence[TuningKey],
    device: Device,
    watch: Stopwatch,
    tell: Tell = lambda key, doing: None,
) -> Iterator[Finding]:
    """Search a choice for each key, in order, until the time is spent; yield each result."""
    for key in keys:
        if watch.left_s <= 0:
            return
        try:
            yield _Search(key, device, watch, tell).finding()
        except OutOfTime:
            return


@dataclass
class _Search:
    """The search for one key."""

    key: TuningKey
    device: Device
    watch: Stopwatch
    tell: Tell
    failures: list[Failure] = field(default_factory=list)
    before_s: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        self.before_s = self.watch.spent_s, self.watch.compile_s

    def finding(self) -> Finding:
        count = len(self.key.candidates)
        own = self._measure(self.key.own, SHORT_S, f"candidate 1 of {count}")
        if own.status != "ok":
            return self._found(own.status, reason=own.reason)
        short = [
            (self._time(choice, SHORT_S, f"candidate {number} of {count}"), choice)
            for number, choice in enumerate(self.key.candidates[1:], 2)
        ]
        best = _best(short, STILL_IN_RACE * own.median_ns)[:FINALISTS]
        if not best:
            return self._found("kept", own_us=_us(own.median_ns))
        own = self._measure(self.key.own, LONG_S, "its own choice again")
        if own.status != "ok":
            return self._found(own.status, reason=own.reason)
        long = [(self._time(choice, LONG_S, "the best again"), choice) for choice in best]
        best = _best(long, (1 - LEAST_GAIN / 2) * own.median_ns)
        return self._duel(best[0]) if best else self._found("kept", own_us=_us(own.median_ns))

    def _duel(self, other: Choice) -> Finding:
        """The own choice against the best other one, both in each of a few fresh processes."""
        owns: list[float] = []
        others: list[float] = []
        for number in range(ROUNDS):
            self.device.renew(ahead=ROUNDS)
            doing = f"duel, round {number + 1} of {ROUNDS}"
            sides = {True: self.key.own, False: other}
            order = (True, False) if OWN_GOES_FIRST[number % len(OWN_GOES_FIRST)] else (False, True)
            times: dict[bool, float] = {}
            for is_own in order:
                measured = self._measure(sides[is_own], LONG_S, doing)
                if measured.status != "ok" and is_own:
                    return self._found(measured.status, reason=measured.reason)
                if measured.status != "ok":
                    self._failed(other, measured)
                    return self._found("kept", own_us=_us(owns[0]) if owns else None)
                times[is_own] = measured.median_ns
            owns.append(times[True])
            others.append(times[False])
            ratio = ratio_of(others, owns)
            if number + 1 == ROUNDS_BEFORE_GIVING_UP and ratio[0] > 1 - LEAST_GAIN:
                break
        faster = is_faster(ratio) and len(owns) == ROUNDS
        return self._found(
            "tuned" if faster else "kept",
            choice=other if faster else None,
            own_us=_us(*owns),
            tuned_us=_us(*others) if faster else None,
            ratio=ratio,
        )

    def _time(self, choice: Choice, share_s: float, doing: str) -> float:
        """The median of a choice; infinite for one that failed."""
        measured = self._measure(choice, share_s, doing)
        if measured.status != "ok":
            self._failed(choice, measured)
            return math.inf
        return measured.median_ns

    def _measure(self, choice: Choice, share_s: float, doing: str) -> Measured:
        if self.watch.left_s <= 0:
            raise OutOfTime
        self.tell(self.key, doing)
        measured = self.device.measure(self.key, choice, share_s)
        self.watch.compile_s += measured.compile_ms / 1e3
        return measured

    def _failed(self, choice: Choice, measured: Measured) -> None:
        self.failures.append(Failure(choice, measured.status, measured.reason))

    def _found(self, status: str, **fields: Any) -> Finding:
        return Finding(
            self.key,
            status,
            tried=len(self.key.candidates),
            failures=tuple(self.failures),
            tuning_s=self.watch.spent_s - self.before_s[0],
            compile_s=self.watch.compile_s - self.before_s[1],
            **fields,
        )


def _best(timed: Sequence[tuple[float, Choice]], most_ns: float) -> list[Choice]:
    """The measurements that are not slower than that, fastest first."""
    places = sorted(range(len(timed)), key=lambda place: timed[place][0])
    return [timed[place][1] for place in places if timed[place][0] <= most_ns]


def is_faster(ratio: Interval) -> bool:
    """Whether a ratio of times is below 1 beyond noise, and by a margin worth having."""
    mid, _, high = ratio
    return high is not None and high < 1 and mid <= 1 - LEAST_GAIN


def ratio_of(new: Sequence[float], base: Sequence[float]) -> Interval:
    """The ratio of paired times, their geometric mean, with a 95% interval (t on logarithms)."""
    return _interval([math.log(a / b) for a, b in zip(new, base, strict=True)])


def _us(*times_ns: float) -> Interval:
    """The geometric mean of processes' medians, in µs, with an interval from three of them on."""
    return _interval([math.log(time_ns / 1e3) for time_ns in times_ns])


def _interval(logs: Sequence[float]) -> Interval:
    from lstm_harness.analysis.statistics import mean_interval  # scipy, which --help does without

    mean, low, high = mean_interval(logs)
    if math.isnan(low):
        return math.exp(mean), None, None
    return math.exp(mean), math.exp(low), math.exp(high)
