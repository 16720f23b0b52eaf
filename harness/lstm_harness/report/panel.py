"""What a section of the report is: a question, its answer, and figures that follow the switches.

A module of `panels` makes a `Panel` from the report's `Subject`; the page shows every panel the
same way and knows nothing of what is in it. Of a panel's figures the page shows the one whose `key`
agrees with the view: with the switches, and with the T and B chosen in the map.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from lstm_harness.analysis.summary import CASE_COLUMNS
from lstm_harness.report.chart import Row
from lstm_harness.store.run_folder import Run


@dataclass(frozen=True)
class Subject:
    """What a report is of.

    Attributes:
        summary: of all its runs; `run` tells them apart where there are several.
        backends: the page's list; a trace's `meta` is the place in it.
        runs: each by what the page calls it.
    """

    summary: pd.DataFrame
    backends: Sequence[str]
    runs: Mapping[str, Run] = field(default_factory=dict)


@dataclass(frozen=True)
class Plot:
    """One drawing of a figure, for plotly.

    Attributes:
        title: what it shows, in a few words; plain text.
        data: plotly traces. `meta` is the backend's place in the page's list, which gives the
            trace its name, colour and symbol, or None for what belongs to no backend (then `name`
            is the trace's own). `customdata` holds for each point the number of its row of the
            Summary, from which the page tells what stands under the pointer. No colours: the page
            has them.
        layout: plotly's `xaxis` and `yaxis`, and what else this drawing needs.
    """

    title: str
    data: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """What a panel shows for one choice of the switches.

    Attributes:
        key: a value for each of the panel's `by` columns.
        plots: side by side on a wide screen, and below each other on a narrow one.
        answer: one plain sentence, of this choice.
    """

    key: tuple[Any, ...]
    plots: tuple[Plot, ...]
    answer: str


@dataclass(frozen=True)
class Panel:
    """One question of the report.

    Attributes:
        id: names it in the page and in links: letters and hyphens.
        question: its title.
        answer: one plain sentence over all cells, computed from them; empty if no figure.
        by: the Summary's columns whose values choose a figure.
        figures: one for each combination of those values that has something to show.
        note: units, and how to read the drawing.
        absent: where there is no figure: what was not measured, and what to type; one line.
    """

    id: str
    question: str
    answer: str
    by: tuple[str, ...]
    figures: tuple[Figure, ...]
    note: str
    absent: str = ""


def chosen_by(summary: pd.DataFrame, free: Sequence[str]) -> tuple[str, ...]:
    """A panel's `by`: the columns that vary, except those on an axis of its figures or summed up.

    Where I is H in every case, H chooses for both.
    """
    square = bool((summary["input_size"] == summary["hidden_size"]).all())
    free = (*free, *(("input_size",) if square else ()))
    names = (*(("run",) if "run" in summary else ()), *CASE_COLUMNS)
    return tuple(n for n in names if n not in free and summary[n].nunique() > 1)


def numbered(rows: Sequence[Row]) -> list[Row]:
    """Rows of a Summary with their `number`, which `customdata` holds."""
    return [row | {"number": number} for number, row in enumerate(rows)]
