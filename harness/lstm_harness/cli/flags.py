"""Flags that commands of several groups share."""

from pathlib import Path
from typing import Annotated

import typer

from lstm_harness.model.errors import UserError

Json = Annotated[bool, typer.Option("--json", help="print one JSON document on stdout")]
Quiet = Annotated[bool, typer.Option("--quiet", help="show no progress bar")]


def _share(margin: str | float) -> float:
    try:
        share = float(margin)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise UserError(
            f"--margin {str(margin)[:60]}; expected a share from 0 to below 1, like 0.05 for 5%"
        )
    return share


Margin = Annotated[
    float,
    typer.Option(
        "--margin", parser=_share, metavar="SHARE", help="how much slower still passes: 0.05 is 5%"
    ),
]
Explain = Annotated[
    str | None,
    typer.Option(
        "--explain",
        metavar="CASE",
        help="the numbers behind verdicts, by words of their names: 'aten T128 forward'",
    ),
]
JUnit = Annotated[
    Path | None, typer.Option("--junit", metavar="FILE", help="JUnit XML, for a CI to list")
]
Markdown = Annotated[
    Path | None,
    typer.Option("--markdown", metavar="FILE", help="a pull request's comment, under 60 lines"),
]
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="a page")]
FailOn = Annotated[
    str,
    typer.Option(
        "--fail-on",
        metavar="LIST",
        help="all that fails: regression, missing, inconclusive, incomparable, improvement",
    ),
]
