"""Whether backends learn the same from the first step on: the losses of the first steps.

From one seed every backend has the same data, parameters and batches. What is left is rounding,
which each step carries on; a wrong gradient parts from the others by more.
"""

import math
import statistics
from collections.abc import Iterable, Sequence

from lstm_harness.model.training import Learnt

# So far, relatively, may float32 part the losses of 20 steps of Adam. On `adding`, from three seeds
# each of lstm, gru and rnn_tanh, aten, hoisted and numba_cpu part from naive by 3.0e-07 at most. A
# gradient of w_hh that is wrong by 1% parts by 1.4e-05 or more, one whose first row is 0 by
# 2.3e-04, one that is cut every 90 of 100 steps by 1.4e-03.
LARGEST_PARTING = 1e-5
# Whose losses the others' are held against, the first that trained; else the median of all.
REFERENCES = ("naive", "aten")
MEDIAN = "the median"


def parting(one: Learnt, trained: Sequence[Learnt]) -> tuple[str, float] | None:
    """Whom a curve's first losses are held against, and how far they part at the most, relatively.

    Args:
        trained: all curves, of which those of the same seed and cell count.
    Returns:
        None of the reference itself, and of one that is alone.
    """
    seed, cell, backend = one.curve.seed, one.curve.cell, one.curve.backend
    same = [each for each in trained if (each.curve.seed, each.curve.cell) == (seed, cell)]
    losses = {each.curve.backend: each.points[0].opening for each in same}
    reference = next((name for name in REFERENCES if name in losses), None)
    if len(losses) < 2 or backend == reference:
        return None
    if reference is not None:
        expected: Sequence[float | None] = losses[reference]
    else:
        expected = [_median(at_a_step) for at_a_step in zip(*losses.values(), strict=False)]
    pairs = zip(losses[backend], expected, strict=False)
    return reference or MEDIAN, max((_apart(*pair) for pair in pairs), default=0.0)


def _median(losses: Iterable[float | None]) -> float | None:
    known = [loss for loss in losses if loss is not None]
    return statistics.median(known) if known else None


def _apart(found: float | None, expected: float | None) -> float:
    """Relatively; infinitely where one alone is not finite, or nothing was expected."""
    if found == expected:
        return 0.0
    if found is None or not expected:
        return math.inf
    return abs(found - expected) / abs(expected)
