"""Heads: W_hh is block-diagonal, on every backend that takes it; the others refuse by name."""

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from by_oracle import BOUNDS, check, results
from layer_outputs import flat, outputs
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.flop_counter import FlopCounterMode

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.common.gates import by_head

N, H = 3, 6
CELLS = ("lstm", "gru", "slstm")
SHAPES = {
    "two ways": {"bidirectional": True, "num_layers": 2},
    "ragged": {"bidirectional": True, "lengths": "uniform:1:6"},
    "no bias": {"bias": False, "batch": 1},
}
TAKERS = [b.name for b in registry.registered().values() if b.heads and b.raced]
OTHERS = [b.name for b in registry.registered().values() if not b.heads]
# Those that are PyTorch's operations and nothing else.
LOOPS = ("naive", "hoisted", "per_gate")


def takers() -> list[Any]:
    """Each that takes heads; what compiles for a cell, or is interpreted, in the slow tier."""
    dear = ("compiled", "pointwise", "numba_cpu")
    return [
        pytest.param(on, of, marks=pytest.mark.slow if on in dear and of != "slstm" else ())
        for on in TAKERS
        if not registry.missing(on)
        for of in CELLS
    ]


def dense(w_hh: Tensor) -> Tensor:
    """The whole [G*H, H] of which [G*H, H/N] are the blocks that are not zero."""
    whole = w_hh.new_zeros(len(w_hh), H)
    for row in range(len(w_hh)):
        first = row % H // (H // N) * (H // N)
        whole[row, first : first + H // N] = w_hh[row]
    return whole


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("on", "of"), takers())
def test_heads_are_the_oracles(on, of, shape, make_layer, assert_same):
    fields = SHAPES[shape] | {"dtype": "float32", "hidden_size": H, "heads": N}
    check(on, of, fields, make_layer, assert_same)


@pytest.mark.parametrize("of", CELLS)
@pytest.mark.parametrize("on", ["reference", *LOOPS])
def test_heads_are_a_whole_w_hh_with_zeros_elsewhere(on, of, make_layer, assert_same):
    fields = {"hidden_size": H, "heads": N, "bidirectional": True, "lengths": "uniform:0:6"}
    problem, arguments = make_layer(of, **fields)
    got = results(on, problem, arguments)
    whole = tuple(
        one._replace(w_hh=dense(one.w_hh.detach()).requires_grad_()) for one in arguments["weights"]
    )
    want = results(on, replace(problem, heads=1), arguments | {"weights": whole})
    for name in ("d_w_hh.0", "d_w_hh.1"):
        blocks = dense(torch.ones_like(got[name])) > 0
        want[name] = want[name][blocks].view_as(got[name])
    assert_same(got, want, BOUNDS["float64"])


@pytest.mark.parametrize("on", LOOPS)
def test_no_product_is_made_with_zeros(on, make_layer):
    problem, arguments = make_layer("slstm", hidden_size=H, heads=N)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        outputs(on, problem, *flat(arguments))
    assert counter.get_total_flops() == problem.flops("inference")


def test_of_one_head_the_weights_stay_as_they_are(make_layer):
    _, arguments = make_layer("lstm", hidden_size=H)
    assert by_head(arguments["weights"], 1) is arguments["weights"]


def test_gradients_are_those_of_finite_differences(make_layer):
    fields = {"seq_len": 3, "batch": 2, "hidden_size": H, "heads": N, "lengths": "uniform:1:3"}
    problem, arguments = make_layer("slstm", **fields)

    def layer(*tensors: Tensor | None) -> tuple[Tensor, ...]:
        return outputs("naive", problem, *tensors)

    assert torch.autograd.gradcheck(layer, flat(arguments), fast_mode=True)
    assert torch.autograd.gradgradcheck(layer, flat(arguments), fast_mode=True)


def test_second_derivatives_of_a_kernel_know_of_heads(make_layer, assert_same):
    pytest.importorskip("triton", reason="pointwise needs triton")
    problem, arguments = make_layer("lstm", hidden_size=H, heads=N, bidirectional=True)
    leaves = [tensor for tensor in flat(arguments) if tensor is not None]

    def twice(on: str) -> dict[str, Tensor]:
        y, *_ = outputs(on, problem, *flat(arguments))
        first = torch.autograd.grad(y.pow(2).sum(), leaves, create_graph=True)
        loss = sum(d.pow(2).sum() for d in first)
        second = torch.autograd.grad(loss, leaves)
        return dict(enumerate((*first, *second)))

    assert_same(twice("pointwise"), twice("naive"), BOUNDS["float64"])


