"""How many of the T steps each sequence of a batch has, by name.

A name gives the same lengths on every machine and for every seed: the B evenly spaced quantiles
of its distribution, in a fixed shuffled order, so that two runs always do the same work.
"""

import random
from bisect import bisect_left
from itertools import accumulate


def check_lengths(name: str, seq_len: int) -> None:
    """Refuse a name this module does not know, or one that does not fit T.

    Raises:
        ValueError: one line with what is known.
    """
    _histogram(name, seq_len)


def sequence_lengths(name: str, seq_len: int, batch: int) -> tuple[int, ...]:
    """The lengths of B sequences, each from 0 to T, in batch order."""
    if name == "full":
        return (seq_len,) * batch
    histogram = _histogram(name, seq_len)
    lengths = sorted(histogram)
    cumulative = list(accumulate(histogram[length] for length in lengths))
    quantiles = [(row + 0.5) / batch * cumulative[-1] for row in range(batch)]
    drawn = [lengths[bisect_left(cumulative, quantile)] for quantile in quantiles]
    random.Random(batch).shuffle(drawn)
    return tuple(drawn)


def _histogram(name: str, seq_len: int) -> dict[int, int]:
    """Length to weight, for a named distribution."""
    if name == "full":
        return {seq_len: 1}
    kind, *bounds = name.split(":")
    if kind == "uniform" and len(bounds) == 2 and all(bound.isdecimal() for bound in bounds):
        low, high = map(int, bounds)
        if low <= high <= seq_len:
            return dict.fromkeys(range(low, high + 1), 1)
        raise ValueError(f"lengths {name!r}: expected LOW <= HIGH <= T, and T is {seq_len}")
    raise ValueError(f"unknown lengths {name!r}; known: full, uniform:LOW:HIGH")
