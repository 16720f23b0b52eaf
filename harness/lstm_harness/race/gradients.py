"""The gradient followed back through time, backend by backend and problem by problem.

Nothing is timed and nothing is stored: the worker that surveys the machine does it.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace

from lstm_harness.analysis.gradients import Followed, Gradients
from lstm_harness.model.axes import PLAIN_CALL
from lstm_harness.model.errors import UserError
from lstm_harness.model.protocol import FollowGradient
from lstm_harness.model.spec import Spec
from lstm_harness.model.text import without_secrets
from lstm_harness.race.process import Failed
from lstm_harness.race.runs import now
from lstm_harness.race.scratch import scratch_folder
from lstm_harness.race.survey import Survey, SurveyWorker, make_plan
from lstm_kernels.problem import Problem

# The default axes: float64, whose numbers reach down to 1e-308.
DEFAULT_AXES = {
    "axis_cell": "rnn_tanh,lstm,gru",
    "axis_seq_len": "100",
    "axis_batch": "16",
    "axis_hidden": "64",
    "axis_dtype": "float64",
}
DEFAULT_BACKEND = "naive"
SETTINGS = ("backend", "plugin", "device", "threads", "cell_timeout_s", "seed")

# Nobody can read a figure with more lines.
MOST_LINES = 20

_PASS = {"pass": ("backward",), "launch": ("eager",), "cache": ("warm",), **PLAIN_CALL}
# Problems with one state a step, and every sequence's loss at the same step.
_ONLY = {"layers": (1,), "bidirectional": (False,), "lengths": ("full",)}

Tell = Callable[[int, int, str], None]


def follow(spec: Spec, seeds: int, tell: Tell) -> Gradients:
    """Follow the gradient of a loss on the last step, on every backend and problem of a spec.

    Args:
        seeds: how many are drawn, from the spec's on: each has weights, inputs and a loss of its
            own.
        tell: called before each line with how many are done, how many there are, and a label.
    Raises:
        UserError: more than one layer or direction, ragged lengths, or too many lines; and as
            `survey.make_plan`.
    """
    spec = replace(spec, grids=tuple({**grid, **_PASS} for grid in spec.grids))
    _refuse_shapes(spec)
    with scratch_folder() as scratch, SurveyWorker(spec, scratch, checking=True) as worker:
        survey = worker.survey()
        plan = make_plan(spec, survey, worker)
        lines = [(backend, case) for backend in plan.backends for case in plan.cases]
        if len(lines) > MOST_LINES:
            raise UserError(f"{len(lines)} lines; expected at most {MOST_LINES}: take fewer values")
        drawn = tuple(range(spec.seed, spec.seed + seeds))
        followed = []
        for number, (backend, case) in enumerate(lines):
            tell(number, len(lines), f"{backend} on {case.problem.label()}")
            skip = plan.skips.get((backend, case))
            if skip:
                followed.append(Followed(backend, case.problem, skip.status, skip.reason))
            else:
                followed.append(_followed(worker, survey, backend, case.problem, drawn))
    return Gradients(
        followed=tuple(followed),
        seeds=drawn,
        device=survey.device,
        environment=survey.environment,
        command=("lstm-bench", *map(without_secrets, sys.argv[1:])),
        start=now(),
        absent={source: plan.absent[source] for source in spec.plugins if source in plan.absent},
    )


def _followed(
    worker: SurveyWorker, survey: Survey, backend: str, problem: Problem, seeds: Iterable[int]
) -> Followed:
    """One line; an error becomes its reason."""
    try:
        norms = tuple(worker.ask(FollowGradient(backend, problem, seed)).norms for seed in seeds)
    except Failed as failed:
        worker.restart(survey)
        return Followed(backend, problem, failed.status, failed.reason)
    return Followed(backend, problem, norms=norms)


def _refuse_shapes(spec: Spec) -> None:
    for grid in spec.grids:
        for name, only in _ONLY.items():
            given = grid.get(name, only)
            if given != only:
                raise UserError(
                    f"--{name} {', '.join(map(str, given))}: a gradient is followed through one "
                    f"layer, in one direction, over full sequences; expected {only[0]}"
                )
