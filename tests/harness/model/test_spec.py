import json
from pathlib import Path

import pytest

from lstm_harness.model.axes import AXES
from lstm_harness.model.errors import UserError
from lstm_harness.model.spec import Spec, build, suite_from_file

GRID = '[[grid]]\nhidden = [8, "16:32:x2"]\npass = "forward"\n'


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "mine.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_flags_override_every_grid_of_a_suite(written):
    suite = suite_from_file(written(f"{GRID}\n[[grid]]\nhidden = 64\nbatch = 3\n[run]\nblocks = 5"))
    spec = build(suite, {"hidden": "4"}, {"rel_ci": 0.5})
    assert [grid["hidden"] for grid in spec.grids] == [(4,), (4,)]
    assert [grid["batch"] for grid in spec.grids] == [(16,), (3,)]
    assert (spec.blocks, spec.rel_ci, spec.suite) == (5, 0.5, "mine")


def test_setting_given_as_a_flag_outranks_the_suite(written):
    suite = suite_from_file(written(f"{GRID}[run]\nblocks = 5"))
    assert build(suite, {}, {"blocks": 2}).blocks == 2


def test_cases_are_the_product_of_the_axes_each_once(written):
    spec = build(suite_from_file(written(GRID + GRID)), {"batch": "1,2"}, {})
    sizes = [(case.problem.hidden_size, case.problem.batch) for case in spec.cases("cpu")]
    assert sorted(sizes) == [(8, 1), (8, 2), (16, 1), (16, 2), (32, 1), (32, 2)]


def test_input_size_follows_the_hidden_size_unless_given():
    followed = build(None, {"hidden": "8,16"}, {}).cases("cpu")
    assert {(c.problem.input_size, c.problem.hidden_size) for c in followed} == {(8, 8), (16, 16)}
    fixed = build(None, {"hidden": "8,16", "input": "4"}, {}).cases("cpu")
    assert {c.problem.input_size for c in fixed} == {4}


def test_spec_survives_being_stored(written):
    settings = {"backends": ("naive",), "plugins": ("/a.py",), "time_budget_s": 3.0, "seed": 7}
    spec = build(suite_from_file(written(GRID)), {"input": "hidden,8"}, settings)
    assert Spec.from_dict(spec.to_dict()) == spec


CALLED = '[[grid]]\nlayer = "{}"\ncalls = {}\nhidden = [{}]\npass = "train"\n'


def test_calls_of_a_case_add_up_within_a_layer_and_not_across(written):
    grids = [("rnn", 5, "8, 16"), ("rnn", 2, "8"), ("other", 3, "8")]
    text = "".join(CALLED.format(*each) for each in grids)
    spec = build(suite_from_file(written(text)), {}, {})
    told = [(use.layer, use.case.problem.hidden_size, use.calls) for use in spec.uses("cpu")]
    assert told == [("rnn", 8, 7), ("rnn", 16, 5), ("other", 8, 3)]
    assert [case.problem.hidden_size for case in spec.cases("cpu")] == [8, 16]
    stored = json.loads(json.dumps(spec.to_dict()))
    assert Spec.from_dict(stored).uses("cpu") == spec.uses("cpu")


def test_without_calls_each_case_counts_once_under_its_own_name(written):
    spec = build(suite_from_file(written(GRID)), {}, {})
    assert {use.calls for use in spec.uses("cpu")} == {1}
    assert [use.layer for use in spec.uses("cpu")] == [
        use.case.problem.label() for use in spec.uses("cpu")
    ]


def test_a_stored_spec_that_lacks_later_axes_has_their_defaults():
    spec = build(None, {"hidden": "8"}, {})
    stored = spec.to_dict()
    for grid in stored["grids"]:
        for name in ("bias", "proj", "heads", "batch-first", "autocast", "dropout"):
            del grid[name]
    assert Spec.from_dict(stored).cases("cpu") == spec.cases("cpu")


@pytest.mark.parametrize("value", [{}, [8], {"a": 1}])
def test_a_stored_grid_of_anything_but_plain_values_is_none(value):
    stored = build(None, {"hidden": "8"}, {}).to_dict()
    stored["grids"][0]["cell"] = [value]
    with pytest.raises(ValueError, match="a grid's cell holds"):
        Spec.from_dict(stored)


def test_bias_and_projection_are_axes():
    cases = build(None, {"hidden": "8", "bias": "true,false", "proj": "0,4"}, {}).cases("cpu")
    told = {(case.problem.bias, case.problem.proj_size) for case in cases}
    assert told == {(True, 0), (True, 4), (False, 0), (False, 4)}


