"""What will run: every (backend, case) in a fixed order, and each skip with its reason."""

import itertools
import random
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lstm_harness.model.case import Case
from lstm_harness.model.errors import UserError
from lstm_harness.model.oracle_cost import rows_to_answer
from lstm_harness.model.part import Part
from lstm_harness.model.spec import MOST_BLOCKS, Spec
from lstm_harness.model.typed import Stored, built
from lstm_kernels.problem import Problem

# A grid of at most this many cases is measured in one wave, even if that takes longer than the time
# budget.
ONE_WAVE = 32
# A cell's share of a block if no time budget is given.
DEFAULT_SHARE_S = 0.5
# What a plan's time is estimated from, on any machine: a rate that small products reach, the cost
# of one step of an eager Python loop, and of starting a block's workers. A guess, shown as one.
GUESSED_FLOPS = {"cpu": 2e10, "cuda": 5e12}
GUESSED_STEP_S = 50e-6
GUESSED_START_S = 2.0
# About how many elements of [T, B, H] an eager loop keeps for its backward.
SAVED_PER_STEP = 20


@dataclass(frozen=True)
class Skip:
    """A cell of the grid that will not be measured, and why; it still gets its records."""

    status: str
    reason: str


@dataclass(frozen=True)
class PlannedCell:
    """One cell of the grid in one block; `order` is its place in the run."""

    order: int
    block: int
    backend: str
    case: Case
    skip: Skip | None


