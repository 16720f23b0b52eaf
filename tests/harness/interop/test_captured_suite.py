"""What is noted of a program becomes a suite that says the same, or says what it leaves out."""

import tomllib
from dataclasses import replace

import pytest

from lstm_harness.interop.captured_suite import MOST_SHAPES, captured
from lstm_harness.interop.watched_program import Call, Count, Notes
from lstm_harness.model.case import Call as CalledSo
from lstm_harness.model.spec import build, suite_from_file

COMMAND = ("python", "/home/me/train.py", "--lr", "0.1")
CALL = Call(
    layer="Model.rnn",
    cell="lstm",
    input_size=12,
    hidden_size=16,
    num_layers=1,
    bidirectional=False,
    bias=True,
    proj_size=0,
    batch_first=False,
    dropout=0.0,
    seq_len=30,
    batch=8,
    packed=False,
    dtype="float32",
    autocast=False,
    device="cpu",
    precision="ieee",
    gradients=True,
    threads=2,
)


def call(**fields):
    return replace(CALL, **fields)


def packed(*lengths, calls=1, **fields):
    """A packed call of these lengths, and its count."""
    T = max(lengths)
    running = [calls * sum(length > step for length in lengths) for step in range(T)]
    return {call(packed=True, seq_len=T, batch=len(lengths), **fields): Count(calls, running)}


@pytest.fixture
def written(tmp_path):
    """The spec of the suite that notes become, and what else is said."""

    def write(counts, **notes):
        made = captured(Notes(counts, python=True, torch=True, **notes), COMMAND)
        path = tmp_path / "captured.toml"
        path.write_text(made.text)
        return build(suite_from_file(path), {}, {}), made

    return write


def test_a_suite_says_what_was_called_and_how_often(written):
    fields = {"num_layers": 2, "bidirectional": True, "bias": False, "proj_size": 4}
    counts = {call(**fields): Count(7), call(gradients=False): Count(3)}
    spec, made = written(counts)
    train, inference = spec.uses("cpu")
    assert (train.layer, train.calls, train.case.pass_name) == ("Model.rnn", 7, "train")
    assert (inference.calls, inference.case.pass_name) == (3, "inference")
    problem = train.case.problem.to_dict()
    wanted = {"seq_len": 30, "batch": 8, "input_size": 12, "hidden_size": 16} | fields
    assert wanted.items() < problem.items()
    assert (spec.device, spec.threads, spec.blocks) == ("cpu", 2, 5)
    assert (made.layers, made.cases, made.calls, made.said) == (1, 2, 10, ())


def test_the_same_shapes_in_two_layers_stay_two_layers_of_one_case(written):
    spec, _ = written({call(): Count(2), call(layer="Model.second"): Count(5)})
    assert [(use.layer, use.calls) for use in spec.uses("cpu")] == [
        ("Model.rnn", 2),
        ("Model.second", 5),
    ]
    assert len(spec.cases("cpu")) == 1


def test_processes_with_other_threads_are_of_one_case(written):
    spec, _ = written({call(threads=1): Count(2), call(threads=4): Count(5)})
    assert [use.calls for use in spec.uses("cpu")] == [7]
    assert spec.threads == 4


@pytest.mark.parametrize(
    ("lengths", "name"),
    [
        ((30,) * 4, "full"),
        (range(1, 31), "uniform:1:30"),
        (range(21, 31), "uniform:21:30"),
        ((1,) * 9 + (30,), "uniform:1:7"),
    ],
    ids=["full", "from one", "long ones", "short ones"],
)
def test_lengths_become_the_nearest_that_has_a_name(written, lengths, name):
    spec, _ = written(packed(*lengths, calls=3))
    (use,) = spec.uses("cpu")
    assert use.case.problem.lengths == name
    assert (use.case.problem.seq_len, use.calls) == (30, 3)


def test_lengths_of_a_table_are_known_again(written):
    from lstm_kernels.common.lengths import sequence_lengths

    spec, _ = written(packed(*sequence_lengths("japanese-vowels", 29, 64)))
    assert spec.uses("cpu")[0].case.problem.lengths == "japanese-vowels"


def test_many_shapes_are_joined_and_no_call_is_lost(written):
    counts = {call(seq_len=T): Count(T % 7 + 1) for T in range(1, 101)}
    spec, made = written(counts)
    uses = spec.uses("cpu")
    assert len(uses) == MOST_SHAPES
    assert sum(use.calls for use in uses) == sum(count.calls for count in counts.values())
    steps = sum(each.seq_len * 8 * count.calls for each, count in counts.items())
    told = sum(use.calls * use.case.problem.valid_steps for use in uses)
    assert told == pytest.approx(steps, rel=0.05)
    assert made.text.count("stands for") == MOST_SHAPES