def test_a_transform_of_torch_func_goes_through_heads(make_layer):
    problem, arguments = make_layer("lstm", hidden_size=H, heads=N)
    _, *others = flat(arguments)
    several = torch.randn(2, *arguments["x"].shape, dtype=torch.float64)

    def y(x: Tensor) -> Tensor:
        return outputs("hoisted", problem, x, *others)[0]

    together = torch.func.vmap(y)(several)
    torch.testing.assert_close(together, torch.stack([y(x) for x in several]))
    change = torch.func.jvp(y, (several[0],), (several[1],))[1]
    step = 1e-6 * several[1]
    torch.testing.assert_close(
        change, (y(several[0] + step) - y(several[0] - step)) / 2e-6, rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("on", OTHERS)
def test_the_others_refuse_heads_by_name(on):
    problem = lk.Problem("lstm", 2, 1, 3, H, heads=N)
    reason = "it multiplies by the whole of W_hh, so it has no heads"
    assert registry.unsupported(on, problem, "cpu") == reason
    if registry.missing(on):
        return
    module = lk.Recurrent("lstm", 3, H, heads=N, backend=on)
    with torch.no_grad(), pytest.raises(lk.Unsupported, match=f"backend '{on}': {reason}"):
        module(torch.randn(2, 1, 3))


def test_a_strangers_backend_is_not_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_plugins", {})
    file = tmp_path / "theirs_without_heads.py"
    file.write_text(
        "from lstm_kernels import Backend\n"
        "BACKENDS = [Backend('one', __name__, 'takes all'),\n"
        "            Backend('several', __name__, 'takes all', heads=True)]\n"
        "def unsupported(problem, device): return None\n"
        "def layer(): raise NotImplementedError\n"
    )
    registry.add_plugin(file)
    problem = lk.Problem("lstm", 2, 1, 3, H, heads=N)
    assert "has no heads" in registry.unsupported("one", problem, "cpu")
    assert registry.unsupported("several", problem, "cpu") is None


@pytest.mark.parametrize("of", CELLS)
def test_the_module_is_the_functional_form(of):
    module = lk.Recurrent(of, 4, H, heads=N, backend="naive")
    gates, states = module.weight_ih_l0.shape[0] // H, lk.CELLS[of].states
    assert module.weight_hh_l0.shape == (gates * H, H // N)
    x, given = torch.randn(5, 2, 4), [torch.rand(1, 2, H) + 0.5 for _ in states]
    y, last = module(x, tuple(given) if len(given) > 1 else given[0])
    weights = [module.get_parameter(f"{name}_l0") for name in ("weight_ih", "weight_hh")]
    weights += [module.bias_ih_l0, module.bias_hh_l0]
    found = lk.recurrent(of, x, [s[0] for s in given], *weights, heads=N, backend="naive")
    assert torch.equal(found[0], y)
    last = last if isinstance(last, tuple) else (last,)
    assert all(torch.equal(a, b[0]) for a, b in zip(found[1:], last, strict=True))


def test_a_module_of_one_head_is_the_plain_one():
    torch.manual_seed(0)
    plain = lk.Recurrent("lstm", 4, H, num_layers=2, backend="naive")
    torch.manual_seed(0)
    one = lk.Recurrent("lstm", 4, H, num_layers=2, heads=1, backend="naive")
    x = torch.randn(5, 2, 4)
    assert torch.equal(one(x)[0], plain(x)[0])
    assert repr(one) == repr(plain)
    assert "heads=3" in repr(lk.Recurrent("lstm", 4, H, heads=N))


def test_auto_takes_one_that_can():
    module = lk.Recurrent("lstm", 4, H, heads=N)
    module(torch.randn(5, 2, 4))
    assert module.chosen_backend == "hoisted"
    assert "heads3" in module.why_chosen()


def test_heads_go_with_packed_input_and_what_is_dropped():
    module = lk.Recurrent(
        "lstm", 4, H, heads=N, zoneout=0.5, recurrent_dropout=0.5, bidirectional=True
    )
    x, lengths = torch.randn(5, 3, 4), torch.tensor([5, 2, 4])
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    assert not torch.equal(module(packed)[0].data, module(packed)[0].data)
    _, (h, c) = module.eval()(packed)
    for b, length in enumerate(lengths):
        _, alone = module(x[:length, b])
        torch.testing.assert_close((h[:, b], c[:, b]), alone)


def test_a_graph_of_torch_compile_ends_before_heads():
    torch.manual_seed(0)
    module = lk.Recurrent("lstm", 4, H, heads=N)
    weights = [module.get_parameter(f"{name}_l0") for name in ("weight_ih", "weight_hh")]
    x, state = torch.randn(5, 2, 4), torch.zeros(2, H)

    def twice(x: Tensor, on: str) -> Tensor:
        return 2 * lk.recurrent("lstm", x, [state, state], *weights, heads=N, backend=on)[0]

    compiled = torch.compile(twice, backend="eager")
    torch.testing.assert_close(compiled(x, "naive"), twice(x, "naive"))
    with pytest.raises(lk.Unsupported, match=r"aten': .* no heads"):
        compiled(x, "aten")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 0}, "heads=0: expected a whole number from 1 on"),
        ({"heads": 4}, "heads=4 does not divide hidden_size=6"),
        ({"cell": "indrnn"}, "heads=3 with cell 'indrnn': expected a cell that makes one product"),
        ({"cell": "gru_reset_before"}, "heads=3 with cell 'gru_reset_before': expected a cell"),
    ],
    ids=str,
)
def test_a_module_refuses_heads_that_cannot_be(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        lk.Recurrent(**{"cell": "lstm", "input_size": 4, "hidden_size": H, "heads": N} | change)


def test_the_functional_form_tells_shapes_that_do_not_fit():
    x, state, w_ih = torch.randn(5, 2, 4), torch.zeros(2, H), torch.zeros(4 * H, 4)
    with pytest.raises(ValueError, match=r"h0 has shape \(2, 6\); expected \(2, 18\)"):
        lk.recurrent("lstm", x, [state, state], w_ih, torch.zeros(4 * H, H), heads=N)
    with pytest.raises(ValueError, match=r"w_hh has shape \(18, 2\); expected \(24, 2\)"):
        lk.recurrent("lstm", x, [state, state], w_ih, torch.zeros(3 * H, 2), heads=N)
    with pytest.raises(ValueError, match="heads=0: expected a whole number from 1 on"):
        lk.recurrent("lstm", x, [state, state], w_ih, torch.zeros(4 * H, 2), heads=0)
