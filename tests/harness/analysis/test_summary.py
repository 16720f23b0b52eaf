import math

import numpy as np
import pandas as pd
import pytest
from synthetic_runs import blocks, case, grid, record

from lstm_harness.analysis.correctness import correctness_by_backend
from lstm_harness.analysis.ranking import fastest_by_case, ranked
from lstm_harness.analysis.statistics import geometric_mean, geometric_means
from lstm_harness.analysis.summary import SEVERITY, summarise
from lstm_harness.model.record import STATUSES


def only_row(records):
    summary = summarise(records)
    assert len(summary) == 1
    return summary.iloc[0]


def test_median_is_over_blocks_of_the_blocks_medians():
    samples = {0: (10, 20, 90), 1: (30, 30, 31), 2: (40, 5, 41)}
    row = only_row([record(samples_ns=s, block=block) for block, s in samples.items()])
    assert row["median_ns"] == 30
    assert row["block_medians_ns"] == (20, 30, 40)
    assert (row["blocks"], row["samples"]) == (3, 9)


def test_blocks_are_in_order_whatever_the_order_of_the_records():
    row = only_row(reversed(blocks("naive", [10, 20, 30])))
    assert row["block_ids"] == (0, 1, 2)
    assert row["block_medians_ns"] == (10, 20, 30)


def test_interval_is_t_on_the_log_of_block_medians():
    # Logs are -d, 0, d around log(1e9): mean log(1e9), standard deviation d, t(2 df) = 4.3027.
    d = 0.01
    row = only_row(blocks("naive", [round(1e9 * math.exp(k * d)) for k in (-1, 0, 1)]))
    half = 4.302652729911275 * d / math.sqrt(3)
    assert row["low_ns"] == pytest.approx(1e9 * math.exp(-half), rel=1e-8)
    assert row["high_ns"] == pytest.approx(1e9 * math.exp(half), rel=1e-8)


@pytest.mark.parametrize("count", [1, 2])
def test_interval_is_unknown_below_three_blocks(count):
    row = only_row(blocks("naive", [1000] * count))
    assert row["median_ns"] == 1000
    assert math.isnan(row["low_ns"])
    assert math.isnan(row["high_ns"])


def test_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    logs = rng.normal(5.0, 0.02, size=(4000, 5))
    groups = np.repeat(np.arange(4000), 5)
    _, low, high = geometric_means(groups, logs.ravel(), 4000)
    covered = ((low < math.exp(5.0)) & (math.exp(5.0) < high)).mean()
    assert covered == pytest.approx(0.95, abs=0.015)


def test_derived_throughput_by_hand():
    one = case(seq_len=10, batch=4, hidden_size=8, input_size=8)
    row = only_row([record(samples_ns=(2000,), of=one)])
    assert row["sequences_per_s"] == pytest.approx(4 / 2e-6)
    assert row["steps_per_s"] == pytest.approx(40 / 2e-6)
    assert row["step_us"] == pytest.approx(0.2)
    # 4 gates x H x (I + H) multiply-adds, 40 steps, 2 operations each, in 2000 ns.
    assert row["tflops"] == pytest.approx(2 * 40 * 4 * 8 * 16 / 2000 / 1e3)
    assert row["gbytes_per_s"] == pytest.approx(one.problem.bytes("forward") / 2000)


def test_padding_is_no_work():
    full, half = case(seq_len=10, batch=4), case(seq_len=10, batch=4, lengths="uniform:1:9")
    rows = summarise([record(of=full), record(of=half)])
    assert rows["steps_per_s"][1] < rows["steps_per_s"][0]
    assert rows["sequences_per_s"][1] == rows["sequences_per_s"][0]


@pytest.mark.parametrize("status", [s for s in STATUSES if s != "ok"])
def test_a_cell_with_a_failed_block_has_no_timing_and_no_rank(status):
    records = [*blocks("aten", [1000, 1001]), record("aten", block=2, status=status)]
    summary = summarise([*records, *blocks("naive", [5000] * 3)])
    row = summary.iloc[0]
    assert row["status"] == status
    assert row["reason"] == f"{status} on purpose"
    assert (row["blocks"], row["failed_blocks"]) == (3, 1)
    assert math.isnan(row["median_ns"])
    assert math.isnan(row["steps_per_s"])
    assert fastest_by_case(summary)["backend"].tolist() == ["naive"]


