"""What is skipped before any backend is asked."""

from dataclasses import asdict

import pytest

from lstm_harness.model.case import Call, Case
from lstm_harness.race.survey import _backend, _general_skip
from lstm_harness.worker import handlers
from lstm_kernels import Problem, registry
from lstm_kernels.registry import TORCH_CELLS

FULL = Problem("lstm", 8, 2, 4, 4)
HEADS = Problem("lstm", 8, 2, 4, 4, heads=2)
INT8 = Problem("lstm", 8, 2, 4, 4, precision="w8")
RAGGED = Problem("lstm", 8, 2, 4, 4, lengths="uniform:1:8")


@pytest.mark.parametrize(
    ("backend", "problem", "launch", "device", "reason"),
    [
        ("naive", FULL, "eager", "cpu", None),
        ("naive", FULL, "graph", "cuda", None),
        ("graphed", FULL, "eager", "cuda", None),
        ("graphed", FULL, "graph", "cuda", "cannot be captured"),
        ("naive", RAGGED, "graph", "cuda", "ragged lengths"),
        ("naive", FULL, "graph", "cpu", "need a CUDA device"),
        ("naive", HEADS, "eager", "cpu", None),
        ("aten", HEADS, "eager", "cpu", "whole of W_hh, so it has no heads"),
        ("naive", INT8, "eager", "cpu", "naive has no int8 weights"),
        ("numba_cpu", INT8, "eager", "cpu", None),
        ("naive", Problem("slstm", 8, 2, 4, 4), "eager", "cpu", "this revision have no cell slstm"),
    ],
)
def test_what_no_backend_of_a_kind_can_do_is_refused(backend, problem, launch, device, reason):
    case = Case(problem, "forward", launch, "warm", device)
    skip = _general_skip(case, registry.get(backend), TORCH_CELLS)
    assert (skip is None) == (reason is None)
    assert reason is None or reason in skip.reason


def test_who_draws_masks_that_nobody_can_draw_again_has_no_dropout():
    two = Problem("lstm", 8, 2, 4, 4, num_layers=2)
    for name, call, is_refused in (
        ("cudnn", Call(dropout=0.3), True),
        ("cudnn", Call(), False),
        ("aten", Call(dropout=0.3), False),
    ):
        case = Case(two, "train", device="cuda", call=call)
        skip = _general_skip(case, registry.get(name), TORCH_CELLS)
        assert (skip is not None) == is_refused
        assert skip is None or "nobody can draw them again" in skip.reason


@pytest.mark.parametrize(
    ("field", "backend", "problem", "reason"),
    [
        ("heads", "naive", HEADS, "it multiplies by the whole of W_hh, so it has no heads"),
        ("w8", "aten", INT8, "aten has no int8 weights, and this is precision w8"),
    ],
)
def test_kernels_from_before_there_was_a_field_are_not_asked_for_it(
    field, backend, problem, reason
):
    told = asdict(registry.get(backend))
    del told[field]
    skip = _general_skip(
        Case(problem, "inference", "eager", "warm", "cpu"), _backend(told), TORCH_CELLS
    )
    assert skip.reason == reason


@pytest.mark.parametrize(
    ("device", "interpreter", "checking", "runs"),
    [
        ("cpu", "1", True, True),
        ("cpu", "1", False, False),
        ("cpu", "0", True, False),
        ("cuda", "0", False, True),
    ],
)
def test_what_is_interpreted_is_checked_and_never_timed(
    device, interpreter, checking, runs, monkeypatch
):
    monkeypatch.setattr(registry, "missing", lambda name: ())
    monkeypatch.setenv("TRITON_INTERPRET", interpreter)
    reason = handlers.why_missing(device, "pointwise", checking)
    assert (reason is None) == runs
    assert runs or reason.startswith("runs on cuda only; this is cpu; TRITON_INTERPRET=1 lstm-be")


@pytest.mark.parametrize("name", ["triton", "pointwise", "numba_cuda"])
def test_what_an_extra_would_bring_is_told_with_the_extra(name, monkeypatch):
    packages = registry.get(name).requires
    monkeypatch.setattr(registry, "missing", lambda name: packages)
    reason = handlers.why_missing("cuda", name, checking=False)
    assert reason == f"needs {packages[0]}: pip install 'lstm-bench[cuda]'"


def test_verify_checks_interpreted_kernels(document, monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    what = "--backend pointwise --device cpu --cell gru --seq-len 2 --batch 1 --hidden 4"
    checked = document("verify", *what.split(), "--threads", 1, "--json", "--quiet")
    assert {row["status"] for row in checked} == {"ok"}
    planned = document("plan", *what.split(), "--json")
    assert len(planned["skips"]) == len(planned["cases"]) > 0
    assert {skip["status"] for skip in planned["skips"]} == {"unsupported"}


def test_int8_weights_are_checked_without_gradients(document):
    what = "--cell lstm --hidden 16 --seq-len 6 --batch 3 --precision w8 --pass inference"
    checked = document(
        "verify", "--backend", "aten,naive", *what.split(), "--threads", 1, "--json", "--quiet"
    )
    by_backend = {row["backend"]: row for row in checked}
    assert by_backend["naive"]["status"] == "unsupported"
    assert by_backend["aten"]["status"] == "ok"
    assert set(by_backend["aten"]["errors"]) == {"y", "h_n", "c_n"}
    assert max(by_backend["aten"]["errors"].values()) > 1e-4
