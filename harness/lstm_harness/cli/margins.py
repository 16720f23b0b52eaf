"""The flag for how much memory may change, as a share and in bytes."""

from typing import Annotated

import typer

from lstm_harness.model.errors import UserError


def _share(margin: str | float) -> float:
    try:
        share = float(margin)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise UserError(
            f"--memory-margin {str(margin)[:60]}; expected a share from 0 to below 1, like 0.01 "
            "for 1%"
        )
    return share


MemoryMargin = Annotated[
    float,
    typer.Option(
        "--memory-margin",
        parser=_share,
        metavar="SHARE",
        help="the change of memory that counts as none: 0.01 is 1%, and at least 4 KiB; 0 is exact",
    ),
]
