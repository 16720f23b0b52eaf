"""A run becomes advice: by all calls together, against torch.nn's own choice, beyond noise."""

import pytest
from synthetic_runs import blocks, case, record

from lstm_harness.analysis.recommendation import OWN_MIXED, recommended
from lstm_harness.model.plan import Plan
from lstm_harness.model.spec import Spec, build


def spec_of(calls, device="cpu"):
    """A spec with a layer a (name, T), called so often."""
    defaults = build(None, {"hidden": "64", "batch": "4", "pass": "train"}, {}).grids[0]
    grids = (
        {**defaults, "layer": (name,), "seq-len": (T,), "calls": (count,)}
        for (name, T), count in calls.items()
    )
    return Spec(tuple(grids), device=device)


def advise(calls, records, device="cpu", **plan):
    """The advice on calls by (layer, T), of records; the plan has every backend they name."""
    records = list(records)
    spec = spec_of(calls, device)
    names = tuple(dict.fromkeys(each.backend for each in records))
    planned = Plan(names, spec.cases(device), 5, device, {}, {}, **plan)
    return recommended(spec, planned, records)


def of(T, device="cpu"):
    return case("train", device=device, seq_len=T)


def timed(backend, times_ns, device="cpu", spread=0.01):
    """Five blocks of a backend: its time at each T, each block a little off."""
    for T, time_ns in times_ns.items():
        medians = [round(time_ns * (1 + spread * step)) for step in (-2, 1, 0, 2, -1)]
        yield from blocks(backend, medians, of=of(T, device))


CALLS = {("encoder", 8): 1000, ("decoder", 64): 10}


def test_calls_weigh_the_cases():
    records = [
        *timed("aten", {8: 100_000, 64: 1_000_000}),
        *timed("short", {8: 50_000, 64: 4_000_000}),
        *timed("long", {8: 120_000, 64: 300_000}),
    ]
    often_short = advise(CALLS, records)
    assert (often_short.backend, often_short.own) == ("short", "aten")
    assert often_short.own_ns == 1000 * 100_000 + 10 * 1_000_000
    assert often_short.advised_ns == 1000 * 50_000 + 10 * 4_000_000
    assert [each.backend for each in often_short.standings] == ["short", "aten", "long"]
    assert advise({("encoder", 8): 10, ("decoder", 64): 1000}, records).backend == "long"


def test_each_layer_tells_its_share_and_who_would_be_faster_there_alone():
    records = [
        *timed("aten", {8: 100_000, 64: 1_000_000}),
        *timed("short", {8: 50_000, 64: 2_000_000}),
    ]
    first, second = advise({("a", 8): 100, ("b", 64): 1}, records).parts
    assert (first.use.layer, first.alone, second.alone) == ("a", None, "aten")
    assert first.share == pytest.approx(10 / 11)
    assert first.ratio.value == pytest.approx(2)
    assert second.alone_ratio.value == pytest.approx(2)
    assert (second.own_ns, second.advised_ns) == (1_000_000, 2_000_000)


def test_who_is_faster_alone_is_told_though_refused_elsewhere():
    records = [
        *timed("aten", {8: 100_000, 64: 1_000_000}),
        *timed("quick", {8: 10_000}),
        record("quick", of=of(64), status="unsupported", reason="T=64 is too long"),
    ]
    told = advise(CALLS, records)
    assert told.backend == "aten"
    assert told.refused == {"quick": f"{of(64).label()}: unsupported: T=64 is too long"}
    assert [part.alone for part in told.parts] == ["quick", None]


@pytest.mark.parametrize("status", ["incorrect", "crashed", "timed_out", "out_of_memory"])
def test_who_failed_in_any_block_of_a_case_is_out(status):
    records = [
        *timed("aten", {8: 100_000, 64: 1_000_000}),
        *timed("wrong", {8: 10_000, 64: 10_000}),
        record("wrong", of=of(64), status=status, block=5),
    ]
    told = advise(CALLS, records)
    assert told.backend == "aten"
    assert status in told.refused["wrong"]


