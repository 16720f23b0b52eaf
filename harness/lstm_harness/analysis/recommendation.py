"""From a run to a recommendation: the backend for a program with these calls, and its saving.

A backend's time is the sum over all calls of their case's time, in each block. Two backends are
paired by block, and they tie if the interval of their ratio includes 1, as two
cells of a run do (`analysis.ratios`). A backend that did not run every measured case is out.

torch.nn's own choice is cuDNN on CUDA, if cuDNN runs the case, else PyTorch's native path. It is
recommended if it ties with the fastest.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from lstm_harness.analysis.ratios import Ratio, of_times
from lstm_harness.analysis.record_columns import values_of
from lstm_harness.analysis.summary import CASE_COLUMNS, plain_rows, summarise
from lstm_harness.model.case import Case
from lstm_harness.model.plan import Plan
from lstm_harness.model.record import Record
from lstm_harness.model.spec import Spec, Use
from lstm_kernels.measured import own_on

# The name of torch.nn's choice if it is not the same backend in every case.
OWN_MIXED = "torch.nn"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Standing:
    """A backend that ran every case: the time of all calls, and torch.nn's over it."""

    backend: str
    total_ns: float
    ratio: Ratio | None


@dataclass(frozen=True)
class Part:
    """The result for one layer's calls of one case.

    Attributes:
        own: torch.nn's choice there, None if it did not run; `own_ns` is its time of one call.
        share: the part that these calls have of all of torch.nn's time.
        advised_ns: one call's time with the recommended backend.
        ratio: torch.nn's time over that.
        alone: the fastest backend that is faster here, beyond noise, than the recommended one;
            `alone_ratio` is the time of the recommended backend over its time.
    """

    use: Use
    own: str | None = None
    own_ns: float | None = None
    share: float | None = None
    advised_ns: float | None = None
    ratio: Ratio | None = None
    alone: str | None = None
    alone_ratio: Ratio | None = None


@dataclass(frozen=True)
class Advice:
    """Which backend to use.

    Attributes:
        backend: None if no backend ran every case.
        own: torch.nn's own choice; None if it did not run every case.
        own_ns, advised_ns: the time of all calls; None if unknown.
        standings: the backends that ran every case, fastest first.
        refused: the backends that did not, each with the reason.
        unmeasured: cases without a record of any backend.
    """

    backend: str | None
    own: str | None
    own_ns: float | None
    advised_ns: float | None
    standings: tuple[Standing, ...]
    parts: tuple[Part, ...]
    refused: Mapping[str, str]
    unmeasured: tuple[Use, ...]


def recommended(spec: Spec, plan: Plan, records: Iterable[Record]) -> Advice:
    """The recommendation of a run.

    Raises:
        UserError: its spec is impossible, such as an edited one.
    """
    return _Race(plain_rows(summarise(records)), spec.uses(plan.device), plan).advice()


