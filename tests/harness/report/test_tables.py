from synthetic_runs import blocks, case, grid, record, run

from lstm_harness.analysis.summary import summarise
from lstm_harness.report import tables


def test_trust_shows_the_wrong_first_with_tensor_and_bound():
    records = [
        record("aten"),
        record("cheat", status="incorrect", errors={"y": 1e-7, "d_w_hh": None}),
    ]
    trust = tables.correctness(summarise(records))
    assert [row["backend"] for row in trust["rows"]] == ["cheat", "aten"]
    assert trust["rows"][0]["errors"] == {"y": ("1.0e-07", False), "d_w_hh": ("not finite", True)}
    assert trust["rows"][0]["bound"] == "1e-05"
    said = "cheat is wrong in some cases, and not ranked there; 1 backend"
    assert trust["answer"].startswith(said)


def test_refusals_of_one_reason_stand_together_once():
    wide = [case(batch=batch) for batch in (1, 2, 3)]
    records = [record("triton", of=one, status="unsupported", reason="needs CUDA") for one in wide]
    skips = [
        {"backend": "triton", "case": index, "status": "unsupported", "reason": "needs CUDA"}
        for index in range(3)
    ]
    made = run(records, plan={"skips": skips})
    (row,) = tables.refusals([made], ["quick"], [summarise(records)])
    assert (row["backend"], row["status"], row["reason"]) == ("triton", "unsupported", "needs CUDA")
    assert row["cases"] == [one.label() for one in wide]


def test_a_block_that_failed_alone_says_which_part_of_the_blocks():
    records = [*blocks("naive", [10, 11]), record(block=2, status="timed_out")]
    (row,) = tables.refusals([run(records)], ["quick"], [summarise(records)])
    assert row["cases"][0].endswith("(1 of 3 blocks)")


def test_environments_side_by_side_mark_what_differs():
    here, there = run(), run(environment={"torch": "2.12.0", "host": "bench-host"})
    rows = {row["name"]: row for row in tables.environments([here, there])}
    assert rows["torch"]["values"] == ["2.13.0", "2.12.0"]
    assert rows["torch"]["differs"]
    assert not rows["host"]["differs"]
    assert rows["cpu.model"]["values"] == ["A CPU", "not recorded"]


def test_the_table_of_rows_keeps_what_is_constant_out_of_sight_and_in_the_file():
    table = tables.all_rows(summarise(grid(block_count=1)))
    shown = {column["name"] for column in table["columns"] if column["shown"]}
    assert {"backend", "seq_len", "batch", "status", "median_ns"} <= shown
    assert "num_layers" not in shown
    assert ("Layers", "1") in table["fixed"]
    assert "Heads" not in dict(table["fixed"])
    assert "num_layers" in {column["name"] for column in table["columns"]}


def test_heads_are_told_where_there_are_several():
    of_heads = [record(of=case(heads=4))]
    assert ("Heads", "4") in tables.all_rows(summarise(of_heads))["fixed"]
    varied = tables.all_rows(summarise([*of_heads, record()]))
    assert "heads" in {column["name"] for column in varied["columns"] if column["shown"]}
