"""The cells that normalise: finite differences, what the statistics are of, and how they begin."""

from typing import Any

import closeness
import pytest
import torch
from torch import Tensor

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.cells import batch_norm, cell, layer_norm
from lstm_kernels.common.norms import over_batch
from lstm_kernels.stack import run

BOTH = ("lstm_layernorm", "lstm_batchnorm")
ON = ("naive", "hoisted", "per_gate", pytest.param("compiled", marks=pytest.mark.slow))


@pytest.mark.parametrize("on", ["naive", "numba_cpu"])
def test_one_sequence_is_not_a_batch_to_normalise_over(on):
    layer = lk.Recurrent("lstm_batchnorm", 3, 4, backend=on)
    with pytest.raises(lk.Unsupported, match="needs 2 sequences or more"):
        layer(torch.zeros(5, 1, 3))
    lk.Recurrent("lstm_layernorm", 3, 4, backend=on)(torch.zeros(5, 1, 3))


@pytest.mark.parametrize("shape", ["full", "ragged", "no bias"])
@pytest.mark.parametrize("of", BOTH)
def test_gradcheck(of, shape, make_layer):
    fields: dict[str, Any] = {"seq_len": 3, "batch": 4, "input_size": 2, "hidden_size": 3}
    fields |= {"ragged": {"lengths": "uniform:1:3"}, "no bias": {"bias": False}}.get(shape, {})
    problem, given = make_layer(of, **fields)
    lengths = torch.tensor([3, 1, 3, 2]) if shape == "ragged" else None
    (weights,) = given["weights"]
    names = [name for name, tensor in weights._asdict().items() if tensor is not None]

    def layer(x: Tensor, h0: Tensor, c0: Tensor, *tensors: Tensor) -> Any:
        one = (lk.Weights(**dict(zip(names, tensors, strict=True))),)
        return run(registry.load("naive"), x, h0, c0, one, problem=problem, lengths=lengths)

    tensors = [getattr(weights, name) for name in names]
    assert torch.autograd.gradcheck(layer, (given["x"], given["h0"], given["c0"], *tensors))


@pytest.mark.parametrize("of", BOTH)
def test_second_derivatives_are_those_of_finite_differences(of, make_layer):
    sizes = {"seq_len": 2, "batch": 3, "input_size": 2, "hidden_size": 2}
    problem, given = make_layer(of, **sizes)

    def layer(x: Tensor, h0: Tensor, c0: Tensor) -> Any:
        states = x, h0, c0
        return run(registry.load("hoisted"), *states, given["weights"], problem=problem)

    assert torch.autograd.gradgradcheck(layer, (given["x"], given["h0"], given["c0"]))


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("of", BOTH)
def test_padding_changes_nothing(of, on, make_layer):
    """Neither what lies in it nor how long it is reaches a result or a gradient."""
    problem, given = make_layer(of, bidirectional=True, lengths="uniform:2:6")
    lengths = torch.tensor([6, 2, 4, 4])
    found = []
    for filling, more in ((0.0, 0), (torch.nan, 0), (1e30, 3)):
        x = given["x"].detach().clone()
        for b, length in enumerate(lengths):
            x[length:, b] = filling
        x = torch.cat([x, torch.full((more, *x.shape[1:]), filling, dtype=x.dtype)])
        x.requires_grad_()
        flat = [t for one in given["weights"] for t in one if t is not None]
        y, *states = run(
            registry.load(on),
            x,
            given["h0"],
            given["c0"],
            given["weights"],
            problem=lk.Problem.from_dict(problem.to_dict() | {"seq_len": len(x)}),
            lengths=lengths,
        )
        loss = sum((each * torch.arange(each.shape[-1])).sum() for each in (y[:6], *states))
        d_x, *gradients = torch.autograd.grad(loss, [x, given["h0"], given["c0"], *flat])
        for b, length in enumerate(lengths):
            assert not d_x[length:, b].any()
            assert not y[length:, b].any()
        found.append([y[:6], *states, d_x[:6], *gradients])
    for other in found[1:]:
        for one, wanted in zip(other, found[0], strict=True):
            torch.testing.assert_close(one, wanted, rtol=1e-12, atol=1e-12)


