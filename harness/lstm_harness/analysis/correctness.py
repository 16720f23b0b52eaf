"""From a Summary to how correct each backend is."""

import math
from typing import Any

import pandas as pd

CORRECTNESS_COLUMNS = ("backend", "cell", "dtype", "precision", "autocast", "device")


def correctness_by_backend(summary: pd.DataFrame) -> pd.DataFrame:
    """How correct each backend is, one row per combination of `CORRECTNESS_COLUMNS`.

    Returns:
        `cases` checked, `incorrect` among them, `errors` (worst per tensor, inf where not
        finite), `over` (names of tensors above their own case's bound), `tolerance_low` and
        `tolerance_high`, `oracle_rows` (fewest batch rows compared, NaN for all) and `verdict`:
        `pass`, `fail`, or `not checked` if no tensor was compared.
    """
    keys = list(CORRECTNESS_COLUMNS)
    rows = [
        dict(zip(keys, key, strict=True)) | _correctness_of(group)
        for key, group in summary.groupby(keys, sort=False)
    ]
    columns = ["cases", "incorrect", "errors", "over", "tolerance_low", "tolerance_high"]
    return pd.DataFrame(rows, columns=[*keys, *columns, "oracle_rows", "verdict"])


def _correctness_of(group: pd.DataFrame) -> dict[str, Any]:
    worst: dict[str, float] = {}
    over: dict[str, None] = {}
    for errors, tolerance in zip(group["errors"], group["tolerance"], strict=True):
        for tensor, error in errors.items():
            worst[tensor] = max(worst.get(tensor, 0.0), error)
            if not math.isfinite(error) or error > tolerance:
                over[tensor] = None
    incorrect = int((group["status"] == "incorrect").sum())
    passed = "pass" if worst else "not checked"
    return {
        "cases": int((group["errors"].map(len) > 0).sum()),
        "incorrect": incorrect,
        "errors": worst,
        "over": tuple(over),
        "tolerance_low": group["tolerance"].min(),
        "tolerance_high": group["tolerance"].max(),
        "oracle_rows": group["oracle_rows"].min(),
        "verdict": "fail" if incorrect or over else passed,
    }
