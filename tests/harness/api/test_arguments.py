"""What a call gives is what the command line gives, and is written as one."""

from pathlib import Path

import pytest

from lstm_harness.api import arguments
from lstm_harness.cli import options
from lstm_harness.model.errors import UserError
from lstm_harness.model.spec import Spec

NOTHING = (None, None, None, None)


def spec(suite=None, backend=None, plugin=None, axes=None, **settings) -> Spec:
    return arguments.spec_of(suite, None, backend, plugin, axes or {}, settings)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (16, "16"),
        ([16, 32], "16,32"),
        ((16, "32:128:x2"), "16,32,64,128"),
        (range(8, 25, 8), "8:24:+8"),
        ("8:24:+8", "8,16,24"),
    ],
)
def test_sizes_are_one_or_several_or_a_text(given, text):
    asked = spec(axes={"hidden": given, "bidirectional": None})
    assert asked == options.spec_of(*NOTHING, axis_hidden=text)


def test_everything_is_as_the_command_line_has_it():
    asked = spec(
        "quick",
        backend=["naive", "aten"],
        plugin=Path("mine.py"),
        axes={"bidirectional": [True, False], "pass": "train", "cell": ["lstm", "gru"]},
        threads=2,
        time_budget=3,
        cell_timeout=4.5,
        label="x",
    )
    assert asked == options.spec_of(
        "quick",
        None,
        "naive,aten",
        ["mine.py"],
        axis_bidirectional="true,false",
        axis_pass="train",
        axis_cell="lstm,gru",
        threads=2,
        time_budget_s=3.0,
        cell_timeout_s=4.5,
        label="x",
    )


def test_nothing_given_is_quick_and_so_is_a_suite_of_ones_own(tmp_path):
    assert spec().suite == "quick"
    file = tmp_path / "own.toml"
    file.write_text('title = "own"\n[[grid]]\nhidden = [8]\n')
    own = arguments.spec_of(None, str(file), None, None, {}, {})
    assert (own.suite, own.grids[0]["hidden"]) == ("own", (8,))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"axes": {"hidden": 2.5}}, "--hidden '2.5'"),
        ({"axes": {"hidden": []}}, "--hidden is empty"),
        ({"axes": {"cell": ["lstm", "lstn"]}}, "did you mean 'lstm'"),
        ({"backend": []}, "--backend is empty"),
        ({"blocks": "three"}, "arguments.blocks is 'three'; expected int"),
        ({"blocks": 2.5}, "arguments.blocks is 2.5; expected int"),
        ({"time_budget": True}, "arguments.time_budget_s is True"),
        ({"threads": 0}, "--threads 0"),
        ({"device": 3}, "arguments.device is 3"),
        ({"suite": "quik"}, "did you mean 'quick'"),
    ],
)
def test_what_cannot_be_is_one_line(given, says):
    with pytest.raises(UserError) as told:
        spec(**given)
    assert says in str(told.value)
    assert "\n" not in str(told.value)


def test_the_command_line_asks_for_the_same():
    words = arguments.command_of(
        "quick",
        None,
        ["naive", "aten"],
        ["a.py", Path("b.py")],
        {
            "seq-len": range(4, 6),
            "bidirectional": [True, False],
            "pass": "train",
            "time_budget": 2.5,
            "label": None,
        },
    )
    assert words == [
        *("lstm-bench", "run", "quick", "--backend", "naive,aten", "--seq-len", "4,5"),
        *("--bidirectional", "true,false", "--pass", "train", "--time-budget", "2.5"),
        *("--plugin", "a.py", "--plugin", "b.py"),
    ]
