"""A comparison by backend: what was said of its cases together, of each, and what could be seen."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from lstm_harness.judge.comparison import Comparison
from lstm_harness.judge.resolution import Resolution, resolution
from lstm_harness.judge.verdict import Kind, Verdict


@dataclass(frozen=True)
class BackendVerdicts:
    """The verdicts on one backend.

    `together` is the one on all of its cases, where blocks are paired. `cases` are the others,
    worst first. `resolution` is what this gate can see of the times that are `INCONCLUSIVE`; None
    where there are none, or where that is not known.
    """

    backend: str
    together: Verdict | None
    cases: tuple[Verdict, ...]
    resolution: Resolution | None

    @property
    def counts(self) -> Mapping[Kind, int]:
        """How many verdicts on its cases there are of each kind."""
        return Counter(verdict.kind for verdict in self.cases)

    @property
    def undecided(self) -> list[Verdict]:
        """Those that are `INCONCLUSIVE`, which only a time can be."""
        return [verdict for verdict in self.cases if verdict.kind == Kind.INCONCLUSIVE]


def by_backend(comparison: Comparison) -> list[BackendVerdicts]:
    """The verdicts of every backend; the backend with the worst one comes first."""
    of: dict[str, list[Verdict]] = {}
    for verdict in comparison.verdicts:
        of.setdefault(verdict.backend, []).append(verdict)
    tested = sum(v.cases == 1 and math.isfinite(v.q) for v in comparison.verdicts)
    return [_of_backend(name, verdicts, tested, comparison) for name, verdicts in of.items()]


def _of_backend(
    name: str, verdicts: list[Verdict], tested: int, comparison: Comparison
) -> BackendVerdicts:
    cases = tuple(verdict for verdict in verdicts if verdict.cases == 1)
    together = next((verdict for verdict in verdicts if verdict.cases > 1), None)
    undecided = [verdict for verdict in cases if verdict.kind == Kind.INCONCLUSIVE]
    seen = resolution(undecided, comparison.rules, tested, comparison.spreads)
    return BackendVerdicts(name, together, cases, seen)