def test_heads_are_an_axis_of_flags_and_suites(written):
    flags = build(None, {"hidden": "8,16", "heads": "1:4:x2"}, {})
    suite = build(suite_from_file(written("[[grid]]\nhidden = [8, 16]\nheads = [1, 2, 4]")), {}, {})
    for spec in (flags, suite):
        told = {(case.problem.hidden_size, case.problem.heads) for case in spec.cases("cpu")}
        assert told == {(hidden, heads) for hidden in (8, 16) for heads in (1, 2, 4)}
    assert Spec.from_dict(json.loads(json.dumps(flags.to_dict()))).cases("cpu") == flags.cases(
        "cpu"
    )
    with pytest.raises(UserError, match="heads=3 does not divide hidden_size=8"):
        build(None, {"hidden": "8", "heads": "3"}, {}).cases("cpu")


def test_how_a_layer_is_called_is_two_axes_of_flags_and_suites(written):
    flags = build(
        None, {"hidden": "8", "batch-first": "true,false", "autocast": "none,float16"}, {}
    )
    text = '[[grid]]\nhidden = 8\nbatch-first = [true, false]\nautocast = ["none", "float16"]'
    suite = build(suite_from_file(written(text)), {}, {})
    for spec in (flags, suite, Spec.from_dict(json.loads(json.dumps(flags.to_dict())))):
        cases = spec.cases("cpu")
        assert len(cases) == 2 * len(AXES["pass"].default) * 2
        told = {(case.call.batch_first, case.call.autocast) for case in cases}
        assert told == {(first, to) for first in (True, False) for to in ("none", "float16")}
        assert {case.problem.dtype for case in cases} == {"float32"}


def test_dropout_is_an_axis_that_an_inference_does_not_have(written):
    axes = {"hidden": "8", "layers": "2", "dropout": "0,0.3", "pass": "inference,train"}
    flags = build(None, axes, {})
    text = '[[grid]]\nhidden = 8\nlayers = 2\ndropout = [0, 0.3]\npass = ["inference", "train"]'
    suite = build(suite_from_file(written(text)), {}, {})
    for spec in (flags, suite, Spec.from_dict(json.loads(json.dumps(flags.to_dict())))):
        uses = spec.uses("cpu")
        told = {(use.case.pass_name, use.case.call.dropout, use.calls) for use in uses}
        assert told == {("inference", 0.0, 1), ("train", 0.0, 1), ("train", 0.3, 1)}
        assert len(uses) == 3


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        (
            {"dropout": "0.3"},
            "dropout 0.3 with one layer: it is between layers; expected --layers 2",
        ),
        (
            {"dropout": "0.3", "layers": "2", "lengths": "uniform:1:8"},
            "of a ragged batch in different",
        ),
        ({"dropout": "0.3", "layers": "2", "launch": "graph"}, "dropout 0.3 with launch 'graph'"),
        ({"dropout": "1"}, "--dropout '1': expected a number from 0 to below 1, like 0.3"),
        ({"dropout": "-0.1"}, "--dropout '-0.1': expected a number"),
        ({"dropout": "nan"}, "--dropout 'nan': expected a number"),
        ({"dropout": "much"}, "--dropout 'much': expected a number"),
        ({"autocast": "float16", "dtype": "float64"}, "autocast 'float16' with dtype 'float64'"),
        ({"autocast": "bfloat16", "precision": "tf32"}, "'tf32': autocast casts float32"),
        (
            {"batch-first": "true", "lengths": "uniform:1:8"},
            "batch-first with lengths 'uniform:1:8'",
        ),
        ({"autocast": "float64"}, "unknown autocast 'float64'; did you mean 'float16'?"),
        ({"autocast": "bf16"}, "unknown autocast 'bf16'"),
    ],
)
def test_a_call_that_no_module_makes_is_refused_in_one_line(axes, says):
    with pytest.raises(UserError) as refusal:
        build(None, {"hidden": "8"} | axes, {}).cases("cpu")
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_suite_says_its_device_and_threads_and_flags_outrank_it(written):
    suite = suite_from_file(written(f'{GRID}[run]\ndevice = "cuda"\nthreads = 3'))
    spec = build(suite, {}, {})
    assert (spec.device, spec.threads) == ("cuda", 3)
    assert build(suite, {}, {"device": "cpu"}).device == "cpu"
    with pytest.raises(UserError, match="unknown device 'tpu'"):
        build(suite_from_file(written(f'{GRID}[run]\ndevice = "tpu"')), {}, {})


