"""Resets within a batch: as torch.nn's module on what lies between them, one piece at a time."""

from typing import Any

import closeness
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

import lstm_kernels as lk

T, B, INPUTS, H = 7, 3, 4, 5
RESETS = torch.zeros(T, B, dtype=torch.bool)
RESETS[0, 0] = RESETS[3, 0] = RESETS[4, 0] = RESETS[6, 2] = True

State = Any


def piecewise(module: torch.nn.RNNBase, x: Tensor, hx: State, resets: Tensor) -> tuple[Tensor, Any]:
    """x [T, B, I] through torch.nn's module, every piece of every sequence by itself."""
    states = hx if isinstance(hx, tuple) else (hx,)
    outputs, ends = [], []
    for b in range(x.shape[1]):
        begins = sorted({0, *resets[:, b].nonzero().flatten().tolist()})
        pieces = []
        for begin, end in zip(begins, [*begins[1:], len(x)], strict=True):
            own = tuple(state[:, b : b + 1].contiguous() for state in states)
            y, last = module(x[begin:end, b : b + 1], own if len(own) == 2 else own[0])
            pieces.append(y)
        outputs.append(torch.cat(pieces))
        ends.append(last if isinstance(last, tuple) else (last,))
    last = tuple(torch.cat(each, 1) for each in zip(*ends, strict=True))
    return torch.cat(outputs, 1), last


def results(module: torch.nn.RNNBase, call: Any, x: Tensor, states: tuple[Tensor, ...]) -> Any:
    x, states = x.clone().requires_grad_(), tuple(s.clone().requires_grad_() for s in states)
    module.zero_grad()
    y, last = call(x, states if len(states) == 2 else states[0])
    last = last if isinstance(last, tuple) else (last,)
    weights = [torch.linspace(-1, 1.5, t.numel()).view_as(t) for t in (y, *last)]
    sum((w * t).sum() for w, t in zip(weights, (y, *last), strict=True)).backward()
    named = {"y": y, "d_x": x.grad} | {f"last_{i}": t for i, t in enumerate(last)}
    named |= {f"d_state_{i}": s.grad for i, s in enumerate(states)}
    return named | {f"d_{name}": p.grad for name, p in module.named_parameters()}


SETTINGS = {
    "one": {},
    "deep-bidirectional": {"num_layers": 2, "bidirectional": True},
    "projected": {"proj_size": 2},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_every_piece_is_as_alone(
    eager_or_slow_backend: str,
    cell: str,
    settings: dict[str, Any],
    make_pair: Any,
    assert_same: Any,
) -> None:
    if cell != "lstm" and settings.get("proj_size"):
        pytest.skip("only an LSTM has projections")
    theirs, ours = make_pair(cell, eager_or_slow_backend, INPUTS, H, **settings)
    x = torch.randn(T, B, INPUTS)
    rows = theirs.num_layers * (2 if theirs.bidirectional else 1)
    h, c = torch.randn(rows, B, theirs.proj_size or H), torch.randn(rows, B, H)
    states = (h, c) if cell == "lstm" else (h,)
    want = results(theirs, lambda x, hx: piecewise(theirs, x, hx, RESETS), x, states)
    got = results(ours, lambda x, hx: ours(x, hx, resets=RESETS), x, states)
    assert_same(got, want, closeness.LAYER["float32"])


def test_layouts(make_pair: Any, assert_same: Any) -> None:
    _, ours = make_pair("lstm", "naive", INPUTS, H)
    x = torch.randn(T, B, INPUTS)
    y, (h_n, _) = ours(x, resets=RESETS)
    ours.batch_first = True
    batch_first, (same, _) = ours(x.transpose(0, 1), resets=RESETS.t())
    assert_same({"y": batch_first.transpose(0, 1), "h_n": same}, {"y": y, "h_n": h_n})
    alone, (same, _) = ours(x[:, 0], resets=RESETS[:, 0])
    assert_same({"y": alone, "h_n": same}, {"y": y[:, 0], "h_n": h_n[:, 0]})


def test_no_reset_is_none(make_pair: Any, assert_same: Any) -> None:
    _, ours = make_pair("gru", "aten", INPUTS, H)
    x = torch.randn(T, B, INPUTS)
    y, h = ours(x, resets=torch.zeros(T, B, dtype=torch.bool))
    want, want_h = ours(x)
    assert_same({"y": y, "h": h}, {"y": want, "h": want_h})


def test_one_inside_an_fx_graph(make_pair: Any) -> None:
    _, ours = make_pair("lstm", "naive", INPUTS, H)

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = ours

        def forward(self, x: Tensor, resets: Tensor) -> Tensor:
            return self.rnn(x, resets=resets)[0]

    x = torch.randn(T, B, INPUTS)
    graph = torch.fx.symbolic_trace(Model())
    assert torch.equal(graph(x, RESETS), ours(x, resets=RESETS)[0])


def test_what_does_not_fit_is_said_in_a_line() -> None:
    rnn, x = lk.LSTM(INPUTS, H), torch.randn(T, B, INPUTS)
    with pytest.raises(ValueError, match=r"torch.int64 of shape \(7, 3\); expected torch.bool"):
        rnn(x, resets=RESETS.long())
    with pytest.raises(ValueError, match=r"of shape \(3, 7\); expected torch.bool of \(7, 3\)"):
        rnn(x, resets=RESETS.t())
    with pytest.raises(ValueError, match="pass the input padded"):
        rnn(pack_sequence([x[:, 0]]), resets=RESETS[:, 0])
    with pytest.raises(ValueError, match="traced or exported"):
        rnn.to("meta")(x.to("meta"), resets=RESETS)
