"""What is computed: validation, counting by hand, labels and storage."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lstm_kernels as lk
from lstm_kernels.problem import activations_per_step


def test_flops_by_hand() -> None:
    # A step: 4 gates of 3 units, each 5 inputs and 3 states, 2 FLOP a term; 7 steps, 2 sequences.
    one = lk.Problem("lstm", 7, 2, 5, 3)
    forward = 2 * 4 * 3 * (5 + 3) * 7 * 2
    assert one.flops("inference") == one.flops("forward") == forward
    assert one.flops("backward") == 2 * forward
    assert one.flops("train") == 3 * forward


def test_flops_of_a_deep_projected_bidirectional_network_by_hand() -> None:
    deep = lk.Problem("lstm", 1, 1, 5, 3, num_layers=2, bidirectional=True, proj_size=2)
    first = 2 * (4 * 3 * (5 + 2) + 3 * 2)  # two directions; gates, then the projection
    second = 2 * (4 * 3 * (4 + 2) + 3 * 2)  # its input is both directions' projected state
    assert deep.flops("forward") == 2 * (first + second)


def test_heads_by_hand() -> None:
    # A step: 4 gates of 6 units, each 5 inputs and the 2 units of its head.
    of_heads = lk.Problem("lstm", 7, 2, 5, 6, heads=3)
    assert (of_heads.state_size, of_heads.met_size) == (6, 2)
    assert of_heads.flops("forward") == 2 * 4 * 6 * (5 + 2) * 7 * 2
    weights = 4 * 6 * (5 + 2) + 2 * 4 * 6
    assert of_heads.parameter_count() == weights
    assert of_heads.bytes("inference") == 4 * (weights + 6 * 7 * 2 * 6)


def test_one_head_is_stored_as_before_there_were_any() -> None:
    plain, of_heads = lk.Problem("lstm", 7, 2, 5, 6), lk.Problem("lstm", 7, 2, 5, 6, heads=3)
    assert "heads" not in plain.to_dict()
    assert of_heads.to_dict() == plain.to_dict() | {"heads": 3}


def test_padding_is_not_counted() -> None:
    ragged = lk.Problem("gru", 8, 4, 3, 3, lengths="uniform:2:2")
    assert ragged.valid_steps == 8
    assert ragged.flops("forward") == lk.Problem("gru", 2, 4, 3, 3).flops("forward")


@pytest.mark.parametrize(("kind", "gates"), [("lstm", 4), ("gru", 3), ("rnn_tanh", 1)])
def test_bytes_by_hand(kind: str, gates: int) -> None:
    problem = lk.Problem(kind, 7, 2, 5, 3, dtype="float16")
    weights = gates * 3 * (5 + 3) + 2 * gates * 3
    assert problem.parameter_count() == weights
    assert problem.bytes("inference") == 2 * (weights + (gates + 2) * 7 * 2 * 3)
    assert problem.bytes("backward") == 2 * (2 * weights + (3 * gates + 4) * 7 * 2 * 3)


def test_an_lstm_moves_what_the_design_says() -> None:
    figures = {name: activations_per_step(4, name) for name in lk.PASSES}
    assert figures == {"inference": 6, "forward": 11, "backward": 16, "train": 27}


def test_parameters_are_torchs() -> None:
    import torch

    for bias in (True, False):
        theirs = torch.nn.LSTM(5, 4, 3, bias=bias, bidirectional=True, proj_size=2)
        problem = lk.Problem(
            "lstm", 1, 1, 5, 4, num_layers=3, bias=bias, bidirectional=True, proj_size=2
        )
        assert problem.parameter_count() == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cell": "ltsm"}, "unknown cell 'ltsm'; did you mean 'lstm'? known: gru, "),
        ({"seq_len": 0}, "seq_len=0: expected a whole number from 1 on"),
        ({"batch": 2.0}, "batch=2.0: expected a whole number from 1 on"),
        ({"hidden_size": True}, "hidden_size=True: expected a whole number"),
        ({"dtype": "float23"}, "unknown dtype 'float23'; did you mean 'float32'?"),
        ({"precision": "tf23"}, "unknown precision 'tf23'; did you mean 'tf32'?"),
        ({"proj_size": 4}, "proj_size=4; expected less than hidden_size=4"),
        ({"proj_size": -1}, "proj_size=-1: expected a whole number from 0 on"),
        ({"cell": "gru", "proj_size": 2}, "proj_size=2 with cell 'gru': only lstm has it"),
        (
            {"dtype": "float16", "precision": "tf32"},
            "precision 'tf32' with dtype 'float16': it is a float32 mode",
        ),
        (
            {"dtype": "bfloat16", "precision": "w8"},
            "precision 'w8' with dtype 'bfloat16': it is a float32 mode",
        ),
        ({"heads": 0}, "heads=0: expected a whole number from 1 on"),
        ({"heads": True}, "heads=True: expected a whole number from 1 on"),
        ({"heads": 3}, "heads=3 does not divide hidden_size=4"),
        ({"heads": 2, "proj_size": 2}, "heads=2 with proj_size=2: a head is a group"),
        (
            {"heads": 2, "cell": "gru_reset_before"},
            "heads=2 with cell 'gru_reset_before': expected a cell that makes one product",
        ),
        ({"heads": 2, "cell": "indrnn"}, "heads=2 with cell 'indrnn': expected a cell that makes"),
        ({"lengths": "some"}, "unknown lengths 'some'; known: "),
    ],
)
def test_a_bad_field_is_named(fields: dict[str, Any], message: str) -> None:
    good = {"cell": "lstm", "seq_len": 5, "batch": 2, "input_size": 3, "hidden_size": 4}
    with pytest.raises(ValueError, match=re.escape(message)):
        lk.Problem(**good | fields)


def test_label_shows_what_is_not_the_default() -> None:
    assert lk.Problem("gru", 64, 16, 256, 256).label() == "gru T64 B16 H256 float32"
    shown = lk.Problem(
        "lstm",
        7,
        3,
        5,
        8,
        num_layers=2,
        bidirectional=True,
        bias=False,
        proj_size=4,
        precision="tf32",
        lengths="uniform:1:7",
    ).label()
    expected = "lstm T7 B3 I5 H8 L2 bidirectional P4 no-bias float32 tf32 uniform:1:7"
    assert shown == expected
    of_heads = lk.Problem("slstm", 64, 16, 256, 256, heads=4).label()
    assert of_heads == "slstm T64 B16 H256 heads4 float32"


def built(unit: int, heads: int, **fields: Any) -> lk.Problem:
    cell = lk.CELLS[fields["cell"]]
    may = cell.h_blocks and not cell.again
    return lk.Problem(hidden_size=unit * heads, heads=heads if may else 1, **fields)


problems = st.builds(
    built,
    unit=st.integers(1, 3),
    heads=st.integers(1, 3),
    cell=st.sampled_from(list(lk.CELLS)),
    seq_len=st.integers(1, 9),
    batch=st.integers(1, 9),
    input_size=st.integers(1, 9),
    num_layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    bias=st.booleans(),
    dtype=st.sampled_from(list(lk.DTYPE_BYTES)),
)


@given(problems)
def test_round_trip(problem: lk.Problem) -> None:
    assert lk.Problem.from_dict(problem.to_dict()) == problem
    assert lk.Problem.from_dict(problem.to_dict() | {"from_the_future": 1}) == problem


@given(problems)
def test_a_network_is_its_layers(problem: lk.Problem) -> None:
    layers = [problem.layer(index) for index in range(problem.num_layers)]
    assert sum(layer.flops("train") for layer in layers) == problem.flops("train")
    assert sum(layer.parameter_count() for layer in layers) == problem.parameter_count()