def test_a_difference_within_noise_keeps_torch_nn():
    aten = list(blocks("aten", [100_000, 130_000, 90_000, 110_000, 99_000], of=of(8)))
    near = list(blocks("near", [101_000, 99_000, 98_000, 105_000, 94_000], of=of(8)))
    told = advise({("a", 8): 3}, aten + near)
    assert (told.backend, told.own) == ("aten", "aten")
    assert told.standings[0].backend == "near"
    assert told.standings[0].ratio.tie is True


def test_what_slows_a_whole_block_is_no_noise():
    slow = (1, 3, 1, 7, 2)
    aten = list(blocks("aten", [100_000 * each for each in slow], of=of(8)))
    faster = list(blocks("faster", [95_000 * each for each in slow], of=of(8)))
    assert advise({("a", 8): 3}, aten + faster).backend == "faster"


def test_two_blocks_tell_nothing_of_noise():
    records = blocks("aten", [100, 100], of=of(8)) + blocks("faster", [50, 50], of=of(8))
    told = advise({("a", 8): 3}, records)
    assert (told.backend, told.standings[0].ratio.tie) == ("faster", None)
    assert told.standings[0].ratio.value == 2


def test_cases_that_nobody_measured_are_told_and_left_out():
    told = advise(CALLS, [*timed("aten", {8: 100_000}), *timed("other", {8: 50_000})])
    assert told.backend == "other"
    assert [use.layer for use in told.unmeasured] == ["decoder"]
    assert told.own_ns == 1000 * 100_000


def test_a_case_that_one_backend_has_not_been_measured_in_yet():
    told = advise(CALLS, [*timed("aten", {8: 100, 64: 100}), *timed("other", {8: 50})])
    assert (told.backend, told.refused) == (
        "aten",
        {"other": f"{of(64).label()}: not measured yet"},
    )


def test_without_torch_nn_nothing_is_saved_against():
    records = [
        *timed("other", {8: 50_000}),
        record("aten", of=of(8), status="unsupported", reason="no"),
    ]
    told = advise({("a", 8): 3}, records)
    assert (told.backend, told.own, told.own_ns, told.standings[0].ratio) == (
        *("other", None, None, None),
    )
    assert told.parts[0].share is None


def test_nobody_ran_every_case():
    told = advise({("a", 8): 3}, [record("aten", of=of(8), status="crashed")])
    assert (told.backend, told.own, told.standings) == (None, None, ())
    assert advise({("a", 8): 3}, []).backend is None


def test_on_cuda_torch_nn_takes_cudnn_where_it_runs():
    records = [
        *timed("cudnn", {8: 50_000}, "cuda"),
        record("cudnn", of=of(64, "cuda"), status="unsupported", reason="not this"),
        *timed("aten", {8: 90_000, 64: 400_000}, "cuda"),
        *timed("slow", {8: 500_000, 64: 500_000}, "cuda"),
    ]
    told = advise(CALLS, records, "cuda")
    assert told.own_ns == 1000 * 50_000 + 10 * 400_000
    assert (told.own, [part.own for part in told.parts]) == (OWN_MIXED, ["cudnn", "aten"])
    # The fastest that ran every case is slower than what torch.nn does.
    assert told.standings[0].backend == "aten"
    assert (told.backend, told.advised_ns) == (OWN_MIXED, told.own_ns)


def test_on_cuda_aten_is_not_its_choice_where_nobody_asked_cudnn():
    records = [*timed("triton", {8: 50_000}, "cuda"), *timed("aten", {8: 100_000}, "cuda")]
    told = advise({("a", 8): 1}, records, "cuda")
    assert (told.backend, told.own, told.own_ns) == ("triton", None, None)
    assert [each.ratio for each in told.standings] == [None, None]
