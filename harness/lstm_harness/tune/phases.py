"""`lstm-bench phases`: where the time of a pass goes, as the backend itself notes it.

A worker executes the case with notes and without, in turn, while no other run has the device.
Nothing is stored, and nothing is a sample of a run.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lstm_harness.model.axes import PLAIN_CALL
from lstm_harness.model.case import Case
from lstm_harness.model.definitions import definitions_of
from lstm_harness.model.protocol import AddPlugin, PhasesTimed, TimePhases
from lstm_harness.model.spec import Spec
from lstm_harness.race import kept_compiled
from lstm_harness.race.lock import device_lock
from lstm_harness.race.process import Failed, WorkerProcess, WorkerSettings
from lstm_harness.race.scratch import scratch_folder
from lstm_harness.race.survey import SurveyWorker, make_plan
from lstm_harness.tune.hooks import Needed, refuse_lacking

# The default axes: a state that one core's cache holds, alone and in a batch.
DEFAULT_AXES = {
    "axis_hidden": "256",
    "axis_batch": "1,16",
    "axis_seq_len": "128",
    "axis_pass": "inference,train",
}
SETTINGS = ("plugin", "device", "threads", "cell_timeout_s", "time_budget_s", "seed")
# How long a case is executed if --time-budget does not say it for all of them.
CASE_S = 1.0
NEEDED = Needed(("in_phases",), "be timed", "tells no phases", "lstm_kernels/phases.py")

Tell = Callable[[int, int, str], None]
Document = dict[str, Any]


def phases(name: str, spec: Spec, tell: Tell) -> Document:
    """Time the phases of every case of a spec on a backend; see phases.schema.json.

    Args:
        tell: called before each case with how many are done, how many there are, and a label.
    Raises:
        UserError: the backend cannot run here, or tells no phases; and as `survey.make_plan`.
        MeasuringFailed: another run measures on the device.
    """
    spec = _as_called(spec, name)
    with scratch_folder() as scratch, SurveyWorker(spec, scratch) as asked:
        survey = asked.survey()
        plan = make_plan(spec, survey, asked)
        refuse_lacking(name, NEEDED, survey, asked)
        settings = WorkerSettings(
            survey.device,
            scratch,
            spec.threads,
            cells=definitions_of(plan.cases),
            kept=kept_compiled.folder_for((name,), survey),
        )
        rows = []
        timer = _Timer(name, spec, settings, survey.plugins, len(plan.cases))
        with device_lock(survey.identity), timer:
            for number, case in enumerate(plan.cases):
                tell(number, len(plan.cases), case.label())
                skip = plan.skips.get((name, case))
                rows.append(_refused(case, skip) if skip else timer.row(case))
    return {
        "backend": name,
        "device": survey.device,
        "threads": survey.environment["cpu"]["threads"] if survey.device == "cpu" else None,
        "cases": rows,
    }


def _as_called(spec: Spec, name: str) -> Spec:
    """The same problems and passes, launched and called plainly, for one backend."""
    only = {"launch": ("eager",), "cache": ("warm",), **PLAIN_CALL}
    grids = tuple({**grid, **only} for grid in spec.grids)
    return replace(spec, grids=grids, backends=(name,), blocks=1)


class _Timer:
    """A worker that times one case after the other, started again if a case ended it."""

    def __init__(
        self,
        name: str,
        spec: Spec,
        settings: WorkerSettings,
        plugins: tuple[str, ...],
        cases: int,
    ) -> None:
        budget_s = spec.time_budget_s
        self._case_s = CASE_S if budget_s is None else budget_s / cases
        self._name, self._spec, self._settings, self._plugins = name, spec, settings, plugins
        self._worker: WorkerProcess | None = None

    def __enter__(self) -> "_Timer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker:
            self._worker.close()

    def row(self, case: Case) -> dict[str, Any]:
        """A case's row; an error becomes its reason."""
        try:
            if self._worker is None or not self._worker.alive:
                self._start()
            request = TimePhases(self._name, case, self._spec.seed, self._case_s)
            assert self._worker is not None
            return _row(case, self._worker.ask(request, self._spec.cell_timeout_s))
        except Failed as failed:
            return _refused(case, failed)

    def _start(self) -> None:
        self._worker = WorkerProcess(self._settings, f"phases of {self._name}")
        for request in (*self._settings.first, *map(AddPlugin, self._plugins)):
            self._worker.ask(request)


def _row(case: Case, timed: PhasesTimed) -> dict[str, Any]:
    """What a case's phases take, in the order in which the backend notes them."""
    noted_ns = sum(timed.phases.values())
    return _of(case, "ok", "") | {
        "executions": timed.executions,
        "whole_ns": timed.whole_ns,
        "plain_ns": timed.plain_ns,
        "phases": [
            {"phase": phase, "ns": ns, "share": min(1.0, ns / timed.whole_ns)}
            for phase, ns in timed.phases.items()
        ],
        "other_ns": max(0.0, timed.whole_ns - noted_ns),
    }


def _refused(case: Case, why: Any) -> dict[str, Any]:
    return _of(case, why.status, why.reason)


def _of(case: Case, status: str, reason: str) -> dict[str, Any]:
    return {**case.to_dict(), "label": case.label(), "status": status, "reason": reason}
