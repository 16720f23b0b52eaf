"""The suites this package ships: each is the workload its source describes."""

from dataclasses import asdict, replace
from typing import Any

import pytest

from lstm_harness.model.axes import AXES
from lstm_harness.model.case import Case
from lstm_harness.model.spec import Spec, Suite, build, named_suite, suite_names
from lstm_kernels import CELLS, DTYPE_BYTES

NAMES = (
    "bidirectional",
    "cpu",
    "cudnn-cliffs",
    "cudnn5-ladder",
    "deep",
    "deepbench-infer",
    "deepbench-train",
    "fastlstm",
    "fastrnns",
    "flashrnn",
    "haste",
    "mlperf-gnmt",
    "mlperf-rnnt",
    "quick",
    "rnn-benchmarks",
    "seeds",
    "sweep",
    "torchrl",
    "variable-length",
    "variants",
    "xlstm",
)

# What stands in each suite, as the fields of a problem that are not the default. The input size is
# the hidden size where none is given.
SHAPES: dict[str, list[dict[str, Any]]] = {
    "cpu": [
        {"hidden_size": 1024, "seq_len": 128, "batch": 64, "dtype": "bfloat16"},
        {"hidden_size": 64, "seq_len": 32, "batch": 1, "dtype": "float32"},
    ],
    "quick": [{"hidden_size": 256, "seq_len": 128, "batch": 16}],
    "sweep": [
        {"hidden_size": 2048, "seq_len": 1024, "batch": 128, "dtype": "bfloat16"},
        {"hidden_size": 128, "seq_len": 32, "batch": 1, "dtype": "float32"},
    ],
    "deepbench-train": [
        {"cell": "rnn_relu", "hidden_size": 1760, "seq_len": 50, "batch": 128},
        {"hidden_size": 4096, "seq_len": 25, "batch": 16},
        {"hidden_size": 1536, "seq_len": 50, "batch": 8},
        {"hidden_size": 256, "seq_len": 150, "batch": 64},
        {"cell": "gru", "hidden_size": 2816, "seq_len": 1500, "batch": 32},
        {"cell": "gru", "hidden_size": 2048, "seq_len": 750, "batch": 32},
        {"cell": "gru", "hidden_size": 1536, "seq_len": 375, "batch": 32},
        {"cell": "gru", "hidden_size": 2560, "seq_len": 187, "batch": 32},
        {"cell": "gru", "hidden_size": 512, "seq_len": 1, "batch": 32},
        {"cell": "gru", "hidden_size": 1024, "seq_len": 1500, "batch": 64},
    ],
    "deepbench-infer": [
        {"hidden_size": 2048, "seq_len": 25, "batch": 4},
        {"hidden_size": 1536, "seq_len": 50, "batch": 1},
        {"hidden_size": 256, "seq_len": 150, "batch": 2},
        {"cell": "gru", "hidden_size": 2816, "seq_len": 1500, "batch": 1},
        {"cell": "gru", "hidden_size": 512, "seq_len": 1, "batch": 4},
        {"cell": "gru", "hidden_size": 1024, "seq_len": 1500, "batch": 2},
    ],
    "flashrnn": [
        {"hidden_size": 768, "seq_len": 1024, "batch": 16, "dtype": "bfloat16"},
        {"hidden_size": 768, "seq_len": 1024, "batch": 256, "dtype": "bfloat16"},
        {"hidden_size": 768, "seq_len": 2048, "batch": 16, "dtype": "float16"},
    ],
    "haste": [
        {"hidden_size": 4096, "seq_len": 50, "batch": 128, "input_size": 512},
        {"hidden_size": 128, "seq_len": 50, "batch": 1, "input_size": 64},
    ],
    "variants": [
        {"cell": "lstm", "hidden_size": 128, "seq_len": 128, "batch": 1},
        *({"cell": cell, "hidden_size": 512, "seq_len": 128, "batch": 64} for cell in CELLS),
        {"cell": "slstm", "hidden_size": 512, "seq_len": 128, "batch": 16, "heads": 4},
    ],
    "xlstm": [
        {"cell": "slstm", "hidden_size": 768, "seq_len": 1024, "batch": 16, "heads": 48},
        {"cell": "slstm", "hidden_size": 768, "seq_len": 1024, "batch": 16, "heads": 3},
        {"cell": "slstm", "hidden_size": 768, "seq_len": 2048, "batch": 16, "heads": 12},
        {"cell": "slstm", "hidden_size": 768, "seq_len": 256, "batch": 16, "dtype": "bfloat16"},
    ],
    "fastrnns": [
        {"hidden_size": 512, "seq_len": 100, "batch": 64},
        {"hidden_size": 512, "seq_len": 100, "batch": 64, "lengths": "uniform:30:100"},
    ],
    "cudnn5-ladder": [{"hidden_size": 512, "seq_len": 100, "batch": 64, "num_layers": 4}],
    "fastlstm": [
        {"hidden_size": 2048, "seq_len": 2048, "batch": 128, "dtype": "float16"},
        {"hidden_size": 64, "seq_len": 64, "batch": 4, "dtype": "float16"},
    ],
    "torchrl": [
        {"hidden_size": 256, "seq_len": 32, "batch": 4096, "input_size": 32},
        {"hidden_size": 128, "seq_len": 256, "batch": 2048, "input_size": 32},
    ],
    "mlperf-rnnt": [
        {"hidden_size": 1024, "seq_len": 557, "input_size": 240, "num_layers": 2},
        {"hidden_size": 1024, "seq_len": 278, "input_size": 2048, "num_layers": 3},
        {"hidden_size": 512, "num_layers": 2},
    ],
    "mlperf-gnmt": [
        {"hidden_size": 1024, "bidirectional": True, "lengths": "translation"},
        {"hidden_size": 1024, "input_size": 2048, "lengths": "translation"},
        {"hidden_size": 1024, "bidirectional": False, "lengths": "translation"},
    ],
    "cudnn-cliffs": [
        {"hidden_size": 129, "batch": 12, "dtype": "float16"},
        {"hidden_size": 193, "batch": 136, "dtype": "bfloat16"},
        {"hidden_size": 1152, "batch": 8, "precision": "tf32"},
        {"hidden_size": 1024, "batch": 128, "dtype": "float16", "num_layers": 2},
        {"hidden_size": 1024, "batch": 128, "dtype": "float16", "bidirectional": True},
        {"hidden_size": 1024, "batch": 128, "dtype": "float16", "lengths": "uniform:64:128"},
        {"hidden_size": 168, "seq_len": 2058, "batch": 62, "input_size": 16},
        {"hidden_size": 152, "seq_len": 1981, "batch": 45, "input_size": 56, "num_layers": 4},
        {"hidden_size": 160, "seq_len": 1125, "batch": 44, "input_size": 40},
        {"hidden_size": 40, "seq_len": 2560, "batch": 3, "input_size": 368, "num_layers": 4},
        {"hidden_size": 32, "seq_len": 1314, "batch": 20, "input_size": 344},
    ],
    "rnn-benchmarks": [{"hidden_size": 320, "seq_len": 100, "batch": 64, "input_size": 125}],
    "seeds": [
        *({"cell": cell, "hidden_size": 128} for cell in ("rnn_tanh", "lstm", "gru")),
        {"hidden_size": 128, "seq_len": 64, "lengths": "uniform:1:64"},
        *(
            {"hidden_size": 128, "num_layers": layers, "bidirectional": bidirectional}
            for layers in (1, 2, 4)
            for bidirectional in (False, True)
        ),
    ],
    "bidirectional": [
        {"hidden_size": 256, "bidirectional": True},
        {"hidden_size": 256, "bidirectional": False},
    ],
    "deep": [
        {"hidden_size": 256, "num_layers": layers, "bidirectional": bidirectional}
        for layers in range(1, 9)
        for bidirectional in (False, True)
    ],
    "variable-length": [
        {"hidden_size": 128, "seq_len": 29, "input_size": 12, "lengths": "japanese-vowels"},
        {"hidden_size": 128, "seq_len": 29, "input_size": 12, "lengths": "full"},
        {"hidden_size": 256, "seq_len": 28, "lengths": "cmudict"},
        {"hidden_size": 256, "seq_len": 28, "lengths": "uniform:1:28"},
        {"hidden_size": 256, "seq_len": 28, "lengths": "full"},
    ],
}
USUAL = {
    "cell": "lstm",
    "num_layers": 1,
    "bidirectional": False,
    "heads": 1,
    "precision": "ieee",
    "lengths": "full",
}