class _Race:
    """The rows of a run's Summary, by backend and case, and the calls that weight them."""

    def __init__(self, rows: Iterable[Row], uses: Sequence[Use], plan: Plan) -> None:
        self._cells = {(row["backend"], tuple(row[n] for n in CASE_COLUMNS)): row for row in rows}
        measured = {key for _, key in self._cells}
        self._backends = plan.backends
        self._uses = [use for use in uses if values_of(use.case) in measured]
        self._unmeasured = tuple(use for use in uses if values_of(use.case) not in measured)
        candidates = own_on(plan.device)
        self._own = {use.case: self._own_on(use.case, candidates, plan) for use in self._uses}

    def advice(self) -> Advice:
        """The recommended backend, and all reasons for it."""
        refused = {name: why for name in self._backends if (why := self._refusal(name))}
        own_total = self._total(lambda case: self._own[case])
        totals = {name: self._total_of(name) for name in self._backends if name not in refused}
        whole = {name: total for name, total in totals.items() if total}
        order = sorted(whole, key=lambda name: (whole[name]["median_ns"], name))
        ratios = _ratios([(own_total, whole[name]) for name in order])
        names = set(self._own.values())
        own = None
        if own_total:
            own = next(iter(names)) if len(names) == 1 else OWN_MIXED
        keeps = own is not None and not (ratios and ratios[0] and _is_saving(ratios[0]))
        backend = own if keeps else next(iter(order), None)
        total = own_total if keeps else whole.get(backend or "")
        return Advice(
            backend=backend,
            own=own,
            own_ns=own_total["median_ns"] if own_total else None,
            advised_ns=total["median_ns"] if total else None,
            standings=tuple(
                Standing(name, whole[name]["median_ns"], ratio)
                for name, ratio in zip(order, ratios, strict=True)
            ),
            parts=self._parts(backend),
            refused=refused,
            unmeasured=self._unmeasured,
        )

    def _own_on(self, case: Case, candidates: Sequence[str], plan: Plan) -> str | None:
        """torch.nn's own choice: the first that runs the case; None if one was not asked for."""
        for name in candidates:
            if self._row(name, case):
                return name
            if name not in plan.backends and name not in plan.absent:
                return None
        return None

    def _row(self, backend: str | None, case: Case) -> Row | None:
        """A backend's row on a case, if it has a time."""
        row = self._cells.get((backend or "", values_of(case)))
        return row if row and row["status"] == "ok" else None

    def _refusal(self, backend: str) -> str | None:
        """Why a backend is out: the first of the cases that it did not run."""
        missing = [use.case for use in self._uses if not self._row(backend, use.case)]
        if not missing:
            return None
        row = self._cells.get((backend, values_of(missing[0])))
        why = f"{row['status']}: {row['reason']}" if row else "not measured yet"
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        return f"{missing[0].label()}{more}: {why}"

    def _total_of(self, backend: str) -> Row | None:
        return self._total(lambda _: backend)

    def _total(self, who: Callable[[Case], str | None]) -> Row | None:
        """All calls together as a row, in the blocks that all have; None if a case is missing."""
        rows = [(use.calls, self._row(who(use.case), use.case)) for use in self._uses]
        times = [
            (calls, dict(zip(row["block_ids"], row["block_medians_ns"], strict=True)))
            for calls, row in rows
            if row
        ]
        if not rows or len(times) < len(rows):
            return None
        ids = [block for block in times[0][1] if all(block in each for _, each in times)]
        sums = [sum(calls * each[block] for calls, each in times) for block in ids]
        if not sums:
            return None
        return {"block_ids": ids, "block_medians_ns": sums, "median_ns": median(sums)}

    def _parts(self, backend: str | None) -> tuple[Part, ...]:
        """A part for each use, in the order of the suite."""
        parts = []
        owned = {use: self._row(self._own[use.case], use.case) for use in self._uses}
        spent = [use.calls * own["median_ns"] for use, own in owned.items() if own]
        whole_ns = sum(spent) if len(spent) == len(owned) else None
        for use, own in owned.items():
            own_name = self._own[use.case]
            chosen = own if backend == OWN_MIXED else self._row(backend, use.case)
            others = [row for name in self._backends if (row := self._row(name, use.case))]
            alone = min(others, key=lambda row: row["median_ns"], default=None)
            ratio, over_alone = _ratios([(own, chosen), (chosen, alone)])
            is_faster = bool(over_alone and over_alone.tie is False and over_alone.value > 1)
            parts.append(
                Part(
                    use,
                    own=own_name,
                    own_ns=own["median_ns"] if own else None,
                    share=use.calls * own["median_ns"] / whole_ns if own and whole_ns else None,
                    advised_ns=chosen["median_ns"] if chosen else None,
                    ratio=ratio,
                    alone=alone["backend"] if alone and is_faster else None,
                    alone_ratio=over_alone if is_faster else None,
                )
            )
        return tuple(parts)


def _is_saving(ratio: Ratio) -> bool:
    """Whether the one takes longer than the other, beyond noise if that is known."""
    return ratio.value > 1 and ratio.tie is not True


def _ratios(pairs: Sequence[tuple[Row | None, Row | None]]) -> list[Ratio | None]:
    """The first's time over the second's, for each pair; None if one of them has none."""
    whole = [(over, under) for over, under in pairs if over and under]
    known = iter(of_times(whole))
    return [next(known) if over and under else None for over, under in pairs]
