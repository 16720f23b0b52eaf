"""A narrow layer computed in float32: rounded once, going in and coming out."""

from functools import partial

import pytest
import torch
from torch import Tensor

import lstm_kernels as lk
from lstm_kernels.backends import naive
from lstm_kernels.common.in_float32 import in_float32, is_narrow, widened


def test_it_is_a_float32_layer_of_the_same_numbers_rounded_at_the_end(
    cell: str, make_layer: object
) -> None:
    problem, given = make_layer(cell, dtype="bfloat16")
    layer = partial(naive.layer, problem=widened(problem), lengths=None)
    got = in_float32(layer, **given)
    wide = {name: t.float() if isinstance(t, Tensor) else t for name, t in given.items()}
    wide["weights"] = tuple(
        type(w)(*(None if t is None else t.float() for t in w)) for w in given["weights"]
    )
    want = layer(**wide)
    for a, b in zip(got, want, strict=True):
        assert (a is None and b is None) or torch.equal(a, b.bfloat16())
    got[0].sum().backward()
    assert given["x"].grad.dtype is torch.bfloat16


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_what_is_not_narrow_stays_as_it_is(dtype: str) -> None:
    problem = lk.Problem("lstm", 2, 2, 2, 2, dtype=dtype)
    assert is_narrow(problem) == ("16" in dtype)
    assert (widened(problem) is problem) == (not is_narrow(problem))