def cases_of(name: str, **axes: str) -> tuple[Case, ...]:
    return build(named_suite(name), axes, {}).cases("cuda")


def points_of(suite: Suite) -> int:
    defaults = {name: axis.default for name, axis in AXES.items()}
    sizes = 0
    for grid in suite.grids:
        size = 1
        for values in {**defaults, **grid}.values():
            size *= len(values)
        sizes += size
    return sizes


def test_every_suite_is_shipped() -> None:
    assert suite_names() == NAMES
    assert set(SHAPES) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_suite_says_what_it_is(name: str) -> None:
    suite = named_suite(name)
    assert suite.name == name
    assert len(suite.title) > 20
    assert suite.source
    assert isinstance(build(suite, {}, {}), Spec)


@pytest.mark.parametrize("name", NAMES)
def test_a_suite_has_each_case_once(name: str) -> None:
    cases = cases_of(name)
    assert cases
    assert len(cases) == points_of(named_suite(name))


@pytest.mark.parametrize(
    ("name", "shape"), [(name, shape) for name in NAMES for shape in SHAPES[name]], ids=str
)
def test_a_known_shape_is_in_its_suite(name: str, shape: dict[str, Any]) -> None:
    wanted = {**USUAL, "input_size": shape["hidden_size"], **shape}
    found = [asdict(case.problem) for case in cases_of(name)]
    assert any(wanted.items() <= problem.items() for problem in found)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        # What the sources count: 12 plain, 16 + 3 + 3 LSTM, 4 + 1 + 2 GRU; then batches of 1, 2, 4.
        ("deepbench-train", 41),
        ("deepbench-infer", 33),
        ("sweep", 5 * 4 * 5),
        ("cpu", 5 * 2 * 4),
        ("haste", 5 * 9 * 4),
        ("fastlstm", 6 * 6 * 6),
        ("flashrnn", 7 + 3),
    ],
)
def test_a_suite_has_as_many_shapes_as_its_source(name: str, count: int) -> None:
    problems = [asdict(case.problem) for case in cases_of(name)]
    shapes = {
        (each["cell"], each["seq_len"], each["batch"], each["input_size"], each["hidden_size"])
        for each in problems
    }
    assert len(shapes) == count


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        ("deepbench-infer", {"inference"}),
        ("deepbench-train", {"forward", "backward"}),
        ("flashrnn", {"inference", "train"}),
        ("cpu", {"inference", "forward", "backward", "train"}),
        ("cudnn5-ladder", {"forward"}),
        ("seeds", {"forward", "backward"}),
        ("sweep", {"inference", "forward", "backward"}),
    ],
)
def test_a_suite_stands_for_its_passes(name: str, passes: set[str]) -> None:
    assert {case.pass_name for case in cases_of(name)} == passes


