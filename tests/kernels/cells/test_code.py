"""The code that is made of definitions, in PyTorch's dialect, against PyTorch's own autograd."""

import math

import pytest
import torch
from hypothesis import given, settings
from pointwise_cells import POINTWISE
from random_cells import random_cells

from lstm_kernels.cells import (
    CELLS,
    Cell,
    batch_norm,
    cell,
    exp,
    layer_norm,
    log,
    maximum,
    minimum,
    relu,
    sigmoid,
    tanh,
    where,
)
from lstm_kernels.cells.code.derive import derived
from lstm_kernels.cells.code.emit import TORCH, compiled, source_of
from lstm_kernels.cells.code.symbols import FUNCTIONS

WIDTH = 7


def numbers(count: int, seed: int = 0) -> list[torch.Tensor]:
    """Of both signs, and none near 0, where a division would be ill."""
    made = torch.Generator().manual_seed(seed)
    size = torch.rand(count, WIDTH, generator=made, dtype=torch.float64) + 0.25
    sign = torch.randint(0, 2, (count, WIDTH), generator=made) * 2 - 1
    return [row.clone().requires_grad_() for row in size * sign]


def check_gradients(of: Cell) -> None:
    code = compiled(of, TORCH, {"torch": torch})
    p, before = numbers(len(of.slots)), numbers(len(of.states), 1)
    per_unit = numbers(len(of.per_unit), 2)
    for at, name in enumerate(of.states):
        if name in of.positive:
            before[at] = before[at].detach().abs().requires_grad_()
    after, saved = code["next_state"](p, before, per_unit)
    d_after = numbers(len(after), 3)
    found = code["gradients"](d_after, saved, before, after, per_unit)
    wanted = torch.autograd.grad(after, [*p, *before, *per_unit], d_after, allow_unused=True)
    for one, other in zip((g for part in found for g in part), wanted, strict=True):
        torch.testing.assert_close(one, torch.zeros_like(one) if other is None else other)


@pytest.mark.parametrize("name", POINTWISE)
def test_gradients_are_autograds(name):
    check_gradients(CELLS[name])


def test_every_operation_has_its_gradient():
    @cell(gates="a b", states="h c", per_unit="u", apart="b")
    def everything(p, h, c, u):
        x = where(p.a < h, p.b_x / (1 + exp(c)), -relu(p.b_h) * u) - minimum(p.a, c)
        y = maximum(h * 2, c) + log(1 + exp(p.b_h)) - tanh(u - x)
        return where(y >= 0.5, sigmoid(x), y) + 3, x * y + exp(-y / (2 + sigmoid(h)))

    operations = set()
    pending = list(derived(everything).step.after)
    while pending:
        node = pending.pop()
        operations.add(node.op)
        pending += node.args
    assert operations >= {*FUNCTIONS, "maximum", "minimum", "where", "div", "neg", "sub"}
    check_gradients(everything)


@settings(max_examples=50)
@given(random_cells())
def test_gradients_of_any_cell_are_autograds(drawn):
    check_gradients(drawn)


def test_what_an_lstm_saves_is_its_gates_and_no_more():
    saved = derived(CELLS["lstm"]).saved
    assert [node.op for node in saved] == ["sigmoid", "sigmoid", "tanh", "sigmoid"]
    assert [node.args[0].name for node in saved] == ["p_i", "p_f", "p_g", "p_o"]


@pytest.mark.parametrize(
    ("name", "count"),
    {"rnn_tanh": 0, "rnn_relu": 0, "indrnn": 0, "gru": 4, "lstm_cifg": 3, "ugrnn": 2}.items(),
)
def test_what_can_be_made_again_is_not_saved(name, count):
    assert len(derived(CELLS[name]).saved) == count


def test_a_carry_is_known_to_be_none():
    assert derived(CELLS["lstm"]).carries == (False, True)
    assert derived(CELLS["gru"]).carries == (True,)


def test_a_step_is_readable():
    source = source_of(CELLS["lstm"], TORCH)
    assert "v_0 = torch.sigmoid(p_o)" in source
    assert "v_1 * c + v_2 * v_3" in source


def test_gradients_that_others_are_made_of_are_written_first():
    source = source_of(CELLS["gru"], TORCH)
    # z, n from x, n from h, r; then h's own.
    assert "return ((v_4, v_1, v_2, v_3), (d_h * s_1,), ())" in source


def test_a_gate_near_1_keeps_a_gradients_digits():
    code = compiled(CELLS["gru"], TORCH, {"torch": torch})
    d_h, r, h = torch.linspace(0.1, 1, WIDTH), torch.full((WIDTH,), 0.5), torch.ones(WIDTH)
    z = torch.nextafter(torch.ones(WIDTH), torch.zeros(WIDTH))
    n = n_h = torch.zeros(WIDTH)
    (_, _, d_n, _), _, _ = code["gradients"]((d_h,), (r, z, n_h, n), (h,), (h,), ())
    torch.testing.assert_close(d_n, d_h * (1 - z.double()).float(), rtol=1e-6, atol=0)