def test_incorrect_outranks_every_other_status():
    records = [record(block=i, status=s) for i, s in enumerate(STATUSES) if s != "ok"]
    assert only_row(records)["status"] == "incorrect"
    assert only_row(reversed(records))["status"] == "incorrect"
    assert set(SEVERITY) == set(STATUSES)


def test_a_record_above_its_own_bound_is_not_believed():
    row = only_row([record(errors={"y": 1e-7, "d_w_hh": 3e-2}, tolerance=1e-5)])
    assert row["status"] == "incorrect"
    assert row["reason"] == "error of d_w_hh is 0.03; bound 1e-05"


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_an_error_that_is_not_finite_fails(value):
    row = only_row([record(errors={"y": value})])
    assert row["status"] == "incorrect"
    assert row["errors"] == {"y": math.inf}
    assert correctness_by_backend(summarise([record(errors={"y": value})]))["verdict"].tolist() == [
        "fail"
    ]


def test_worst_error_and_most_memory_over_blocks():
    row = only_row(
        [
            record(block=0, errors={"y": 1e-7, "h_n": 4e-7}, peak_bytes=10, saved_bytes=7),
            record(block=1, errors={"y": 3e-7, "h_n": 2e-7}, peak_bytes=12),
        ]
    )
    assert row["errors"] == {"y": 3e-7, "h_n": 4e-7}
    assert row["worst_error"] == 4e-7
    assert (row["peak_bytes"], row["saved_bytes"]) == (12, 7)


def test_marked_samples_are_counted_and_kept():
    row = only_row([record(samples_ns=(1, 2, 3, 4), marked=(0,)), record(block=1, marked=(0, 1))])
    assert row["marked_share"] == pytest.approx(3 / 7)
    assert row["samples"] == 7


def test_fastest_runner_up_and_margin_by_hand():
    records = [
        *blocks("slow", [9000, 9900, 8100]),
        *blocks("second", [2000, 2200, 1800]),
        *blocks("first", [1000, 1100, 900]),
    ]
    won = fastest_by_case(summarise(records)).iloc[0]
    assert (won["backend"], won["runner_up"], won["contenders"]) == ("first", "second", 3)
    assert won["margin"] == pytest.approx(2)
    # Every block has the ratio 2, so drift that hit both alike leaves no doubt.
    assert won["margin_low"] == pytest.approx(2)
    assert won["margin_high"] == pytest.approx(2)
    assert not won["tie"]


def test_margin_interval_is_t_on_paired_log_ratios():
    ratios = [1.1, 1.2, 1.3, 1.4]
    base = [1_000_000, 2_000_000, 500_000, 1_500_000]
    records = [
        *blocks("a", base),
        *blocks("b", [int(b * r) for b, r in zip(base, ratios, strict=True)]),
    ]
    won = fastest_by_case(summarise(records)).iloc[0]
    logs = np.log(ratios)
    half = 3.182446305283708 * logs.std(ddof=1) / 2  # t with 3 degrees of freedom
    assert won["margin_low"] == pytest.approx(math.exp(logs.mean() - half), rel=1e-5)
    assert won["margin_high"] == pytest.approx(math.exp(logs.mean() + half), rel=1e-5)
    assert won["margin"] == pytest.approx(math.exp(logs.mean()), rel=1e-5)


def test_a_margin_is_of_times_in_one_block_and_lies_in_its_interval():
    """Twice the time in all blocks but the one that moves the median: 2800/1300 is 2.15."""
    records = [
        *blocks("a", [1000, 1100, 1200, 1300, 1400, 1500, 1600]),
        *blocks("b", [2000, 2200, 2400, 2900, 2800, 3000, 3200]),
    ]
    won = fastest_by_case(summarise(records)).iloc[0]
    assert won["margin_low"] < won["margin"] < won["margin_high"] < 2.12


def test_the_faster_median_may_lose_within_blocks_which_is_a_tie():
    records = [*blocks("a", [1000, 1000, 4000]), *blocks("b", [1010, 1010, 1010])]
    won = fastest_by_case(summarise(records)).iloc[0]
    assert (won["backend"], won["tie"]) == ("a", True)
    assert won["margin_low"] < won["margin"] < 1


