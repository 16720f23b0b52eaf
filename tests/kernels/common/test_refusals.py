"""Refusals: a sentence, with the numbers in it."""

from dataclasses import replace

import pytest

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.common.refusals import cuda_limit, device_limit, float32_limit

SMALL = lk.Problem("lstm", 5, 3, 4, 4)
TF32 = lk.Problem("lstm", 5, 3, 4, 4, precision="tf32")


def test_tf32_lives_on_cuda(backend: str) -> None:
    reason = registry.load(backend).unsupported(TF32, "cpu")
    assert reason == "TF32 exists on CUDA devices only"


@pytest.mark.parametrize("name", [b.name for b in registry.BUILT_IN])
def test_no_cuda_no_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    reason = registry.load(name).unsupported(SMALL, "cuda:1")
    assert reason == "device 'cuda:1' was asked for, but torch sees no CUDA device"


@pytest.mark.parametrize(
    ("name", "what"), [("graphed", "CUDA graphs need"), ("cudnn", "cuDNN needs")]
)
def test_what_lives_on_cuda_alone_refuses_a_cpu(name: str, what: str) -> None:
    reason = registry.load(name).unsupported(SMALL, "cpu")
    assert reason == f"{what} a CUDA device, and this is 'cpu'"


@pytest.mark.parametrize("name", [b.name for b in registry.BUILT_IN if b.interpreter])
def test_a_cpu_has_to_be_told_to_interpret(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record = registry.get(name)
    for package in record.requires:
        pytest.importorskip(package)
    unsupported = registry.load(name).unsupported
    monkeypatch.setenv(record.interpreter, "0")
    reason = unsupported(SMALL, "cpu")
    assert reason.endswith(
        f"a CUDA device, and this is 'cpu'; {record.interpreter}=1 interprets its kernels there, "
        "for checking only"
    )
    monkeypatch.setenv(record.interpreter, "1")
    assert unsupported(SMALL, "cpu") is None
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert unsupported(SMALL, "cuda").startswith(f"{record.interpreter} has a CPU interpret")


def test_float32_arithmetic_is_said_to_be() -> None:
    reason = "Triton computes in float32, and this is float64"
    assert float32_limit(replace(SMALL, dtype="float64"), "Triton") == reason
    assert float32_limit(replace(SMALL, dtype="bfloat16"), "Triton") is None


def test_torch_cannot_pack_a_sequence_without_steps() -> None:
    empty = lk.Problem("lstm", 5, 3, 4, 4, lengths="uniform:0:0")
    reason = "3 of the 3 sequences have 0 steps, and torch.nn packs sequences of 1 step or more"
    assert registry.load("aten").unsupported(empty, "cpu") == reason
    assert registry.load("naive").unsupported(empty, "cpu") is None


def test_a_device_that_is_there_has_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert device_limit(SMALL, "cpu") is None
    assert device_limit(TF32, "cuda") is None
    assert cuda_limit(TF32, "cuda:0", "cuDNN") is None