def test_every_case_of_the_seeds_has_what_its_figure_holds_it_against() -> None:
    """The other pass, the full batch, one layer and one direction: all else equal."""
    cases = set(cases_of("seeds"))
    other = {"forward": "backward", "backward": "forward"}
    assert cases == {replace(case, pass_name=other[case.pass_name]) for case in cases}
    for field, plain in (("lengths", "full"), ("num_layers", 1), ("bidirectional", False)):
        varied = [case for case in cases if getattr(case.problem, field) != plain]
        assert varied
        for case in varied:
            assert replace(case, problem=replace(case.problem, **{field: plain})) in cases


def test_every_number_format_meets_every_cliff() -> None:
    formats = {(case.problem.dtype, case.problem.precision) for case in cases_of("cudnn-cliffs")}
    ieee = {(dtype, "ieee") for dtype in DTYPE_BYTES if dtype != "float64"}
    assert formats == ieee | {("float32", "tf32")}


@pytest.mark.parametrize("name", NAMES)
def test_a_flag_overrides_an_axis(name: str) -> None:
    cases = cases_of(name, batch="3", **{"pass": "inference"})
    assert {(case.problem.batch, case.pass_name) for case in cases} == {(3, "inference")}


@pytest.mark.parametrize("name", NAMES)
def test_real_lengths_have_room_in_their_suite(name: str) -> None:
    for case in cases_of(name):
        lengths = case.problem.sequence_lengths()
        assert min(lengths) >= 1
        assert max(lengths) <= case.problem.seq_len
