"""A cell as plain data: what comes out is what went in, and a stranger's is checked whole."""

import json
from copy import deepcopy

import pytest

from lstm_kernels.cells import (
    CELLS,
    add_cells,
    batch_norm,
    cell,
    exp,
    from_data,
    layer_norm,
    log,
    maximum,
    minimum,
    relu,
    sigmoid,
    tanh,
    to_data,
    where,
)
from lstm_kernels.cells.code.data import MOST_NAMES, MOST_NODES
from lstm_kernels.cells.code.emit import TORCH, source_of
from lstm_kernels.cells.code.trace import traced


@cell(gates="a b n", states="h c", per_unit="u", apart="b", from_x="n", positive="c")
def everything(p, h, c, u):
    x = where(p.a < h, p.b_x / (1 + exp(c)), -relu(p.b_h) * u) - minimum(p.a, c)
    y = maximum(h * 2, c) + log(1 + exp(p.b_h)) - tanh(u - p.n)
    return where(y >= 0.5, sigmoid(x), y) + 3, x * y + 1e-300


@cell(gates="a b n", states="h c", per_unit="u v", bare="a b", again="n", starts={"v": 1, "u": 0.1})
def of_whole_values(p, h, c, u, v):
    x, y = layer_norm(p.a_x, p.b_h)
    return batch_norm(x * u + p.a_b) + p.n(y * v), batch_norm(c)


GIVEN = [*CELLS.values(), everything, of_whole_values]


@pytest.mark.parametrize("given", GIVEN, ids=lambda each: each.name)
def test_what_comes_out_is_what_went_in(given):
    data = json.loads(json.dumps(to_data(given)))
    made = from_data(data)
    assert to_data(made) == data
    assert traced(made) == traced(given)
    assert source_of(made, TORCH) == source_of(given, TORCH)
    fields = ("name", "slots", "states", "per_unit", "positive", "starts")
    for field in fields:
        assert getattr(made, field) == getattr(given, field)
    assert made == from_data(data)
    assert hash(made) == hash(from_data(data))


def test_one_that_was_made_of_data_is_no_other():
    add_cells([from_data(to_data(CELLS["lstm"]))], "a test")
    other = to_data(CELLS["lstm"])
    other["after"].reverse()
    with pytest.raises(
        ValueError, match=r"defines cell 'lstm', but lstm_kernels\.cells\.lstm has another"
    ):
        add_cells([from_data(other)], "a test")


def changed(**fields):
    return to_data(everything) | fields


