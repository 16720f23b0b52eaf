"""A comparison as a pandas frame, a row a verdict."""

from dataclasses import fields

import pandas as pd

from lstm_harness.analysis.summary import CASE_COLUMNS
from lstm_harness.judge.comparison import Comparison
from lstm_harness.judge.verdict import Verdict

_FIGURES = tuple(
    field.name
    for field in fields(Verdict)
    if field.name not in ("backend", "label", "case", "kind", "measure")
)
COLUMNS = ("verdict", "backend", "label", "measure", *_FIGURES, *CASE_COLUMNS)


def verdict_table(comparison: Comparison) -> pd.DataFrame:
    """One row a verdict, worst first, with the columns `COLUMNS`.

    `verdict` is its kind, as text; the others are the fields of `judge.verdict.Verdict`, those of
    the case last (None where a verdict is of several cases that differ there). Times are in ns.
    """
    rows = [
        {
            **dict.fromkeys(CASE_COLUMNS) | dict(verdict.case),
            **{name: getattr(verdict, name) for name in _FIGURES},
            "verdict": verdict.kind.value,
            "backend": verdict.backend,
            "label": verdict.label,
            "measure": verdict.measure,
        }
        for verdict in comparison.verdicts
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))
