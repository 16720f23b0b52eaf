"""A run to what `auto` reads: what counts of it, who is tied, whom to take, whom next."""

from typing import Any

import pandas as pd
import pytest
from synthetic_runs import blocks, case, environment, manifest

from lstm_harness.analysis import for_auto
from lstm_harness.analysis.summary import summarise
from lstm_harness.model.case import CALL_FIELDS
from lstm_harness.model.record import Record
from lstm_kernels import CELLS
from lstm_kernels.cells import to_data
from lstm_kernels.measured import DeviceClass, Row, parsed, text_of

CPU = {"model": "A CPU", "physical_cores": 2, "threads": 2, "capability": "AVX2"}
# Of five blocks: a spread of 1% about a time in µs.
SPREAD = (0.99, 1.01, 1.0, 0.995, 1.005)
WILD = (0.6, 1.5, 1.0, 0.7, 1.4)


def cell(
    backend: str, us: float, pass_name: str = "inference", spread: Any = SPREAD, **fields: Any
) -> list[Record]:
    """A backend's records of a case, a block each, about this time."""
    known = ("launch", "cache", "device", "seq_len", "batch", "cell", "dtype", "lengths")
    known += ("num_layers", *CALL_FIELDS)
    of = case(pass_name, **{name: fields.pop(name) for name in known if name in fields})
    return blocks(backend, [int(us * 1000 * share) for share in spread], of=of, **fields)


def rows(*cells: list[Record], **fields: Any) -> tuple[Row, ...]:
    """What `auto` reads of a run of these cells."""
    records = [record for one in cells for record in one]
    told = manifest(records, **{"environment": environment() | {"cpu": CPU}} | fields)
    measured = for_auto.measured_of(told, summarise(records))
    return () if measured is None else measured.rows


def orders(*cells: list[Record], **fields: Any) -> dict[str, tuple[str, ...]]:
    return {row.use: row.order for row in rows(*cells, **fields)}


def both(backend: str, forward_us: float, backward_us: float, **fields: Any) -> list[Record]:
    forward = cell(backend, forward_us, "forward", **fields)
    return forward + cell(backend, backward_us, "backward", **fields)


def test_the_fastest_is_taken_and_after_it_who_is_next_down_to_pytorchs_own() -> None:
    (row,) = rows(cell("naive", 20), cell("aten", 10), cell("numba_cpu", 5), cell("hoisted", 7))
    assert row.use == "inference"
    assert row.problem == case().problem
    assert row.order == ("numba_cpu", "hoisted", "aten")
    assert row.tied == ("numba_cpu",)
    assert list(row.median_ns) == ["numba_cpu", "hoisted", "aten", "naive"]
    assert row.median_ns["aten"] == 10_000
    assert row.run.torch == "2.13.0"
    assert row.run.kernels == "0123abcd"
    assert row.run.start == "2026-01-01T12:00:00+00:00"


def test_of_a_proven_tie_pytorchs_own_is_taken() -> None:
    (row,) = rows(cell("numba_cpu", 9.98, spread=SPREAD[::-1]), cell("aten", 10))
    assert list(row.median_ns) == ["numba_cpu", "aten"]
    assert (row.tied, row.order) == (("numba_cpu", "aten"), ("aten",))


@pytest.mark.parametrize("us", [7, 9])
def test_noise_is_no_tie_and_the_faster_median_is_taken(us: float) -> None:
    (row,) = rows(cell("numba_cpu", us, spread=WILD), cell("aten", 10))
    assert (row.tied, row.order) == (("numba_cpu", "aten"), ("numba_cpu", "aten"))
    (row,) = rows(cell("aten", us, spread=WILD), cell("numba_cpu", 10))
    assert (row.tied, row.order) == (("aten", "numba_cpu"), ("aten",))


