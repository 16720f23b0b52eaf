"""Records as a pandas frame, one row each, with everything that was stored."""

from collections.abc import Iterable

import pandas as pd

from lstm_harness.analysis.record_columns import COLUMNS, row_of
from lstm_harness.model.record import Record


def record_table(records: Iterable[Record]) -> pd.DataFrame:
    """One row for each record, in the order given, with the columns `COLUMNS`; lists are tuples."""
    return pd.DataFrame([row_of(record) for record in records], columns=list(COLUMNS))
