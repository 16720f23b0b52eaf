"""A few cases out of a grid of options, in which every two values of two options meet."""

import random
from collections.abc import Callable
from itertools import combinations, product
from typing import Any

# Drawn at each turn, of which the one with most new pairs is taken.
CANDIDATES = 64

Case = tuple[Any, ...]


def grid(options: dict[str, tuple[Any, ...]]) -> list[Case]:
    return list(product(*options.values()))


def pairs(case: Case) -> set[Any]:
    return set(combinations(enumerate(case), 2))


def covering_sample(
    options: dict[str, tuple[Any, ...]], possible: Callable[[Case], bool] | None = None
) -> list[Case]:
    """The same few cases every time, in which every two values of two options meet, if they can."""
    draw = random.Random(0)
    cases = grid(options)
    missing = {
        pair
        for (i, some), (j, others) in combinations(enumerate(options.values()), 2)
        for pair in product([(i, value) for value in some], [(j, value) for value in others])
    }
    if possible is not None:
        cases = [case for case in cases if possible(case)]
        missing &= set().union(*map(pairs, cases))
    sample = []
    while missing:
        candidates = draw.sample(cases, min(CANDIDATES, len(cases)))
        best = max(candidates, key=lambda case: len(pairs(case) & missing))
        if pairs(best) & missing:
            sample.append(best)
            missing -= pairs(best)
    return sample