@dataclass(frozen=True)
class Plan:
    """Everything a run will do.

    `skips` maps (backend, case) to the reason; `absent` maps a backend that nobody asked for by
    name, or a plugin, to the reason why it does not run. `blocks_by_case` says how many blocks each
    case has, where they do not all have as many; `blocks` is then the most. `whole_cases` is how
    many cases the whole plan has that this is a piece of; 0 where this is the whole.
    """

    backends: tuple[str, ...]
    cases: tuple[Case, ...]
    blocks: int
    device: str
    skips: dict[tuple[str, Case], Skip]
    absent: dict[str, str]
    estimated_s: float = 0.0
    estimated_bytes: int = 0
    blocks_by_case: tuple[int, ...] = ()
    whole_cases: int = 0

    @property
    def planned_records(self) -> int:
        """The records of the finished run: one for each backend, case and block."""
        return self.records_of(None)

    def records_of(self, part: Part | None) -> int:
        """The records of the finished run of a part; None for the whole."""
        if part:
            return len(self.backends) * len(part.cases) * len(part.blocks)
        return len(self.backends) * sum(map(self.blocks_of, range(len(self.cases))))

    def blocks_of(self, place: int) -> int:
        """How many blocks the case at this place has."""
        return self.blocks_by_case[place] if self.blocks_by_case else self.blocks

    def cells(self, part: Part | None = None) -> frozenset[tuple[int, Case]]:
        """Every (block, case) of the plan, or of a part of it.

        Raises:
            ValueError: the part has something that is not in the plan.
        """
        places = range(len(self.cases))
        whole = {(block, place) for place in places for block in range(self.blocks_of(place))}
        wanted = set(itertools.product(part.blocks, part.cases)) if part else whole
        if foreign := sorted(wanted - whole):
            block, place = foreign[0]
            raise ValueError(
                f"the part has case {place} in block {block}; the plan has {len(self.cases)} cases "
                f"in up to {self.blocks} blocks"
            )
        return frozenset((block, self.cases[place]) for block, place in wanted)

    def block_order(
        self, seed: int, block: int, cases: Sequence[Case] | None = None
    ) -> Iterator[PlannedCell]:
        """The cells of a block: cases in seeded random order, and within a case the backends.

        Args:
            cases: some of the plan's that have this block; None for all of these.
        """
        if cases is None:
            places = enumerate(self.cases)
            cases = [case for place, case in places if block < self.blocks_of(place)]
        shuffle = random.Random(f"{seed}/{block}")
        first = block * len(self.backends) * len(cases)
        pairs = [
            (backend, case)
            for case in shuffle.sample(cases, len(cases))
            for backend in shuffle.sample(self.backends, len(self.backends))
        ]
        for place, (backend, case) in enumerate(pairs):
            yield PlannedCell(first + place, block, backend, case, self.skips.get((backend, case)))

    def with_blocks(self, pairs: Iterable[tuple[int, int]]) -> "Plan":
        """The plan with more blocks of some cases.

        Args:
            pairs: places of cases, each with the number of a block; a case's own go on from those
                that it has.
        """
        counts = [self.blocks_of(place) for place in range(len(self.cases))]
        for place, block in pairs:
            counts[place] = max(counts[place], block + 1)
        return replace(self, blocks=max(counts), blocks_by_case=tuple(counts))

    def of_cases(self, places: Sequence[int]) -> "Plan":
        """The plan of only the cases at these places."""
        cases = tuple(self.cases[place] for place in places)
        cells = [cell for cell in itertools.product(self.backends, cases) if cell in self.skips]
        counts = tuple(map(self.blocks_of, places))
        return replace(
            self,
            cases=cases,
            skips={cell: self.skips[cell] for cell in cells},
            blocks=max(counts, default=self.blocks),
            blocks_by_case=counts if self.blocks_by_case else (),
        )

    def only(self, backends: Collection[str], labels: Collection[str]) -> "Plan":
        """The plan of only these backends and the cases with these labels."""
        named = tuple(name for name in self.backends if name in backends)
        places = [place for place, case in enumerate(self.cases) if case.label() in labels]
        skips = {(name, case): skip for (name, case), skip in self.skips.items() if name in named}
        return replace(self, backends=named, skips=skips).of_cases(places)

    def broken(self, plugins: Iterable[str]) -> list[str]:
        """Which of the plugins that were asked for cannot be imported."""
        return [source for source in plugins if source in self.absent]

    def to_dict(self) -> dict[str, Any]:
        """The plan as run.json stores it; a skip names its case by its index."""
        index = {case: number for number, case in enumerate(self.cases)}
        skips = [
            {"backend": backend, "case": index[case], "status": skip.status, "reason": skip.reason}
            for (backend, case), skip in self.skips.items()
        ]
        return {
            "backends": list(self.backends),
            "cases": [case.to_dict() for case in self.cases],
            "blocks": self.blocks,
            "device": self.device,
            "skips": skips,
            "absent": [{"backend": b, "reason": reason} for b, reason in self.absent.items()],
            "planned_records": self.planned_records,
            "estimated_s": self.estimated_s,
            "estimated_bytes": self.estimated_bytes,
            **({"blocks_by_case": list(self.blocks_by_case)} if self.blocks_by_case else {}),
            **({"whole_cases": self.whole_cases} if self.whole_cases else {}),
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Plan":
        """The plan of a run.json.

        Raises:
            KeyError, TypeError, ValueError: it is not one; the message says which field.
        """
        plan: _StoredPlan = built(stored, _StoredPlan, "plan")
        skips = {
            (skip.backend, plan.cases[skip.case]): Skip(skip.status, skip.reason)
            for skip in plan.skips
        }
        return cls(
            backends=plan.backends,
            cases=plan.cases,
            blocks=plan.blocks,
            device=plan.device,
            skips=skips,
            absent={entry.backend: entry.reason for entry in plan.absent},
            estimated_s=plan.estimated_s,
            estimated_bytes=plan.estimated_bytes,
            blocks_by_case=plan.blocks_by_case,
            whole_cases=plan.whole_cases,
        )


@dataclass(frozen=True)
class _StoredSkip(Stored):
    backend: str
    case: int
    status: str
    reason: str

    def __post_init__(self) -> None:
        if self.case < 0:
            raise ValueError(f"case {self.case} of a skip; expected its place among the cases")


@dataclass(frozen=True)
class _StoredAbsent(Stored):
    backend: str
    reason: str


@dataclass(frozen=True)
class _StoredPlan(Stored):
    backends: tuple[str, ...]
    cases: tuple[Case, ...]
    blocks: int
    device: str
    skips: tuple[_StoredSkip, ...]
    absent: tuple[_StoredAbsent, ...]
    planned_records: int
    estimated_s: float
    estimated_bytes: int
    blocks_by_case: tuple[int, ...] = ()
    whole_cases: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.blocks <= MOST_BLOCKS:
            raise ValueError(f"{self.blocks} blocks; expected 1 to {MOST_BLOCKS}")
        if self.whole_cases and self.whole_cases < len(self.cases):
            raise ValueError(
                f"whole_cases is {self.whole_cases}; expected {len(self.cases)} or more"
            )
        by_case = self.blocks_by_case
        if not by_case:
            return
        if len(by_case) != len(self.cases) or min(by_case) < 1 or max(by_case) != self.blocks:
            raise ValueError(
                f"blocks_by_case is {list(by_case)}; expected a number for each of "
                f"{len(self.cases)} cases, from 1 to {self.blocks}, which is the most"
            )


def estimate_s(spec: Spec, backends: int, cases: tuple[Case, ...]) -> float:
    """Roughly how long a run takes: its budget, if it has one.

    A grid that is small enough for one wave is measured as a whole, with the fewest samples at
    least.
    """
    fewest = sum(spec.min_samples * _guess_pass_s(case) for case in cases) * backends * spec.blocks
    starts = spec.blocks * backends * GUESSED_START_S
    if spec.time_budget_s is not None:
        overruns = starts + fewest if len(cases) <= ONE_WAVE else 0.0
        return max(spec.time_budget_s, overruns)
    shares = DEFAULT_SHARE_S * len(cases) * backends * spec.blocks
    return starts + max(shares, fewest)


def estimate_bytes(problem: Problem, device: str) -> int:
    """The most memory that one cell needs, including the float64 answer that is made for it."""
    rows = rows_to_answer(problem, device)
    answered = problem.batch if rows is None else len(rows)
    return _own_bytes(problem) + _bytes_of_training(problem, answered, sets=2) * 8


def too_large(cases: tuple[Case, ...], device: str, free_bytes: int) -> dict[Problem, Skip]:
    """The problems that this machine has no room for, each with the estimate.

    Raises:
        UserError: there is room for none of them.
    """
    skips = {}
    problems = tuple(dict.fromkeys(case.problem for case in cases))
    for problem in problems:
        # The first figure needs no list of lengths, which would not fit in memory for a huge batch.
        for needs in (_own_bytes, lambda p: estimate_bytes(p, device)):
            if needs(problem) > free_bytes:
                room = f"needs about {_gib(needs(problem))}; {device} has {_gib(free_bytes)} free"
                skips[problem] = Skip("out_of_memory", f"not tried: {problem.label()} {room}")
                break
    if problems and len(skips) == len(problems):
        reason = next(iter(skips.values())).reason.removeprefix("not tried: ")
        raise UserError(f"{reason}: take a smaller --seq-len, --batch or --hidden")
    return skips


def _own_bytes(problem: Problem) -> int:
    """Three input sets and what a loop saves for its backward."""
    return _bytes_of_training(problem, problem.batch, sets=3) * problem.element_bytes


def _bytes_of_training(problem: Problem, batch: int, sets: int) -> int:
    steps = problem.seq_len * batch
    edges = problem.input_size + problem.directions * problem.state_size
    saved = SAVED_PER_STEP * problem.num_layers * problem.directions * problem.hidden_size
    return steps * (sets * edges + saved) + 3 * problem.parameter_count()


def _guess_pass_s(case: Case) -> float:
    problem = case.problem
    loop = problem.seq_len * problem.num_layers * problem.directions * GUESSED_STEP_S
    return problem.flops(case.pass_name) / GUESSED_FLOPS[case.device] + loop


def _gib(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB"
