"""A projected layer by way of a plain one equals the loop that projects at every step."""

from typing import Any

import closeness
import pytest
import torch
from layer_outputs import flat
from torch import Tensor

from lstm_kernels.backends import naive
from lstm_kernels.common.packing import packed, padded
from lstm_kernels.common.projected import plain, projected
from lstm_kernels.stack import Outputs

SIZES = {"seq_len": 5, "batch": 4, "input_size": 3, "hidden_size": 7, "proj_size": 2}
LENGTHS = {"full": None, "ragged": [2, 5, 0, 1], "falling": [5, 5, 3, 1]}


def curved(outputs: Outputs) -> Tensor:
    weights = [torch.linspace(-1, 1.5, t.numel(), dtype=t.dtype).view_as(t) for t in outputs]
    return sum((w * t.exp()).sum() for w, t in zip(weights, outputs, strict=True))


def results(run: Any, arguments: dict[str, Any], **how: Any) -> dict[str, Tensor]:
    leaves = [t for t in flat(arguments) if t is not None]
    outputs = run(**arguments, **how)
    first = torch.autograd.grad(curved(outputs), leaves, create_graph=True)
    second = torch.autograd.grad(sum(t.square().sum() for t in first), leaves)
    tensors = (*outputs, *first, *second)
    return {str(place): tensor.detach() for place, tensor in enumerate(tensors)}


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one", "both"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_outputs_and_derivatives_are_the_loops(
    lengths: list[int] | None, bidirectional: bool, make_layer: Any, assert_same: Any
) -> None:
    problem, arguments = make_layer("lstm", **SIZES, bidirectional=bidirectional)
    how = {"problem": problem, "lengths": None if lengths is None else torch.tensor(lengths)}
    got = results(lambda **given: projected(naive.layer, **given), arguments, **how)
    assert_same(got, results(naive.layer, arguments, **how), closeness.LAYER["float64"])


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one", "both"])
def test_packed_too(bidirectional: bool, make_layer: Any, assert_same: Any) -> None:
    problem, arguments = make_layer("lstm", **SIZES, bidirectional=bidirectional)
    how = {"problem": problem, "lengths": torch.tensor(LENGTHS["falling"])}

    def layer(x: Tensor, *others: Any, lengths: Tensor, **named: Any) -> Outputs:
        y, *states = naive.layer(padded(x, lengths), *others, lengths=lengths, **named)
        return packed(y, lengths), *states

    def run(x: Tensor, lengths: Tensor, **given: Any) -> Outputs:
        y, *states = projected(layer, packed(x, lengths), lengths=lengths, **given)
        return padded(y, lengths), *states

    assert_same(
        results(run, arguments, **how),
        results(naive.layer, arguments, **how),
        closeness.LAYER["float64"],
    )


def test_the_plain_problem_is_the_one_that_is_computed(make_layer: Any) -> None:
    problem, arguments = make_layer("lstm", **SIZES, bidirectional=True)

    def layer(x: Tensor, h0: Tensor, c0: Tensor, weights: Any, **named: Any) -> Outputs:
        assert named["problem"] == plain(problem)
        assert x.shape[-1] == weights[0].w_ih.shape[1] == plain(problem).input_size
        assert h0.shape[-1] == weights[0].w_hh.shape[1] == plain(problem).state_size
        return naive.layer(x, h0, c0, weights, **named)

    projected(layer, **arguments, problem=problem, lengths=None)