def test_an_unknown_cell_is_answered_with_the_nearest_where_nobody_can_bring_it(
    written, monkeypatch
):
    suite = suite_from_file(written('[[grid]]\ncell = ["lstm", "mine"]\nhidden = 4'))
    for given in (lambda **s: build(None, {"cell": "lstn"}, s), lambda **s: build(suite, {}, s)):
        with pytest.raises(
            UserError, match=r"unknown cell '(lstn'; did you mean 'lstm'|mine'; kn)"
        ):
            given()
        given(plugins=("mine.py",))
        with monkeypatch.context() as patch:
            patch.setattr("lstm_harness.model.spec.may_bring_cells", lambda: True)
            given()


def test_an_unknown_cell_makes_no_case():
    spec = build(None, {"cell": "lstn"}, {"plugins": ("mine.py",)})
    assert spec.cells == ("lstn",)
    with pytest.raises(UserError, match="did you mean 'lstm'"):
        spec.cases("cpu")


def test_impossible_combination_is_the_users_mistake():
    spec = build(None, {"precision": "tf32", "dtype": "float64"}, {})
    with pytest.raises(UserError, match="tf32"):
        spec.cases("cpu")


def test_int8_weights_are_for_inference_alone():
    for given in ({}, {"pass": "inference,train"}):
        spec = build(None, {"precision": "w8", **given}, {})
        with pytest.raises(UserError, match=r"'w8' with pass '\w+': .*; expected pass 'inference'"):
            spec.cases("cpu")
    spec = build(None, {"precision": "ieee,w8", "pass": "inference"}, {})
    assert [case.problem.precision for case in spec.cases("cpu")] == ["ieee", "w8"]


def test_grid_too_large_to_list_is_refused_before_it_is_listed():
    spec = build(None, {"hidden": "1:1000:+1", "batch": "1:1000:+1"}, {})
    with pytest.raises(UserError, match="2000000 cases"):
        spec.cases("cpu")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[grid", "not TOML"),
        (b"\xff\xfe", "not text"),
        ("", "no \\[\\[grid\\]\\]"),
        ("grid = 3", "no \\[\\[grid\\]\\]"),
        ("grid = [1]", "no \\[\\[grid\\]\\]"),
        ("[[grid]]\nhiden = 8", "did you mean 'hidden'"),
        (f"{GRID}[run]\nblokcs = 3", "did you mean 'blocks'"),
        (f"titel = 'x'\n{GRID}", "did you mean 'title'"),
        (f"run = 3\n{GRID}", "expected a table"),
        (f"{GRID}[run]\nblocks = 'abc'", "whole number"),
        (f"{GRID}[run]\nblocks = 2.5", "whole number"),
        (f"{GRID}[run]\nblocks = true", "whole number"),
        (f"{GRID}[run]\nrel_ci = '2%'", "a number"),
        ("[[grid]]\nhidden = []", "--hidden is empty"),
        ("[[grid]]\nhidden = 1.5", "--hidden '1.5'"),
        ("[[grid]]\ncell = 3", "unknown cell 3"),
        ("[[grid]]\nlengths = 3", "--lengths 3"),
        ("[[grid]]\ncalls = 0", "calls = '0': expected a whole number"),
        ("[[grid]]\ncalls = 2.5", "calls = '2.5'"),
        ("[[grid]]\ncalls = true", "calls = 'True'"),
        ("[[grid]]\ncalls = [1, 2]", "calls = "),
        (f"[[grid]]\ncalls = {10**30}", "calls = '1000"),
        ("[[grid]]\nlayer = ' '", "expected a layer's name"),
        ("[[grid]]\nlayer = 3", "expected a layer's name"),
        ("[[grid]]\ncallls = 3", "did you mean 'calls'"),
        ("[[grid]]\nproj = -1", "--proj"),
        ("[[grid]]\nheads = 0", "--heads '0'"),
        (f"{GRID}[run]\ndevice = 3", "a name"),
    ],
)
def test_bad_suite_file_is_refused_in_one_line(written, text, says):
    with pytest.raises(UserError, match=says) as refusal:
        suite_from_file(written(text))
    assert "\n" not in str(refusal.value).strip()


def test_suite_file_that_is_not_there():
    with pytest.raises(UserError, match=r"cannot read nowhere\.toml"):
        suite_from_file(Path("nowhere.toml"))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("blocks", 0),
        ("blocks", 10**30),
        ("blocks", 10**400),
        ("min_samples", -1),
        ("rel_ci", float("nan")),
        ("rel_ci", 0.0),
        ("cell_timeout_s", float("inf")),
        ("time_budget_s", 0),
        ("seed", -1),
        ("seed", 10**400),
        ("threads", 0),
        ("device", "tpu"),
    ],
)
def test_setting_out_of_bounds_is_refused(setting, value):
    with pytest.raises(UserError):
        build(None, {}, {setting: value})
