"""Messages on the pipe: what goes in comes out, and what is none is an error that names it."""

import json
from dataclasses import asdict, is_dataclass

import pytest

from lstm_harness.model import protocol, typed, wire
from lstm_harness.model.case import Call, Case
from lstm_harness.worker.handlers import _HANDLERS
from lstm_kernels import CELLS, Problem
from lstm_kernels.cells import to_data

CASE = Case(Problem("lstm", 3, 2, 4, 5, lengths="uniform:1:3"), "train", device="cuda")
CALLED = Case(Problem("lstm", 3, 2, 4, 5, num_layers=2), "train", call=Call(True, "bfloat16", 0.25))
HANDED = protocol.Handed(7, ({"y": 1, "h_n": 1}, {"y": 1, "d_w_ih": 2, "d_x": 0}))
DRAW = protocol.Draw("weights", "inputs", "gradients")

EXAMPLES = [
    protocol.ReadState(),
    protocol.LearnCells((to_data(CELLS["slstm"]), to_data(CELLS["lstm_batchnorm"]))),
    protocol.FindUnsupported("naive", (CASE.problem, CASE.problem)),
    protocol.OpenCell("naive", CASE, 7, "weights", with_gradients=True),
    protocol.OpenCell(
        "naive", CASE, 7, "weights", False, protocol.Trial("key", {"warps": 4, "name": "wide"})
    ),
    protocol.PrepareSample("inputs", 250),
    protocol.Execute(),
    protocol.JudgeProof(CASE.problem, 7, "/proc/1/fd/7", HANDED),
    protocol.JudgeSample(CASE.problem, 7, DRAW, 1, "/proc/1/fd/7", HANDED),
    protocol.OpenCell("naive", CALLED, 7, "weights", with_gradients=True),
    protocol.MakeAnswer(CALLED.problem, 7, CALLED.call),
    protocol.JudgeProof(CALLED.problem, 7, "/proc/1/fd/7", HANDED, CALLED.call),
    protocol.JudgeSample(CALLED.problem, 7, DRAW, 1, "/proc/1/fd/7", HANDED, CALLED.call),
    protocol.CloseCell(True, False, (1, 2)),
    protocol.FollowGradient("naive", CASE.problem, 7),
    protocol.TimePhases("naive", CASE, 7, 0.5),
    protocol.CompileKernels("x", None, "sm_90", (protocol.CompileJob("k", CASE.problem, {}),)),
]
REPLIES = [
    protocol.Refusal("out_of_memory", "no room", False),
    protocol.CellOpened(HANDED, 0.5, 12.0),
    protocol.Judged({"y": 0.5, "h_n": None}, "h_n is not finite"),
    protocol.Reading(5),
    protocol.Reading(5, 4, 10.0, 1, 1410.0, True, ("power cap",)),
    protocol.CellClosed(("kernel",), (), (5, 6), 7, None, 0.5),
    protocol.GradientFollowed((1.0, 1e-300, 0.0, None)),
    protocol.PhasesTimed({"x W_ih^T": 12.5, "steps": 1e6}, 1.1e6, 1e6, 8),
    protocol.Reasons((None, "too large")),
    protocol.RoundTaken(({"samples": (1.0, 2.0), "cpu_shares": ()}, "no compiler")),
    protocol.Registered(({"name": "x"},), {}, (to_data(CELLS["gru"]),), ("gru",)),
    protocol.CandidatesListed((protocol.Candidates("k", ({"warps": 4},)),)),
]


@pytest.mark.parametrize("message", [*EXAMPLES, *REPLIES], ids=lambda m: type(m).__name__)
def test_a_message_comes_out_as_it_went_in(message):
    known = {type(message).__name__: type(message)}
    line = wire.encode(message)
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert wire.decode(line, known) == message
    assert wire.decode(line.encode(), known) == message


def test_every_request_has_a_handler_and_a_reply_that_the_wire_can_carry():
    assert set(_HANDLERS) == set(protocol.REQUESTS.values())
    for request in protocol.REQUESTS.values():
        reply = protocol.reply_of(request)
        assert is_dataclass(request)
        assert is_dataclass(reply)
        typed.fields_of(request)
        typed.fields_of(reply)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "not a message: ''"),
        ("hello", "not a message: 'hello'"),
        ("[1, 2]", "not a message"),
        ('{"message": "Fly", "fields": {}}', "unknown message 'Fly'; known: AddPlugin, CloseCell"),
        ('{"message": "AddPlugin", "fields": {}}', "AddPlugin has no field 'path'"),
        ('{"message": "AddPlugin", "fields": {"path": 3}}', "AddPlugin.path is 3; expected str"),
        (
            '{"message": "AddPlugin", "fields": {"path": "a", "b": 1}}',
            "AddPlugin has unknown field 'b'",
        ),
        (
            '{"message": "PrepareSample", "fields": {"inputs": "a", "repeats": 1.5}}',
            "PrepareSample.repeats is 1.5; expected int",
        ),
        (
            '{"message": "PrepareSample", "fields": {"inputs": "a", "repeats": true}}',
            "PrepareSample.repeats is True; expected int",
        ),
        (
            '{"message": "LoadBackend", "fields": {"backend": "a", "plugin": 3}}',
            "LoadBackend.plugin is 3; expected str or NoneType",
        ),
        (
            '{"message": "FindUnsupported", "fields": {"backend": "a", "problems": [{}]}}',
            r"FindUnsupported.problems\[0\] is not a Problem",
        ),
        ('{"message": "ReadState", "fields": 3}', "ReadState is 3; expected an object"),
    ],
)
def test_what_is_no_request_is_an_error_that_names_it(line, says):
    with pytest.raises(wire.BadMessage, match=says):
        wire.decode(line, protocol.REQUESTS)


def test_a_field_with_a_default_may_be_missing():
    fields = asdict(protocol.FindMissing("naive"))
    del fields["checking"]
    line = json.dumps({"message": "FindMissing", "fields": fields})
    assert wire.decode(line, protocol.REQUESTS) == protocol.FindMissing("naive", False)
