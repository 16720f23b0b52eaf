"""Whether backends learn the same from the first step on: the losses of the first steps.

From one seed every backend has the same data, parameters and batches. What is left is rounding,
which every step carries on; a wrong gradient causes a larger difference.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lstm_harness.model.training import Learnt

# Relative difference that rounding in float32 may cause in the loss of the first step, and its
# growth factor with every step. On `copy` with lstm, where rounding grows fastest, aten and
# numba_cpu differ from naive by at most 4.6e-07 * 1.5**step (1e-03 at step 20 of one seed, of
# five); nothing else that was tried, of the other workloads with lstm, gru or rnn_tanh, by more
# than 3.0e-07 in 20 steps. A gradient of w_hh, b_hh or w_ih that is 0 or negated causes a
# difference of 1e-03 * 1.5**step or more at some step. A gradient of w_hh that is 1% too large
# causes no more than rounding: Adam, which ignores scale, then takes nearly the same steps.
ROUNDING = 5e-6
GROWTH = 1.5
# The backend to compare losses with: the first of these that trained; else the median of all.
REFERENCES = ("naive", "aten")
MEDIAN = "the median"


@dataclass(frozen=True)
class Parting:
    """How far a curve's loss is from another's, where it is largest relative to the bound.

    Attributes:
        held_against: a backend, or the median of all.
        step: from 1.
        apart: relatively.
        explained: how much of that rounding explains at that step.
    """

    held_against: str
    step: int
    apart: float
    explained: float

    @property
    def share(self) -> float:
        """The difference over what rounding explains: above 1 the two learn differently."""
        return self.apart / self.explained


def parting(one: Learnt, trained: Sequence[Learnt]) -> Parting | None:
    """How far a curve's first losses are from those that they are compared with.

    Args:
        trained: all curves, of which those of the same seed and cell count.
    Returns:
        None for the reference itself, for a curve that is alone, and without losses.
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
    at_steps = [
        Parting(reference or MEDIAN, step + 1, _apart(*pair), ROUNDING * GROWTH**step)
        for step, pair in enumerate(pairs)
    ]
    return max(at_steps, key=lambda each: each.share, default=None)


def _median(losses: Iterable[float | None]) -> float | None:
    known = [loss for loss in losses if loss is not None]
    return statistics.median(known) if known else None


def _apart(found: float | None, expected: float | None) -> float:
    """The relative difference; infinite if only one is finite, or if the expected one is 0."""
    if found == expected:
        return 0.0
    if found is None or not expected:
        return math.inf
    return abs(found - expected) / abs(expected)