def test_an_interval_that_includes_one_is_a_tie():
    records = [*blocks("a", [1000, 1050, 990]), *blocks("b", [1010, 1000, 1040])]
    won = fastest_by_case(summarise(records)).iloc[0]
    assert won["tie"]
    assert won["margin_low"] < 1 < won["margin_high"]


@pytest.mark.parametrize(
    ("first", "second"), [([1000], [2000]), ([1000, 1001], [2000, 2001])], ids=["one", "two"]
)
def test_with_too_few_blocks_a_tie_is_unknown(first, second):
    won = fastest_by_case(summarise([*blocks("a", first), *blocks("b", second)])).iloc[0]
    assert won["margin"] == pytest.approx(2, rel=1e-2)
    assert math.isnan(won["margin_low"])
    assert won["tie"] is pd.NA


def test_blocks_that_do_not_pair_leave_the_interval_unknown():
    late = [record("b", (2000,), block=block) for block in (3, 4, 5)]
    won = fastest_by_case(summarise([*blocks("a", [1000] * 3), *late])).iloc[0]
    assert won["tie"] is pd.NA


def test_a_backend_missing_from_a_case_leaves_the_others_ranked():
    small, large = case(seq_len=8), case(seq_len=16)
    records = [
        *blocks("a", [1000] * 3, of=small),
        *blocks("b", [1500] * 3, of=small),
        *blocks("b", [3000] * 3, of=large),
    ]
    table = fastest_by_case(summarise(records)).set_index("seq_len")
    assert table.loc[8, "backend"] == "a"
    assert table.loc[16, "backend"] == "b"
    assert table.loc[16, "runner_up"] is None
    assert math.isnan(table.loc[16, "margin"])
    assert table.loc[16, "tie"] is pd.NA


def test_a_case_nobody_solves_has_no_winner_but_a_row():
    table = fastest_by_case(summarise([record(status="crashed")]))
    assert table["backend"].tolist() == [None]
    assert table["contenders"].tolist() == [0]


def test_nothing_measured_is_an_empty_summary():
    summary = summarise([])
    assert len(summary) == 0
    assert len(fastest_by_case(summary)) == 0
    assert len(ranked(summary)) == 0
    assert len(correctness_by_backend(summary)) == 0


def test_ranking_tells_each_backend_against_the_fastest():
    table = ranked(summarise(grid(passes=("forward",))))
    assert (table.loc[table["rank"] == 1, "ratio"] == 1).all()
    slowest = table[table["backend"] == "per_gate"]
    assert (slowest["rank"] == 5).all()
    assert (slowest["ratio_low"] > 1).all()
    assert slowest["ratio"].between(slowest["ratio_low"], slowest["ratio_high"]).all()


def test_correctness_gathers_the_worst_per_backend_and_dtype():
    records = [
        record(of=case(seq_len=8), errors={"y": 1e-7, "h_n": 5e-7}),
        record(of=case(seq_len=16), errors={"y": 2e-7, "h_n": 3e-7}, tolerance=2e-5),
        record(of=case(dtype="bfloat16"), errors={"y": 9e-2}, tolerance=3e-2, status="incorrect"),
        record("aten", errors={}, status="crashed"),
    ]
    table = correctness_by_backend(summarise(records)).set_index(["backend", "dtype"])
    right = table.loc[("naive", "float32")]
    assert right["errors"] == {"y": 2e-7, "h_n": 5e-7}
    assert (right["tolerance_low"], right["tolerance_high"]) == (1e-5, 2e-5)
    assert (right["cases"], right["verdict"]) == (2, "pass")
    wrong = table.loc[("naive", "bfloat16")]
    assert (wrong["verdict"], wrong["over"], wrong["incorrect"]) == ("fail", ("y",), 1)
    assert table.loc[("aten", "float32")]["verdict"] == "not checked"


def test_ratios_are_averaged_by_geometric_mean():
    assert geometric_mean([0.5, 2.0]) == pytest.approx(1)
    assert math.isnan(geometric_mean([]))


def test_hostile_names_are_only_names():
    names = ["<script>", "a" * 10_000, "__proto__", "\u202eevil", 'quo"te']
    summary = summarise([record(name) for name in names])
    assert summary["backend"].tolist() == names