@pytest.mark.parametrize(
    ("shares", "first"),
    [((0.97, 1.01, 0.99, 1.0), "aten"), ((0.95, 1.0, 0.96, 0.98), "numba_cpu")],
    ids=["inside the margin", "beyond it on one side"],
)
def test_a_tie_is_proven_by_its_whole_interval(shares: tuple[float, ...], first: str) -> None:
    """Against four blocks of the same time, so that the shares are the ratios."""
    (row,) = rows(cell("numba_cpu", 10, spread=shares), cell("aten", 10, spread=(1.0,) * 4))
    assert row.tied == ("numba_cpu", "aten")
    assert row.order[0] == first


def test_of_a_tie_without_pytorchs_own_the_fastest_is_taken() -> None:
    (row,) = rows(cell("hoisted", 5.1, spread=WILD), cell("numba_cpu", 5), cell("aten", 20))
    assert (row.tied, row.order) == (("numba_cpu", "hoisted"), ("numba_cpu", "hoisted", "aten"))


def test_who_comes_next_is_judged_among_the_rest() -> None:
    """Behind the fastest, `hoisted` and `aten` are even."""
    even = cell("hoisted", 9.98, spread=SPREAD[::-1])
    found = orders(cell("numba_cpu", 5), even, cell("aten", 10))
    assert found == {"inference": ("numba_cpu", "aten")}


def test_training_is_a_forward_and_a_backward_together() -> None:
    (row,) = rows(both("numba_cpu", 5, 20), both("aten", 10, 10), both("naive", 30, 30))
    assert row.use == "training"
    assert row.median_ns == {"aten": 20_000, "numba_cpu": 25_000, "naive": 60_000}
    assert row.order == ("aten",)


def test_the_pass_train_counts_where_the_two_were_not_measured() -> None:
    trained = cell("numba_cpu", 15, "train"), cell("aten", 20, "train")
    (row,) = rows(*trained)
    assert (row.use, row.median_ns) == ("training", {"numba_cpu": 15_000, "aten": 20_000})
    (row,) = rows(*trained, both("numba_cpu", 9, 9), both("aten", 8, 8))
    assert row.median_ns == {"aten": 16_000, "numba_cpu": 18_000}
    # Half of the two is neither.
    assert rows(cell("numba_cpu", 5, "forward"), cell("aten", 10, "forward")) == ()


def test_a_tie_of_training_is_one_in_every_pass() -> None:
    """Together they are even; alone, the forward is not, and no pass is slower on numba_cpu."""
    turned = SPREAD[::-1]
    backward = cell("numba_cpu", 499, "backward", spread=turned), cell("aten", 500, "backward")
    apart = cell("numba_cpu", 5, "forward"), cell("aten", 9, "forward")
    even = cell("numba_cpu", 4.99, "forward", spread=turned), cell("aten", 5, "forward")
    assert orders(*backward, *apart) == {"training": ("numba_cpu", "aten")}
    assert orders(*backward, *even) == {"training": ("aten",)}


def test_each_problem_and_use_has_its_row() -> None:
    found = rows(
        *(cell(b, 5, batch=batch) for b in ("aten", "naive") for batch in (1, 4)),
        *(both(b, 5, 5, lengths="uniform:1:32") for b in ("aten", "naive")),
        *(cell(b, 5, dtype="float64", cell="gru") for b in ("aten", "naive")),
    )
    assert [(row.problem.batch, row.use) for row in found].count((4, "inference")) == 2
    assert len(found) == 4
    assert {row.problem.lengths for row in found if row.use == "training"} == {"uniform:1:32"}


NOT_COUNTED = {
    "a block lacks": cell("numba_cpu", 5)[:-1],
    "a block failed": [*cell("numba_cpu", 5)[:-1], *blocks("numba_cpu", [1], of=case("inference"))],
    "a warning": cell("numba_cpu", 5, warnings=("the clock was slow",)),
    "not believed": cell("numba_cpu", 5, unranked="too fast to be true"),
    "wrong": cell("numba_cpu", 5, errors={"y": 0.1}),
    "not checked": cell("numba_cpu", 5, errors={}, tolerance=None),
    "from a CUDA graph": cell("numba_cpu", 5, launch="graph"),
    "with a cold cache": cell("numba_cpu", 5, cache="cold"),
    "batch first": cell("numba_cpu", 5, batch_first=True),
    "under autocast": cell("numba_cpu", 5, autocast="bfloat16"),
}


