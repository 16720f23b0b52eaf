"""`backend="auto"` in a layer's own calls: who runs, what is told, what it survives."""

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from measured_rows import problem, put, row, run_of
from torch.nn.utils.rnn import pack_sequence

import lstm_kernels as lk
from lstm_kernels import measured, preference, registry

X = (8, 4, 16)


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Where the user's results lie: a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    preference.forget()
    return measured.user_folder()


@pytest.fixture
def layer(own: Path) -> lk.LSTM:
    """A layer near whose problems somebody was measured faster than PyTorch's own."""
    put(
        own,
        row(("hoisted", "aten"), run=run_of(id="mine")),
        row(("naive", "aten"), "inference"),
        row(("per_gate", "aten"), lengths="uniform:3:8"),
    )
    return lk.LSTM(16, 16)


def test_before_a_forward_nothing_is_chosen() -> None:
    assert lk.LSTM(16, 16).chosen_backend is None
    assert lk.LSTM(16, 16).why_chosen() == "no forward has run yet"


def test_what_was_named_is_told_to_be() -> None:
    rnn = lk.LSTM(16, 16, backend="naive")
    rnn(torch.randn(X))
    assert rnn.why_chosen() == "naive: it was named"


def test_a_layer_runs_on_the_fastest_measured(layer: lk.LSTM) -> None:
    theirs = torch.nn.LSTM(16, 16)
    theirs.load_state_dict(layer.state_dict())
    x = torch.randn(X)
    y, _ = layer(x)
    assert layer.chosen_backend == "hoisted"
    assert layer.why_chosen().startswith("hoisted: the fastest of 2 measured on lstm T8 B4 H16 ")
    torch.testing.assert_close(y, theirs(x)[0])


def test_whether_gradients_may_be_asked_for_decides_the_use(layer: lk.LSTM) -> None:
    def chosen(x: torch.Tensor) -> str | None:
        layer(x)
        return layer.chosen_backend

    x = torch.randn(X)
    with torch.no_grad():
        assert chosen(x) == "naive"
    with torch.inference_mode():
        assert chosen(x) == "naive"
    layer.requires_grad_(False)
    assert chosen(x) == "naive"
    assert chosen(x.clone().requires_grad_()) == "hoisted"
    layer.requires_grad_(True)
    assert chosen(x) == "hoisted"


def test_sequences_of_different_lengths_are_another_problem(layer: lk.LSTM) -> None:
    layer(pack_sequence([torch.randn(n, 16) for n in (8, 8, 7, 5)]))
    assert layer.chosen_backend == "per_gate"
    layer(pack_sequence([torch.randn(8, 16)] * 4))
    assert layer.chosen_backend == "hoisted"


def test_the_dtype_that_a_layer_runs_in_counts(own: Path) -> None:
    put(own, row(("hoisted", "aten")), row(("naive", "aten"), dtype="bfloat16"))
    rnn, x = lk.LSTM(16, 16), torch.randn(X)
    with torch.autocast("cpu", torch.bfloat16):
        rnn(x)
    assert rnn.chosen_backend == "naive"
    rnn.double()(x.double())
    assert rnn.chosen_backend == "aten"


def test_the_functions_choose_too(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(own, row(("hoisted", "aten")))
    asked = []
    load = registry.load
    monkeypatch.setattr(registry, "load", lambda name: asked.append(name) or load(name))
    x, h, w = torch.randn(X), torch.zeros(4, 16), torch.randn(64, 16, requires_grad=True)
    lk.lstm(x, h, h, w, w, *torch.zeros(2, 64))
    assert asked[-1] == "hoisted"
    with torch.no_grad():
        lk.lstm(x, h, h, w, w, *torch.zeros(2, 64))
    assert asked[-1] == "aten"


def test_who_refuses_the_very_problem_is_passed_over_and_why(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(own, row(("hoisted", "naive", "aten")))
    hoisted = registry.load("hoisted")
    monkeypatch.setattr(hoisted, "unsupported", lambda problem, device: "it is tired")
    rnn = lk.LSTM(16, 16)
    rnn(torch.randn(X))
    assert rnn.chosen_backend == "naive"
    assert rnn.why_chosen().endswith("; passed over: hoisted (it is tired)")
    # Asked at every call: what hindered it may be gone.
    monkeypatch.undo()
    preferred_before = preference.preferred.cache_info().currsize
    rnn(torch.randn(X))
    assert rnn.chosen_backend == "hoisted"
    assert preference.preferred.cache_info().currsize == preferred_before


def test_one_that_nobody_can_run_raises_the_last_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    aten = registry.load("aten")
    monkeypatch.setattr(aten, "unsupported", lambda problem, device: "it is tired")
    with pytest.raises(lk.Unsupported, match="backend 'aten': it is tired"):
        lk.LSTM(16, 16)(torch.randn(X))


def test_a_broken_file_breaks_no_forward(own: Path) -> None:
    put(own, row()).write_text("{")
    rnn = lk.LSTM(16, 16)
    with pytest.warns(UserWarning, match="is broken"):
        rnn(torch.randn(X))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rnn(torch.randn(X))
    assert rnn.chosen_backend == "aten"
    assert "; your own results: " in rnn.why_chosen()
    assert "is broken: it is not JSON" in rnn.why_chosen()


def test_under_a_transform_pytorchs_own_or_naive_runs(layer: lk.LSTM) -> None:
    x = torch.randn(X)
    torch.func.grad(lambda x: layer(x)[0].sum())(x)
    assert layer.why_chosen() == "aten: PyTorch's own, which supports torch.func's grad"
    torch.func.vmap(lambda x: layer(x)[0])(torch.stack([x, x]))
    assert layer.why_chosen() == ("naive: PyTorch's own does not support torch.func's vmap")


def test_under_a_transform_what_pytorch_has_not_runs_on_its_operations() -> None:
    layer = lk.Recurrent("slstm", 3, 4, heads=2)
    found = torch.func.grad(lambda x: layer(x)[0].sum())(torch.randn(5, 2, 3))
    assert found.isfinite().all()
    assert layer.chosen_backend == "hoisted"


def test_a_second_call_reads_no_file_and_judges_nothing_anew(
    layer: lk.LSTM, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(X)
    layer(x)
    why = layer.why_chosen()

    def unwanted(*_: Any) -> Any:
        raise AssertionError("asked again")

    for place, name in ((measured, "read"), (measured, "sources"), (preference, "nearest")):
        monkeypatch.setattr(place, name, unwanted)
    monkeypatch.setattr(Path, "open", unwanted)
    layer(x)
    assert layer.why_chosen() is why


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda rnn: pickle.loads(pickle.dumps(rnn))])
def test_copies_know_why_and_older_ones_say_nothing(layer: lk.LSTM, copied: Any) -> None:
    layer(torch.randn(X))
    assert copied(layer).why_chosen() == layer.why_chosen()
    del layer._why
    assert copied(layer).why_chosen() == "no forward has run yet"


def test_who_was_named_is_taken_whatever_was_measured(layer: lk.LSTM) -> None:
    layer.backend = "aten"
    layer(torch.randn(X))
    assert layer.chosen_backend == "aten"
    assert problem().seq_len == X[0]
