"""PyTorch's choice of a cuDNN algorithm, at its edges, and what cuDNN itself cannot run."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

import lstm_kernels as lk
from lstm_kernels.backends import torch_cudnn
from lstm_kernels.backends.torch_cudnn import (
    PERSIST_STATIC,
    PERSIST_STATIC_SMALL_H,
    STANDARD,
    algorithm,
)


def problem(cell: str = "lstm", H: int = 256, B: int = 16, **fields: Any) -> lk.Problem:
    sizes = {"seq_len": 32, "batch": B, "input_size": 256, "hidden_size": H}
    return lk.Problem(cell, **{"dtype": "float16"} | sizes | fields)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize(
    ("kind", "forward", "backward"),
    [("lstm", 192, 128), ("gru", 192, 128), ("rnn_tanh", 384, 256), ("rnn_relu", 384, 256)],
)
def test_small_h_ends_where_it_ends(kind: str, forward: int, backward: int, dtype: str) -> None:
    for direction, edge in (("forward", forward), ("backward", backward)):
        below, above = problem(kind, edge, dtype=dtype), problem(kind, edge + 1, dtype=dtype)
        assert algorithm(below, direction) == PERSIST_STATIC_SMALL_H
        assert algorithm(above, direction) == STANDARD


def test_float64_is_always_standard() -> None:
    assert algorithm(problem(H=64, dtype="float64"), "forward") == STANDARD


@pytest.mark.parametrize(
    ("B", "expected"),
    [
        (8, PERSIST_STATIC),
        (12, STANDARD),
        (128, PERSIST_STATIC),
        (136, STANDARD),
    ],
)
def test_persistent_batches(B: int, expected: str) -> None:
    assert algorithm(problem(B=B), "forward") == expected
    assert algorithm(problem(B=B), "backward") == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"dtype": "bfloat16"},
        {"dtype": "float32"},
        {"cell": "gru"},
        {"num_layers": 2},
        {"bidirectional": True},
        {"H": 320},
        {"H": 1152},
        {"input_size": 200},
        {"proj_size": 64},
        {"lengths": "uniform:1:32"},
        {"cell": "rnn_tanh", "H": 896, "B": 96},
    ],
    ids=str,
)
def test_what_falls_off_the_persistent_kernels(fields: dict[str, Any]) -> None:
    assert algorithm(problem(), "forward") == PERSIST_STATIC
    assert algorithm(problem(**fields), "forward") == STANDARD


@pytest.mark.parametrize("fields", [{"H": 768, "B": 96}, {"H": 896, "B": 88}], ids=str)
def test_plain_cells_persist_short_of_their_edge(fields: dict[str, Any]) -> None:
    assert algorithm(problem("rnn_relu", **fields), "forward") == PERSIST_STATIC


@pytest.mark.parametrize("fields", [{"proj_size": 64}, {"lengths": "uniform:1:32"}], ids=str)
def test_projections_and_packed_input_are_standard_at_small_h_too(fields: dict[str, Any]) -> None:
    assert algorithm(problem(H=128), "forward") == PERSIST_STATIC_SMALL_H
    assert algorithm(problem(H=128, **fields), "forward") == STANDARD


def test_between_the_edges_the_passes_part() -> None:
    between = problem(H=160, dtype="float32")
    assert algorithm(between, "forward") == PERSIST_STATIC_SMALL_H
    assert algorithm(between, "backward") == STANDARD


def test_smaller_gpus_do_not_persist() -> None:
    assert algorithm(problem(), "forward", capability=(8, 6)) == STANDARD
    assert algorithm(problem(), "forward", multiprocessors=56) == STANDARD


def test_evidence_names_both_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = SimpleNamespace(major=9, minor=0, multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    assert torch_cudnn.kernels_used(problem(H=160)) == [
        "cudnn forward: PERSIST_STATIC_SMALL_H",
        "cudnn backward: STANDARD",
    ]
    gpu.major = 7
    (line,) = torch_cudnn.kernels_used(problem())
    assert "no rule is known for compute capability 7.0" in line


def test_no_gpu_no_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert torch_cudnn.kernels_used(problem()) == []


@pytest.mark.parametrize(
    ("dtype", "version", "capability", "reason"),
    [
        ("bfloat16", 91200, (9, 0), "bfloat16 needs cuDNN 91300, and this is 91200"),
        ("bfloat16", 91300, (9, 0), None),
        ("bfloat16", 91300, (7, 5), "bfloat16 needs compute capability 8.0, and this GPU has 7.5"),
        ("float64", 91200, (7, 5), None),
        ("float32", None, (9, 0), "this build of torch has no cuDNN"),
    ],
)
def test_what_the_library_cannot_run(
    dtype: str,
    version: int | None,
    capability: tuple[int, int],
    reason: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: version)
    assert torch_cudnn.unsupported(problem(dtype=dtype), "cuda:0") == reason


@pytest.mark.parametrize("grad", [True, False])
def test_cudnn_is_in_training_mode_wherever_a_backward_may_follow(
    monkeypatch: pytest.MonkeyPatch, grad: bool
) -> None:
    """Out of it cuDNN keeps nothing, and its backward raises; dropout stays off all the same."""
    seen = []

    def spy(*arguments: Any, **settings: Any) -> Any:
        seen.append((settings["training"], settings["dropout"]))

    monkeypatch.setattr(torch_cudnn, "run_native", spy)
    monkeypatch.setattr(torch_cudnn, "flatten", lambda *_: None)
    problem = lk.Problem("lstm", 2, 1, 3, 4)
    x, h, c = torch.zeros(2, 1, 3), torch.zeros(1, 1, 4), torch.zeros(1, 1, 4)
    weights = (lk.Weights(torch.zeros(16, 3, requires_grad=grad), torch.zeros(16, 4)),)
    torch_cudnn.stack(x, h, c, weights, problem=problem, dropout=0.5)
    with torch.no_grad():
        torch_cudnn.stack(x, h, c, weights, problem=problem, dropout=0.5)
    assert seen == [(grad, 0.0), (False, 0.0)]