def test_one_shape_with_most_of_the_work_is_kept_as_it_is(written):
    counts = {call(seq_len=T): Count(1) for T in range(1, 20)} | {call(seq_len=500): Count(1000)}
    spec, _ = written(counts)
    assert max(spec.uses("cpu"), key=lambda use: use.calls).case.problem.seq_len == 500


def test_what_no_case_tells_stands_in_a_comment(written):
    _, made = written(packed(4, 3, num_layers=2, dropout=0.25))
    assert "dropout 0.25, which is not raced for a packed batch\n" in made.text


def test_how_a_layer_was_called_is_raced(written):
    spec, _ = written({call(batch_first=True, autocast=True, dtype="bfloat16"): Count(2)})
    (use,) = spec.uses("cpu")
    assert use.case.call == CalledSo(batch_first=True, autocast="bfloat16")
    assert (use.case.problem.dtype, use.case.computed.dtype) == ("float32", "bfloat16")
    assert (use.case.problem.seq_len, use.case.problem.batch, use.calls) == (30, 8, 2)


@pytest.mark.parametrize(
    ("fields", "dropout"),
    [({}, 0.25), ({"num_layers": 1}, 0.0), ({"gradients": False}, 0.0)],
)
def test_dropout_is_raced_where_a_layer_has_it(written, fields, dropout):
    spec, made = written({call(**{"num_layers": 2, "dropout": 0.25} | fields): Count(1)})
    (use,) = spec.uses("cpu")
    assert use.case.call == CalledSo(dropout=dropout)
    assert "not raced" not in made.text


def test_a_packed_call_has_no_batch_first_and_may_be_under_autocast(written):
    counts = packed(9, 5, 2, batch_first=True, autocast=True, dtype="float16")
    spec, _ = written(counts | {call(batch_first=True): Count(1)})
    called = {use.case.problem.lengths: use.case.call for use in spec.uses("cpu")}
    assert called.pop("full") == CalledSo(batch_first=True)
    assert [*called.values()] == [CalledSo(autocast="float16")]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"device": "mps"}, "on mps; cases are on cpu and cuda"),
        ({"device": "cuda"}, "but most calls are on cpu; a suite is for one device"),
        ({"dtype": "complex64"}, "complex64; cases are in float64"),
        ({"num_layers": 2, "dropout": 1.0}, "dropout 1; cases have less than 1"),
        ({"autocast": True}, "under autocast to float32; cases have bfloat16, float16"),
        ({"cell": "lstm", "proj_size": 16}, "expected less than hidden_size"),
    ],
)
def test_what_cannot_be_raced_is_said(written, fields, why):
    spec, made = written({call(): Count(9), call(layer="odd", **fields): Count(4)})
    assert [use.calls for use in spec.uses("cpu")] == [9]
    (said,) = made.said
    assert said.startswith("odd: 4 calls left out: ")
    assert why in said
    assert f"# {said}\n" in made.text


def test_cells_and_calls_that_were_not_noted_are_said(written):
    _, made = written({call(): Count(1)}, cells={"LSTMCell": 12}, troubles={"OSError: full": None})
    assert "LSTMCell: 12 calls left out" in made.said[0]
    assert made.said[1] == "some calls could not be recorded: OSError: full"


def test_nothing_to_race_is_no_suite():
    made = captured(Notes({call(device="mps"): Count(1)}, python=True, torch=True), COMMAND)
    assert (made.text, made.cases) == ("", 0)
    assert made.said


def test_on_cuda_the_suite_is_for_cuda(written):
    spec, made = written({call(device="cuda", precision="tf32"): Count(1)})
    assert (spec.device, spec.threads) == ("cuda", None)
    assert spec.cases("cuda")[0].problem.precision == "tf32"
    assert 'torch.set_float32_matmul_precision("high")' in made.text


def test_hostile_names_stay_texts(written):
    name = 'Model."\n[[grid]]\\x1b\x1b[31m\x7f\ud800' + "n" * 500
    spec, made = written({call(layer=name): Count(1)})
    assert tomllib.loads(made.text)
    (use,) = spec.uses("cpu")
    assert use.layer.startswith('Model." [[grid]]')
    assert use.layer.isprintable()


def test_a_longest_length_that_no_name_keeps_is_said(written):
    _, made = written(packed(400, *[20] * 15))
    (said,) = made.said
    assert "packed lengths 20 to 400 are raced as " in said
    assert "the nearest named distribution" in said
    assert f"# {said[:60]}" in made.text
