"""Where a pass spends its time, as its backend notes it: see `lstm_kernels.phases`.

What notes is never a sample of a run. Executions that note and executions that do not take turns,
so that the cost of noting is known.
"""

import gc
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from lstm_harness.model.case import Case
from lstm_harness.model.protocol import PhasesTimed
from lstm_harness.model.text import duration, shorten
from lstm_harness.worker.executor import set_precision
from lstm_harness.worker.inputs import Inputs
from lstm_harness.worker.oracle import checked_inputs
from lstm_harness.worker.passes import Malformed, Pass, make_pass, refuse_malformed
from lstm_harness.worker.verify import judge, tolerance

# Executions of each kind: this many at least, more as long as there is time.
LEAST, MOST = 8, 2000
LONGEST_NAME = 40
MOST_PHASES = 40
# How far above the whole phases may add up to: events of a GPU are rounded.
ROUNDING = 1e-3


@dataclass(frozen=True)
class Execution:
    """What one execution took, and of that each phase."""

    whole_ns: float
    phases: dict[str, float]


@dataclass
class Notes:
    """What a backend notes of one execution after the other: a `lstm_kernels.phases.Note`.

    `stamp` takes the time, `between` tells the ns from one stamp to another; on a GPU these are
    events, whose times are known once the device is idle.
    """

    stamp: Callable[[], Any]
    between: Callable[[Any, Any], float]
    _began: Any = None
    _noted: list[tuple[Any, Any, Any]] = field(default_factory=list)

    def __call__(self, phase: Any, ns: Any = None) -> None:
        """Take a note; what is wrong with it is found later, when no time counts."""
        self._noted.append((phase, ns, self.stamp() if ns is None else None))

    def begin(self) -> None:
        """An execution begins."""
        self._noted = []
        self._began = self.stamp()

    def end(self) -> Execution:
        """The execution ends.

        Raises:
            Malformed: it noted what is not a phase, or more time than it took.
        """
        ended = self.stamp()
        noted, phases, told_ns, last = self._noted, dict[str, float](), 0.0, self._began
        whole_ns = self.between(self._began, ended)
        for phase, ns, stamped in noted:
            _refuse_name(phase)
            if ns is None:
                spent_ns = self.between(last, stamped) - told_ns
                told_ns, last = 0.0, stamped
            else:
                spent_ns = _checked(phase, ns)
                told_ns += spent_ns
            if spent_ns < 0:
                raise Malformed(f"it noted more time before the end of {phase!r} than there was")
            phases[phase] = phases.get(phase, 0.0) + spent_ns
        if len(phases) > MOST_PHASES:
            raise Malformed(f"it noted {len(phases)} phases; expected at most {MOST_PHASES}")
        if sum(phases.values()) > whole_ns * (1 + ROUNDING):
            noted_ns = duration(sum(phases.values()))
            raise Malformed(f"it noted {noted_ns} of an execution of {duration(whole_ns)}")
        return Execution(whole_ns, phases)


def time_phases(
    implementation: Any, case: Case, seed: int, device: str, time_s: float
) -> PhasesTimed:
    """Time a case with a backend's notes, and without.

    Args:
        implementation: what `registry.load` returns; it has `in_phases`.
        time_s: how long executions may take, in addition to the least there are.
    Raises:
        Malformed: with its notes the backend computes something else, or notes nothing, or what
            cannot be; also what the backend raises.
    """
    set_precision(case.problem)
    inputs = checked_inputs(case.problem, seed, device)
    if hasattr(implementation, "flatten"):
        implementation.flatten(inputs.weights, case.problem)
    notes = notes_on(device)
    plain = make_pass(implementation, case.problem, case.pass_name)
    noting = make_pass(implementation.in_phases(notes), case.problem, case.pass_name)
    _refuse_another_result(plain, noting, inputs, case)
    executions: dict[str, list[Execution]] = {"plain": [], "noting": []}
    gc.collect()
    gc.disable()
    try:
        until = time.perf_counter() + time_s
        done = 0
        while done < LEAST or (done < MOST and time.perf_counter() < until):
            executions["plain"].append(_executed(plain, inputs, notes))
            executions["noting"].append(_executed(noting, inputs, notes))
            done += 1
    finally:
        gc.enable()
    told, without = typical(executions["noting"]), typical(executions["plain"])
    if not told.phases:
        raise Malformed(f"it noted no phase of pass {case.pass_name}")
    return PhasesTimed(told.phases, told.whole_ns, without.whole_ns, done)


def notes_on(device: str) -> Notes:
    """Notes by the clock of a device."""
    if device == "cpu":
        return Notes(time.perf_counter_ns, lambda begin, end: end - begin)

    def event() -> Any:
        made = torch.cuda.Event(enable_timing=True)
        made.record()
        return made

    def between(begin: Any, end: Any) -> float:
        end.synchronize()
        return float(begin.elapsed_time(end)) * 1e6

    return Notes(event, between)


def typical(executions: list[Execution]) -> Execution:
    """The mean of the middle half, by the time of the whole: its phases still add up."""
    by_time = sorted(executions, key=lambda each: each.whole_ns)
    left_out = len(by_time) // 4
    middle = by_time[left_out : len(by_time) - left_out]
    names = dict.fromkeys(name for each in middle for name in each.phases)
    return Execution(
        sum(each.whole_ns for each in middle) / len(middle),
        {name: sum(e.phases.get(name, 0.0) for e in middle) / len(middle) for name in names},
    )


def _executed(the_pass: Pass, inputs: Inputs, notes: Notes) -> Execution:
    state = the_pass.prepare(inputs)
    notes.begin()
    the_pass.execute(state)
    return notes.end()


def _refuse_another_result(plain: Pass, noting: Pass, inputs: Inputs, case: Case) -> None:
    """Refuse notes of something else than what the backend computes; a first execution of both."""
    made = []
    for each in (plain, noting):
        state = each.prepare(inputs)
        each.execute(state)
        refuse_malformed(state)
        made.append({name: tensors for name, tensors in state.tensors().items() if tensors})
    expected, found = made
    judged = judge(found, expected, tolerance(case.computed))
    if judged.failure:
        raise Malformed(f"with notes it computes another result: {judged.failure}")


def _refuse_name(phase: Any) -> None:
    if not isinstance(phase, str) or not phase.isprintable() or not phase.strip():
        raise Malformed(f"it noted the phase {shorten(repr(phase))}; expected a name")
    if len(phase) > LONGEST_NAME:
        long = shorten(phase, LONGEST_NAME)
        raise Malformed(f"it noted the phase {long!r}; expected at most {LONGEST_NAME} characters")


def _checked(phase: str, ns: Any) -> float:
    if isinstance(ns, bool) or not isinstance(ns, int | float) or not math.isfinite(ns) or ns < 0:
        raise Malformed(
            f"it noted {shorten(repr(ns))} ns of {phase!r}; expected a number from 0 on"
        )
    return float(ns)