@pytest.mark.parametrize("why", NOT_COUNTED)
def test_a_cell_that_does_not_count_is_left_out(why: str) -> None:
    records = NOT_COUNTED[why]
    if why == "a block failed":
        records = [*records[:-1], *cell("numba_cpu", 5, status="crashed")[-1:]]
    found = orders(records, cell("hoisted", 7), cell("aten", 10))
    assert found == {"inference": ("hoisted", "aten")}


def test_training_with_dropout_does_not_count() -> None:
    for dropout, order in ((0.0, {"training": ("numba_cpu", "aten")}), (0.3, {})):
        trained = [
            cell(name, us, "train", num_layers=2, dropout=dropout)
            for name, us in (("numba_cpu", 5), ("aten", 10))
        ]
        assert orders(*trained) == order


def test_without_pytorchs_own_nothing_counts() -> None:
    assert rows(cell("numba_cpu", 5), cell("hoisted", 7)) == ()
    assert rows(cell("numba_cpu", 5), cell("aten", 7, warnings=("slow",))) == ()


@pytest.mark.parametrize("count", [1, 2])
def test_of_too_few_blocks_nobody_knows_a_tie(count: int) -> None:
    assert rows(cell("numba_cpu", 5, spread=SPREAD[:count]), cell("aten", 10)[:count]) == ()


def test_on_a_gpu_pytorchs_own_is_cudnn_unless_it_refuses() -> None:
    gpu = {"environment": environment() | {"gpu": {"name": "A GPU"}}, "plan": {"device": "cuda"}}

    def on_gpu(backend: str, us: float, **fields: Any) -> list[Record]:
        return cell(backend, us, device="cuda", **fields)

    triton, aten, cudnn = on_gpu("triton", 5), on_gpu("aten", 20), on_gpu("cudnn", 10)
    refused = on_gpu("cudnn", 1, status="unsupported")
    failed = on_gpu("cudnn", 1, status="crashed")
    assert orders(triton, aten, cudnn, **gpu) == {"inference": ("triton", "cudnn")}
    assert orders(triton, aten, refused, **gpu) == {"inference": ("triton", "aten")}
    assert orders(triton, aten, failed, **gpu) == {}
    assert orders(triton, aten, **gpu) == {}
    device = for_auto.device_class(manifest(triton, **gpu))
    assert device == DeviceClass("cuda", "A GPU")


@pytest.mark.parametrize(
    "fields",
    [
        {"imported": True},
        {"spec": manifest()["spec"] | {"plugins": ["mine.py"]}},
        {"definitions": [to_data(CELLS["lstm"]) | {"name": "mine"}]},
        {"environment": environment()},  # which does not tell the instructions
        {"environment": environment() | {"cpu": None}},
        {"environment": environment() | {"cpu": CPU, "torch": None}},
    ],
    ids=["imported", "plugins", "a cell that is brought", "no instructions", "no cpu", "no torch"],
)
def test_a_run_that_tells_too_little_tells_nothing(fields: dict[str, Any]) -> None:
    cells = cell("numba_cpu", 5), cell("aten", 10)
    assert rows(*cells) != ()
    assert rows(*cells, **fields) == ()


def test_a_cpu_that_has_no_name_is_called_as_the_kernels_call_it() -> None:
    nameless = environment() | {"cpu": CPU | {"model": ""}}
    assert for_auto.device_class(manifest(environment=nameless)) == DeviceClass(
        "cpu", "cpu", "AVX2", 2
    )


def test_an_empty_run_tells_nothing() -> None:
    assert rows() == ()
    assert isinstance(summarise(()), pd.DataFrame)


def test_what_is_made_can_be_read() -> None:
    records = [*both("numba_cpu", 5, 20), *both("aten", 10, 10)]
    told = manifest(records, environment=environment() | {"cpu": CPU})
    made = for_auto.measured_of(told, summarise(records))
    assert made is not None
    assert made.device == DeviceClass("cpu", "A CPU", "AVX2", 2)
    assert parsed(text_of(made).encode()) == made