def test_a_batch_is_normalised_by_the_sequences_that_still_run():
    """By hand: of four sequences the first and the third have ended."""
    values = torch.tensor([[7.0, 1.0], [1.0, 4.0], [-9.0, 5.0], [3.0, 0.0]])
    alive = torch.tensor([[False], [True], [False], [True]])
    found = over_batch(values, alive)
    expected = torch.tensor([[-1.0, 1.0], [1.0, -1.0]])
    torch.testing.assert_close(found[[1, 3]], expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(found[[1, 3]], over_batch(values[[1, 3]], None))
    none = over_batch(values, torch.zeros(4, 1, dtype=torch.bool))
    assert none.isfinite().all()


def test_layernorm_takes_the_products_of_all_gates_as_one(make_layer):
    """A sequence's own: as if it ran alone. And scaling W_ih as a whole changes nothing."""
    problem, given = make_layer("lstm_layernorm")
    backend = registry.load("naive")
    y, _, _ = run(backend, **given, problem=problem)
    (weights,) = given["weights"]
    alone = {name: given[name][:, 1:2] for name in ("x", "h0", "c0")}
    one, _, _ = run(backend, **alone, weights=given["weights"], problem=problem)
    torch.testing.assert_close(one, y[:, 1:2])
    scaled = (weights._replace(w_ih=1000 * weights.w_ih),)
    same, _, _ = run(backend, **given | {"weights": scaled}, problem=problem)
    torch.testing.assert_close(same, y, rtol=1e-3, atol=1e-3)
    H = problem.hidden_size
    scale = torch.ones(4 * H, 1, dtype=y.dtype)
    scale[:H] = 2  # one gate's rows alone
    other, _, _ = run(
        backend,
        **given | {"weights": (weights._replace(w_ih=scale * weights.w_ih),)},
        problem=problem,
    )
    assert (other - y).abs().max() > 1e-2


@pytest.mark.parametrize(("of", "gain"), [("lstm_layernorm", 1.0), ("lstm_batchnorm", 0.1)])
def test_gains_and_shifts_start_where_the_cell_says(of, gain):
    module = lk.Recurrent(of, 3, 5, num_layers=2, bidirectional=True, backend="naive")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(7)
    module.reset_parameters()
    starts = {name: p for name, p in module.named_parameters() if name[:4] in ("gain", "shif")}
    assert len(starts) == 10 * 2 * 2
    for name, parameter in starts.items():
        assert (parameter == (gain if name.startswith("gain") else 0)).all()
    assert module.weight_ih_l1_reverse.unique().numel() > 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("of", BOTH)
def test_narrow_numbers_are_normalised_in_float32(of, dtype):
    wide = lk.Recurrent(of, 16, 24, backend="naive").double()
    narrow = lk.Recurrent(of, 16, 24, backend="naive")
    narrow.load_state_dict(wide.state_dict())
    narrow.to(dtype)
    x = torch.randn(5, 8, 16)
    y, (_, c) = narrow(x.to(dtype))
    expected, (_, last) = wide(x.double())
    assert y.dtype == c.dtype == dtype
    bound = closeness.LAYER[str(dtype).removeprefix("torch.")]
    assert closeness.relative_error(y, expected) < bound
    assert closeness.relative_error(c, last) < bound


def test_a_norm_of_a_parameter_is_as_wide_as_the_states(make_layer, monkeypatch):
    @cell(gates="a", states="h", per_unit="u")
    def of_a_parameter(p, h, u):
        return layer_norm(u) * p.a + batch_norm(u) + layer_norm(1, h)[0]

    monkeypatch.setitem(lk.CELLS, "of_a_parameter", of_a_parameter)
    problem, given = make_layer("of_a_parameter")
    found = [run(registry.load(on), **given, problem=problem)[0] for on in ("naive", "reference")]
    torch.testing.assert_close(*found)
