"""The comparison the other tests rest on fails where it should."""

from typing import Any

import closeness
import pytest
import torch


def test_equal_results_pass(make_pair: Any, run_module: Any, assert_same: Any) -> None:
    theirs, ours = make_pair("lstm", "naive", 3, 4)
    x, states = torch.randn(5, 2, 3), (torch.randn(1, 2, 4), torch.randn(1, 2, 4))
    assert_same(run_module(ours, x, states, None), run_module(theirs, x, states, None))


def test_a_wrong_gate_order_is_caught(make_pair: Any, run_module: Any, assert_same: Any) -> None:
    theirs, ours = make_pair("lstm", "naive", 3, 4)
    with torch.no_grad():
        for parameter in ours.parameters():
            i, f, g, o = parameter.chunk(4)
            parameter.copy_(torch.cat([f, i, g, o]))
    x, states = torch.randn(5, 2, 3), (torch.randn(1, 2, 4), torch.randn(1, 2, 4))
    with pytest.raises(AssertionError, match="'y'"):
        assert_same(run_module(ours, x, states, None), run_module(theirs, x, states, None))


@pytest.mark.parametrize("name", ["d_x", "d_h0", "d_c0", "d_weight_hh_l0", "d_bias_ih_l0"])
def test_one_wrong_gradient_is_caught(
    name: str, make_pair: Any, run_module: Any, assert_same: Any
) -> None:
    theirs, _ = make_pair("lstm", "naive", 3, 4)
    x, states = torch.randn(5, 2, 3), (torch.randn(1, 2, 4), torch.randn(1, 2, 4))
    expected = run_module(theirs, x, states, None)
    got = {key: tensor.clone() for key, tensor in expected.items()}
    got[name].view(-1)[0] *= 1.01
    with pytest.raises(AssertionError, match=name):
        assert_same(got, expected)


@pytest.mark.parametrize("spoil", ["nan", "shape", "missing"])
def test_a_spoiled_result_is_caught(spoil: str, assert_same: Any) -> None:
    expected = {"y": torch.ones(3, 2), "h_n": torch.ones(2)}
    got: dict[str, torch.Tensor] = {key: tensor.clone() for key, tensor in expected.items()}
    if spoil == "nan":
        got["y"][0, 0] = torch.nan
    elif spoil == "shape":
        got["y"] = got["y"].T
    else:
        del got["h_n"]
    with pytest.raises(AssertionError):
        assert_same(got, expected)


def test_a_failure_tells_the_case_the_error_and_the_bound() -> None:
    errors = {"y": 2e-5, "h_n": 1e-6}
    with pytest.raises(AssertionError, match=r"a case: .* bound of 1e-05: \{'y': 2e-05\}"):
        closeness.assert_within(1e-5, errors, "a case")
    with pytest.raises(AssertionError, match=r"test_a_failure_tells_the_case"):
        closeness.assert_within(1e-5, errors)
    closeness.assert_within(2e-5, errors)
