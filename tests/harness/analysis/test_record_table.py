"""Records as a frame."""

from synthetic_runs import case, record

from lstm_harness.analysis.record_columns import COLUMNS
from lstm_harness.analysis.record_table import record_table


def test_a_row_holds_everything_that_was_stored_of_a_record():
    of = case("train", hidden_size=8, num_layers=2, batch_first=True, dropout=0.5)
    one = record("aten", (3, 4), block=2, of=of)
    (row,) = record_table([one]).to_dict("records")
    stored = one.to_dict()
    flat = {**stored, **stored.pop("problem"), "heads": 1, "autocast": "none"}
    shown = {
        name: list(value) if isinstance(value, tuple) else value for name, value in row.items()
    }
    assert shown == {name: flat.get(name, {}) for name in COLUMNS}
    assert (row["samples_ns"], row["pass"], row["hidden_size"]) == ((3, 4), "train", 8)


def test_order_and_columns_are_kept_where_there_is_nothing():
    both = record_table([record(block=1), record(block=0)])
    assert list(both["block"]) == [1, 0]
    empty = record_table([])
    assert (list(empty.columns), len(empty)) == (list(COLUMNS), 0)