NODE = "the step of cell 'everything' has"
BROKEN = [
    (None, "a cell's data is None; expected name, gates"),
    ([], "a cell's data is"),
    ({}, "a cell's data is {}"),
    (changed(more=1), "a cell's data is"),
    (changed(name="two words"), "a cell is named 'two words'; expected a plain Python name"),
    (changed(name="a" * 61), "a cell is named"),
    (changed(name=3), "a cell is named 3"),
    (changed(gates="abn"), "has gates 'abn'; expected a list"),
    (changed(per_unit=["u"] * (MOST_NAMES + 1)), "a list of at most"),
    (changed(per_unit=["u;v"]), "names 'u;v'; expected a plain Python name"),
    (changed(per_unit=[["u"]]), r"names \['u'\]"),
    (changed(per_unit=["lambda"]), "names 'lambda'; expected a plain Python name"),
    (changed(per_unit=["h"]), "names 'h' twice"),
    (changed(apart=["z"]), "has apart='z'"),
    (changed(nodes=3), f"{NODE} 3 operations"),
    (
        changed(nodes=[["input", "h"]] * (MOST_NODES + 1)),
        f"{NODE} 257 operations; expected at most 256",
    ),
    (changed(nodes=[["input", "h"], ["exec", 0]]), f"{NODE} \\['exec', 0\\]; expected an op"),
    (changed(nodes=[[]]), f"{NODE} \\[\\]"),
    (changed(nodes=["input"]), f"{NODE} 'input'"),
    (changed(nodes=[[["add"], 0, 0]]), NODE),
    (changed(nodes=[["input", "p_z"]]), f"{NODE} \\['input', 'p_z'\\]"),
    (changed(nodes=[["input", ["h"]]]), NODE),
    (changed(nodes=[["constant", float("nan")]]), NODE),
    (changed(nodes=[["constant", 10**400]]), NODE),
    (changed(nodes=[["constant", True]]), NODE),
    (changed(nodes=[["constant", "1"]]), NODE),
    (changed(nodes=[["tanh", 0]]), f"{NODE} \\['tanh', 0\\]"),
    (changed(nodes=[["input", "h"], ["tanh", -1]]), NODE),
    (changed(nodes=[["input", "h"], ["tanh", 0, 0]]), NODE),
    (changed(nodes=[["input", "h"], ["add", 0, False]]), NODE),
    (changed(nodes=[["input", "h"], ["where", 0, 0, 0]]), f"{NODE} \\['where', 0, 0, 0\\]"),
    (changed(nodes=[["input", "h"], ["less", 0, 0], ["add", 0, 1]]), f"{NODE} \\['add', 0, 1\\]"),
    (
        changed(nodes=[["constant", 1], ["constant", 0], ["div", 0, 1]], after=[2, 2]),
        "divides 1.0 by 0",
    ),
    (changed(bare=["b"]), "has 'b' both apart and bare"),
    (changed(bare="a"), "has bare 'a'; expected a list"),
    (changed(starts=[["u", 1]]), r"has starts \[\['u', 1\]\]; expected numbers by name"),
    (changed(starts={"u": "1"}), "expected numbers by name"),
    (changed(starts={"u": 10**400}), "expected numbers by name"),
    (changed(starts={"u" * 10**3: 1}), "expected numbers by name"),
    (changed(starts={"c": 1}), "starts 'c'; expected one of: u"),
    (changed(nodes=[["layer_norm"]]), f"{NODE} \\['layer_norm'\\]"),
    (changed(nodes=[["input", "h"], ["layer_norm", *[0] * (MOST_NAMES + 1)]]), NODE),
    (changed(nodes=[["input", "h"], ["batch_norm", 0], ["tanh", 1]]), f"{NODE} \\['tanh', 1\\]"),
    (changed(nodes=[["input", "h"], ["batch_norm", 0], ["part", 1, 1]]), NODE),
    (changed(nodes=[["input", "h"], ["batch_norm", 0], ["part", 1, True]]), NODE),
    (changed(nodes=[["input", "h"], ["batch_norm", 0], ["part", 1]]), NODE),
    (changed(nodes=[["input", "h"], ["part", 0, 0]]), f"{NODE} \\['part', 0, 0\\]"),
    (changed(nodes=[["input", "h"], ["less", 0, 0], ["part", 1, 0]]), NODE),
    (changed(nodes=[["input", "h"], ["less", 0, 0], ["layer_norm", 1]]), NODE),
    (changed(nodes=[["input", "h"], ["layer_norm", 0]], after=[0, 1]), "after a step"),
    (changed(after=[0]), r"has \[0\] after a step; expected one node of numbers for each state"),
    (changed(after=3), "has 3 after a step"),
    (changed(after=[0, 10**6]), "after a step"),
    (changed(nodes=[["input", "h"], ["less", 0, 0]], after=[0, 1]), "after a step"),
]


@pytest.mark.parametrize(("data", "says"), BROKEN, ids=[says[:40] for _, says in BROKEN])
def test_what_is_no_cell_is_refused_with_what_is_wrong(data, says):
    with pytest.raises(ValueError, match=says) as told:
        from_data(deepcopy(data))
    assert len(str(told.value)) < 300


def test_the_text_of_a_number_beside_a_name_is_no_code():
    data = to_data(CELLS["rnn_tanh"])
    data["nodes"][0][1] = "__import__('os')"
    with pytest.raises(ValueError, match="__import__"):
        from_data(data)


def test_a_step_too_long_to_be_handed_on_says_so():
    @cell(gates="a", states="h")
    def endless(p, h):
        for _ in range(MOST_NODES):
            h = tanh(h + p.a)
        return h

    with pytest.raises(ValueError, match="'endless' has 514 operations; expected at most 256"):
        to_data(endless)
