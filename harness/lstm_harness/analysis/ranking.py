"""From a Summary to the winners: every correct cell compared with the fastest of its case."""

import numpy as np
import pandas as pd

from lstm_harness.analysis.machines import may_be_one, of_blocks
from lstm_harness.analysis.statistics import geometric_means
from lstm_harness.analysis.summary import CASE_COLUMNS, logarithms, plain_rows


def ranked(summary: pd.DataFrame) -> pd.DataFrame:
    """Every ranked cell, fastest first within its case, compared with the fastest of its case.

    Returns:
        The Summary's ok rows with `rank` from 1, by median; `ratio` to the fastest, the geometric
        mean of the ratios within blocks, with its 95% interval `ratio_low` and `ratio_high` (below
        3 shared blocks the ratio of the two medians, and NaN); and `tie`: whether it cannot be
        distinguished from the fastest, NA where the interval is unknown. A tie's ratio may be below
        1.
    """
    ok = summary[summary["status"] == "ok"].copy()
    ok["case_id"] = _case_ids(ok)
    ok = ok.sort_values(["case_id", "median_ns", "backend"], ignore_index=True)
    by_case = ok.groupby("case_id", sort=False)
    ok["rank"] = by_case.cumcount() + 1
    of_medians = ok["median_ns"] / by_case["median_ns"].transform("first")
    ok["machine"] = [of_blocks(row) for row in plain_rows(ok[["block_ids", "block_machines"]])]
    by_block = ["block_ids", "block_medians_ns", "machine"]
    long = ok[["case_id", "rank", *by_block]].reset_index(names="row").explode(by_block)
    best = long.loc[long["rank"] == 1, ["case_id", *by_block]]
    pairs = long.merge(best, on=["case_id", "block_ids"], suffixes=("", "_best"))
    both = zip(pairs["machine"], pairs["machine_best"], strict=True)
    pairs = pairs[[may_be_one(*names) for names in both]]
    logs = logarithms(pairs["block_medians_ns"]) - logarithms(pairs["block_medians_ns_best"])
    mean, low, high = geometric_means(pairs["row"].to_numpy(dtype=np.int64), logs, len(ok))
    first = (ok["rank"] == 1).to_numpy()
    ok["ratio"] = np.where(first, 1.0, np.where(np.isnan(low), of_medians, mean))
    ok["ratio_low"] = np.where(first, 1.0, low)
    ok["ratio_high"] = np.where(first, 1.0, high)
    ok["tie"] = (ok["ratio_low"] <= 1).astype("boolean").mask(ok["ratio_low"].isna())
    return ok.drop(columns="machine")


def fastest_by_case(summary: pd.DataFrame) -> pd.DataFrame:
    """The winner of each case, and by how much.

    Returns:
        One row per case of the Summary: `label`, the case's fields, `backend` (None where no
        backend is correct), `median_ns`, `runner_up` (None where there is no second),
        `runner_up_ns`, `margin` (the runner-up's ratio to the fastest) with `margin_low` and
        `margin_high`, `tie` (NA where the interval is unknown or there is no second) and
        `contenders`, the number of correct backends.
    """
    cases = summary.drop_duplicates(list(CASE_COLUMNS))[["label", *CASE_COLUMNS]]
    ranks = ranked(summary)
    first = ranks.loc[ranks["rank"] == 1, [*CASE_COLUMNS, "backend", "median_ns"]]
    second = ranks.loc[
        ranks["rank"] == 2,
        [*CASE_COLUMNS, "backend", "median_ns", "ratio", "ratio_low", "ratio_high", "tie"],
    ].rename(
        columns={
            "backend": "runner_up",
            "median_ns": "runner_up_ns",
            "ratio": "margin",
            "ratio_low": "margin_low",
            "ratio_high": "margin_high",
        }
    )
    counts = ranks.groupby(list(CASE_COLUMNS), sort=False).size().rename("contenders")
    table = cases.merge(first, how="left", on=list(CASE_COLUMNS))
    table = table.merge(second, how="left", on=list(CASE_COLUMNS))
    table = table.merge(counts.reset_index(), how="left", on=list(CASE_COLUMNS))
    table["contenders"] = table["contenders"].fillna(0).astype(int)
    table["tie"] = table["tie"].astype("boolean")
    for name in ("backend", "runner_up"):
        table[name] = table[name].astype(object).where(table[name].notna(), None)
    return table


def _case_ids(table: pd.DataFrame) -> "pd.Series[int]":
    return table.groupby(list(CASE_COLUMNS), sort=False).ngroup()
