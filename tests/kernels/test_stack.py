"""`stack.run`: one layer after another, ragged lengths, and carried state."""

from typing import Any

import pytest
import torch

from lstm_kernels import registry
from lstm_kernels.stack import Unsupported, run

RAGGED = torch.tensor([2, 4, 0, 1])
# As few steps as tell those lengths apart: interpreted, a step is as dear as a call.
STEPS = 4


def test_single_steps_equal_one_call(
    backend: str, cell: str, make_layer: Any, assert_same: Any, dtype: str, rounding: float
) -> None:
    problem, arguments = make_layer(cell, dtype=dtype, seq_len=STEPS, num_layers=2)
    implementation = registry.load(backend)
    y, h_n, c_n = run(implementation, **arguments, problem=problem)
    one_step, _ = make_layer(cell, dtype=dtype, num_layers=2, seq_len=1)
    h, c, steps = arguments["h0"], arguments["c0"], []
    for x_t in arguments["x"].split(1):
        y_t, h, c = run(implementation, x_t, h, c, arguments["weights"], problem=one_step)
        steps.append(y_t)
    expected = {"y": y, "h_n": h_n} | ({} if c_n is None else {"c_n": c_n})
    got = {"y": torch.cat(steps), "h_n": h} | ({} if c is None else {"c_n": c})
    assert_same(got, expected, rounding)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_ragged_equals_each_sequence_alone(
    backend: str,
    cell: str,
    bidirectional: bool,
    make_layer: Any,
    assert_same: Any,
    dtype: str,
    rounding: float,
) -> None:
    problem, arguments = make_layer(
        cell, dtype=dtype, seq_len=STEPS, num_layers=2, bidirectional=bidirectional
    )
    implementation = registry.load(backend)
    lengths = RAGGED.clamp(min=1)
    outputs = run(implementation, **arguments, problem=problem, lengths=lengths)
    for b, length in enumerate(lengths.tolist()):
        alone, _ = make_layer(
            cell, dtype=dtype, num_layers=2, bidirectional=bidirectional, batch=1, seq_len=length
        )
        row = slice(b, b + 1)
        expected = run(
            implementation,
            arguments["x"][:length, row].contiguous(),
            arguments["h0"][:, row].contiguous(),
            None if arguments["c0"] is None else arguments["c0"][:, row].contiguous(),
            arguments["weights"],
            problem=alone,
        )
        y = outputs[0][:, row]
        assert not y[length:].any()
        cut = (y[:length], *(None if s is None else s[:, row] for s in outputs[1:]))
        named = zip(("y", "h_n", "c_n"), expected, cut, strict=True)
        pairs = {name: (want, have) for name, want, have in named if want is not None}
        assert_same(
            {name: have for name, (_, have) in pairs.items()},
            {name: want for name, (want, _) in pairs.items()},
            rounding,
        )


def test_a_sequence_without_steps_keeps_its_state(
    backend: str, cell: str, make_layer: Any, dtype: str
) -> None:
    problem, arguments = make_layer(cell, dtype=dtype, seq_len=STEPS, bidirectional=True)
    implementation = registry.load(backend)
    if hasattr(implementation, "stack"):
        with pytest.raises(Unsupported, match="sequence 2 has 0 steps"):
            run(implementation, **arguments, problem=problem, lengths=RAGGED)
        return
    y, h_n, c_n = run(implementation, **arguments, problem=problem, lengths=RAGGED)
    assert not y[:, 2].any()
    assert torch.equal(h_n[:, 2], arguments["h0"][:, 2])
    if c_n is not None:
        assert torch.equal(c_n[:, 2], arguments["c0"][:, 2])
    h_n.sum().backward()
    assert torch.equal(arguments["h0"].grad[:, 2], torch.ones_like(arguments["h0"][:, 2]))
    assert not arguments["x"].grad[:, 2].any()


def test_what_lies_past_the_end_never_matters(
    backend: str, cell: str, make_layer: Any, dtype: str
) -> None:
    problem, arguments = make_layer(
        cell, dtype=dtype, seq_len=STEPS, num_layers=2, bidirectional=True
    )
    implementation = registry.load(backend)
    lengths = RAGGED.clamp(min=1)
    clean = run(implementation, **arguments, problem=problem, lengths=lengths)
    x = arguments["x"].detach().clone()
    for b, length in enumerate(lengths.tolist()):
        x[length:, b] = torch.nan
    poisoned = arguments | {"x": x.requires_grad_()}
    outputs = run(implementation, **poisoned, problem=problem, lengths=lengths)
    for got, expected in zip(outputs, clean, strict=True):
        assert got is expected is None or torch.equal(got, expected)
    outputs[0].sum().backward()
    assert all(w.grad.isfinite().all() for ws in arguments["weights"] for w in ws if w is not None)


def test_inputs_are_left_alone(backend: str, cell: str, make_layer: Any, dtype: str) -> None:
    problem, arguments = make_layer(cell, dtype=dtype, seq_len=STEPS, bidirectional=True)
    before = {name: arguments[name].detach().clone() for name in ("x", "h0")}
    y, h_n, _ = run(registry.load(backend), **arguments, problem=problem)
    (y.sum() + h_n.sum()).backward()
    assert all(torch.equal(arguments[name], before[name]) for name in before)


@pytest.mark.parametrize("training", [False, True])
def test_dropout_only_between_layers_and_only_in_training(
    backend: str, training: bool, make_layer: Any, dtype: str
) -> None:
    problem, arguments = make_layer("lstm", dtype=dtype, num_layers=2)
    implementation = registry.load(backend)
    plain, _, _ = run(implementation, **arguments, problem=problem)
    dropped, h_n, _ = run(
        implementation, **arguments, problem=problem, dropout=0.5, training=training
    )
    assert torch.equal(plain, dropped) is not training
    # The first layer's last state has seen no dropout yet, and the last layer's output none after.
    _, h_plain, _ = run(implementation, **arguments, problem=problem)
    assert torch.equal(h_n[0], h_plain[0])
    assert dropped.all()
