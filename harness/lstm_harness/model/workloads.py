"""The workloads of `lstm-bench train`: what each learns, from what, and what counts as learnt.

What this table says is read without torch and without the data; the models are the worker's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from lstm_harness.model.errors import UserError


@dataclass(frozen=True)
class Goal:
    """What the held-out data must show: `metric` at least, or at most, a value."""

    metric: str
    value: float
    higher_is_better: bool

    def is_reached(self, value: float) -> bool:
        """Whether a value is as good."""
        return value >= self.value if self.higher_is_better else value <= self.value

    def __str__(self) -> str:
        return f"{self.metric} {'at least' if self.higher_is_better else 'at most'} {self.value:g}"


@dataclass(frozen=True)
class Workload:
    """One task.

    `structure` is what goes in and what comes out; `packages` are those of PyPI that hold the data,
    all in the extra `workloads`. `baseline` says what reaches how much without learning from order:
    the worker computes it. A record is made every `interval` steps; training ends after
    `most_steps`.
    """

    name: str
    summary: str
    structure: str
    data: str
    size: str
    source: str
    licence: str
    packages: tuple[str, ...]
    goal: Goal
    baseline: str
    interval: int
    most_steps: int
    is_ragged: bool = False
    is_bidirectional: bool = False
    remembers: bool = False
    takes_text: bool = False

    def lacking(self) -> tuple[str, ...]:
        """Those of its packages that are not installed here; none of them is imported."""
        return tuple(name for name in self.packages if find_spec(_module(name)) is None)


EXTRA = "workloads"
# What is imported of a package, where it is not called so.
_MODULES = {"scikit-learn": "sklearn", "pillow": "PIL"}


def _module(package: str) -> str:
    return _MODULES.get(package, package.replace("-", "_"))


_ALL = (
    Workload(
        name="adding",
        summary="the sum of the two numbers that are marked, among 100",
        structure="sequence to number",
        data="two channels of 100 steps: numbers uniform in [0, 1], and two marks",
        size="drawn anew at every step; 1,000 sequences held out",
        source="Hochreiter and Schmidhuber 1997, experiment 4, as in Le, Jaitly and Hinton 2015",
        licence="none: made up",
        packages=(),
        goal=Goal("mean squared error", 0.01, higher_is_better=False),
        baseline="the mean, 1, whatever comes in",
        interval=100,
        most_steps=10_000,
    ),
)
WORKLOADS: Mapping[str, Workload] = {each.name: each for each in _ALL}


def workload_named(name: str) -> Workload:
    """The workload of a name.

    Raises:
        UserError: there is none.
    """
    if name not in WORKLOADS:
        raise UserError(f"unknown workload {name!r}; known: {', '.join(WORKLOADS)}")
    return WORKLOADS[name]
