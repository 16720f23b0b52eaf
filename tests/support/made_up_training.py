"""Curves of `lstm-bench train`, made up."""

from lstm_harness.model.training import Curve, End, Learnt, Point
from lstm_harness.model.workloads import Goal, Workload

WORKLOAD = Workload(
    name="adding",
    summary="a sum",
    structure="sequence to number",
    data="numbers",
    size="as many as one likes",
    source="made up",
    licence="none",
    packages=(),
    goal=Goal("mean squared error", 0.01, higher_is_better=False),
    baseline="the mean",
    interval=100,
    most_steps=10_000,
)
MANIFEST = {
    "workload": "adding",
    "spec": {"workload": "adding", "seconds": 60.0, "seeds": [0, 1, 2]},
    "device": "cpu",
    "environment": {},
    "command": ["lstm-bench", "train", "adding"],
    "start": "2026-11-30T16:00:00+00:00",
    "end": "2026-11-30T16:10:00+00:00",
    "lstm_bench": "0.1.0",
}
REFUSED = End("unsupported", "not this one")


def learnt(
    backend="naive",
    seed=0,
    *values,
    cell="lstm",
    pace=1.0,
    opening=None,
    end=None,
    metric=WORKLOAD.goal.metric,
    **more,
):
    """A curve of held-out values, a point every 100 steps.

    Args:
        pace: seconds between points.
        opening: the first losses; by default the same for all of a seed.
        end: None for one that is ok, False for one that goes on.
        more: what else an end has.
    """
    opening = first_losses(seed) if opening is None else opening
    points = tuple(
        Point(
            step=100 * number,
            seconds=pace * number,
            predictions=5000 * number,
            loss=value,
            right_share=None,
            held_out={metric: value},
            opening=opening if number == 1 else (),
        )
        for number, value in enumerate(values, start=1)
    )
    ended = End("ok", **{"baseline": 0.167, "examples": ("1.000: 0.998",), **more})
    return Learnt(Curve(seed, cell, backend), points, None if end is False else end or ended)


def first_losses(seed=0, apart_from=20, by=0.0):
    """Of 20 steps; from one on off by a share."""
    return tuple(
        (1 + seed / 10) / (1 + step) * (1 + by * (step >= apart_from)) for step in range(20)
    )


def race(paces, seeds=(0, 1, 2), **more):
    """Of each backend, at its pace, the same curve from each seed: at the goal at step 300 on."""
    return [
        learnt(backend, seed, 0.1 + seed / 100, 0.05, 0.009 + seed / 10_000, pace=pace, **more)
        for seed in seeds
        for backend, pace in paces.items()
    ]