def test_a_nan_stays_one():
    @cell(gates="a", states="h")
    def chosen(p, h):
        return maximum(p.a, h) + minimum(p.a, h) + relu(p.a)

    code = compiled(chosen, TORCH, {"torch": torch})
    (h,), _ = code["next_state"]([torch.tensor([math.nan])], [torch.tensor([1.0])], [])
    assert h.isnan().all()


def test_a_state_of_a_parameter_alone_is_as_wide_as_the_others():
    @cell(gates="a", states="h c d", per_unit="u")
    def alone(p, h, c, d, u):
        return u, where(u < 0.5, 1 - u, 2.0), 3.0

    code = compiled(alone, TORCH, {"torch": torch})
    states, u = [torch.rand(2, 4) for _ in range(3)], torch.linspace(0, 1, 4)
    after, _ = code["next_state"]([torch.rand(2, 4)], states, [u])
    wanted = u, torch.where(u < 0.5, 1 - u, 2.0), torch.full((4,), 3.0)
    for found, row in zip(after, wanted, strict=True):
        assert torch.equal(found, row.expand(2, 4))


def test_an_if_on_a_value_is_refused_with_what_to_write():
    @cell(gates="a", states="h")
    def hasty(p, h):
        return p.a if p.a > 0 else h

    with pytest.raises(TypeError, match=r"cell 'hasty': .* write where\(condition"):
        derived(hasty)


def test_a_step_that_returns_too_little_is_refused():
    @cell(gates="a", states="h c")
    def forgetful(p, h, c):
        return h + p.a + c

    with pytest.raises(ValueError, match=r"returns 1 states; expected 2: h, c"):
        derived(forgetful)


def test_a_gate_that_is_not_there_is_refused():
    @cell(gates="a", states="h")
    def lost(p, h):
        return p.b + h

    with pytest.raises(TypeError, match=r"cell 'lost': .*'b'"):
        derived(lost)


def test_a_norm_of_nothing_is_refused():
    @cell(gates="a", states="h")
    def idle(p, h):
        return layer_norm(), p.a + h

    with pytest.raises(TypeError, match=r"cell 'idle': layer_norm\(\) got no value"):
        derived(idle)


def test_a_step_beyond_a_unit_has_no_gradients_by_itself():
    @cell(gates="a", states="h", bare="a")
    def parted(p, h):
        return tanh(p.a_x) * p.a_h + p.a_b

    for of, why in (
        (CELLS["gru_reset_before"], "multiplies by W_hh again"),
        (CELLS["lstm_layernorm"], "normalises over all units"),
        (CELLS["lstm_batchnorm"], "normalises over the batch"),
        (parted, "takes products without their biases"),
    ):
        with pytest.raises(
            TypeError, match=f"cell '{of.name}' {why}; its step alone has no gradients"
        ):
            derived(of)
        assert "gradients" not in source_of(of, TORCH)


def test_a_norm_is_called_once_for_all_its_values():
    @cell(gates="a b", states="h c", bare="a b")
    def normal(p, h, c):
        x, y = batch_norm(p.a_x, p.b_x)
        return x * batch_norm(c) + y, c + batch_norm(p.a_x, p.b_x)[0]

    source = source_of(normal, TORCH)
    assert source.count("batch_norm(") == 2
    assert 'batch_norm = functions["batch_norm"]' in source
    assert "layer_norm" not in source


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"gates": "", "states": "h"}, "no gates"),
        ({"gates": "a a", "states": "h"}, "'a' twice"),
        ({"gates": "a", "states": "a"}, "'a' twice"),
        ({"gates": "1a", "states": "h"}, "plain Python name"),
        ({"gates": "a", "states": "h exp"}, "the generated code uses"),
        ({"gates": "a", "states": "h v_0"}, "the generated code uses"),
        ({"gates": "a", "states": "h", "per_unit": "h_before"}, "the generated code uses"),
        ({"gates": "a", "states": "h", "apart": "b"}, "expected one of: a"),
        ({"gates": "a", "states": "h", "apart": "a", "from_x": "a"}, "both apart and from_x"),
        ({"gates": "a b", "states": "h", "again": "a"}, "again='a'; expected its last gates"),
        ({"gates": "a b", "states": "h", "bare": "b"}, "bare='b'; expected its first gates"),
        ({"gates": "a", "states": "h", "bare": "a", "again": "a"}, "both again and bare"),
        ({"gates": "a a_b", "states": "h", "bare": "a"}, "names a gate 'a_b', which may be a "),
        ({"gates": "a", "states": "h", "per_unit": "batch_norm"}, "the generated code uses"),
        ({"gates": "a", "states": "h", "starts": {"a": 1}}, "starts 'a'; expected one of: none"),
        (
            {"gates": "a", "states": "h", "per_unit": "u", "starts": {"u": math.nan}},
            "starts 'u' at nan; expected a number",
        ),
        ({"gates": "a", "states": "h c", "positive": "h"}, "expected one of: c"),
    ],
)
def test_unfit_names_are_refused(named, message):
    with pytest.raises(ValueError, match=message):
        cell(**named)(lambda p, h: h)
