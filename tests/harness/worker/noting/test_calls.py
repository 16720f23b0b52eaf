"""What is noted of a call, and what is not touched by it."""

import gc
import json
import os
import shutil
import weakref

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import lstm_kernels as lk
from lstm_harness.interop.watched_program import read
from lstm_harness.worker.noting import calls


@pytest.fixture
def noting(tmp_path, monkeypatch):
    """Note the calls of this process; returns what was noted so far."""
    for each in (calls.RNNBase, calls.RNNCellBase):
        monkeypatch.setattr(each, "__call__", each.__call__)  # to be put back
    calls.begin(str(tmp_path))
    return lambda: read(tmp_path)


def only(notes):
    ((call, count),) = notes.counts.items()
    return call, count


def test_a_padded_call(noting):
    rnn = nn.LSTM(3, 5, num_layers=2, bidirectional=True, dropout=0.5, proj_size=2)
    for _ in range(3):
        rnn(torch.zeros(4, 2, 3))
    call, count = only(noting())
    assert (call.layer, call.cell, call.input_size, call.hidden_size) == ("LSTM", "lstm", 3, 5)
    assert (call.num_layers, call.bidirectional, call.bias, call.proj_size) == (2, True, True, 2)
    assert (call.seq_len, call.batch, call.packed, call.dropout) == (4, 2, False, 0.5)
    assert (call.dtype, call.device, call.precision, call.gradients) == (
        *("float32", "cpu", "ieee", True),
    )
    assert (count.calls, count.running) == (3, [])


@pytest.mark.parametrize(
    ("batch_first", "shape", "sizes"),
    [(False, (4, 2, 3), (4, 2)), (True, (4, 2, 3), (2, 4)), (False, (4, 3), (4, 1))],
    ids=["steps first", "batch first", "unbatched"],
)
def test_steps_and_batch_are_where_the_layer_has_them(noting, batch_first, shape, sizes):
    nn.GRU(3, 5, batch_first=batch_first)(input=torch.zeros(shape))
    call, _ = only(noting())
    assert (call.seq_len, call.batch) == sizes


def test_packed_calls_add_up_their_lengths(noting):
    rnn = nn.LSTM(1, 2)
    for lengths in ((4, 2, 1), (4, 4, 1)):
        rnn(pack_sequence([torch.zeros(length, 1) for length in lengths]))
    call, count = only(noting())
    assert (call.seq_len, call.batch, call.packed) == (4, 3, True)
    assert count.running == [6, 4, 3, 3]  # sequences that have a step t


def test_calls_that_differ_are_told_apart(noting):
    rnn = nn.RNN(2, 3, nonlinearity="relu", bias=False)
    x = torch.zeros(2, 1, 2)
    rnn(x)
    with torch.no_grad():
        rnn(x)
    with torch.autocast("cpu"):
        rnn(x)
    told = {(c.gradients, c.dtype, c.autocast): n.calls for c, n in noting().counts.items()}
    assert told == {
        (True, "float32", False): 1,
        (False, "float32", False): 1,
        (True, "bfloat16", True): 1,
    }
    assert {(c.cell, c.bias) for c in noting().counts} == {("rnn_relu", False)}


def test_a_layer_is_named_by_its_place_in_the_model(noting):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList([nn.Linear(2, 2), nn.Sequential(nn.GRU(2, 2))])

        def forward(self, x):
            return self.parts[1](self.parts[0](x))

    Model()(torch.zeros(1, 1, 2))
    assert only(noting())[0].layer == "Model.parts.1.0"


def test_our_own_modules_are_noted_once_a_call(noting):
    lk.LSTM(2, 3, backend="naive")(torch.zeros(2, 1, 2))
    assert only(noting())[1].calls == 1


def test_a_cell_is_counted_apart(noting):
    for _ in range(2):
        nn.LSTMCell(2, 3)(torch.zeros(1, 2))
    assert (noting().cells, noting().counts) == ({"LSTMCell": 2}, {})


def test_what_has_no_numbers_is_no_call(noting):
    nn.LSTM(2, 3, device="meta")(torch.zeros(2, 1, 2, device="meta"))
    torch.fx.symbolic_trace(nn.Sequential(nn.LSTM(2, 3)))
    traced = torch.jit.trace(nn.LSTM(2, 3), torch.zeros(2, 1, 2), check_trace=False)
    traced(torch.zeros(2, 1, 2))
    assert not noting().counts
    assert not noting().troubles


def test_results_random_numbers_and_memory_are_as_without(noting):
    rnn, x = nn.LSTM(2, 3), torch.randn(4, 2, 2)
    before = torch.get_rng_state()
    y, (h, c) = rnn(x)
    wanted = nn.Module.__call__(rnn, x)
    assert torch.equal(torch.get_rng_state(), before)
    assert [torch.equal(a, b) for a, b in zip((y, h, c), (wanted[0], *wanted[1]), strict=True)]
    gone = [weakref.ref(each) for each in (rnn, x, y)]
    del rnn, x, y, h, c, wanted
    gc.collect()
    assert [each() for each in gone] == [None, None, None]


def test_nothing_but_the_call_of_recurrent_modules_is_touched(noting):
    # A global hook would have torch.compile warn and every module take a longer way.
    assert not calls.modules._has_any_global_hook()
    assert "__call__" not in vars(nn.LSTM)
    assert nn.Linear.__call__ is nn.Module.__call__
    assert nn.LSTM.__call__ is nn.GRU.__call__ is not nn.Module.__call__


def test_a_layer_that_raises_raises_the_same_and_is_not_counted(noting):
    with pytest.raises(RuntimeError, match=r"input\.size"):
        nn.LSTM(2, 3)(torch.zeros(2, 1, 5))
    assert not noting().counts


def test_what_cannot_be_noted_is_told_and_changes_nothing(noting, monkeypatch):
    monkeypatch.setattr(calls, "_precision", lambda *_: 1 / 0)
    y, _ = nn.LSTM(2, 3)(torch.zeros(2, 1, 2))
    assert y.shape == (2, 1, 3)
    assert noting().troubles == {"ZeroDivisionError: division by zero": None}


def test_a_program_that_outlives_the_folder_goes_on(noting, tmp_path):
    rnn, x = nn.LSTM(2, 3), torch.zeros(2, 1, 2)
    rnn(x)
    shutil.rmtree(tmp_path)
    assert rnn(torch.zeros(3, 1, 2))[0].shape == (3, 1, 3)
    assert rnn(x)[0].shape == (2, 1, 3)


def test_a_handler_may_call_a_layer_while_a_call_is_noted(tmp_path):
    notes, rnn, x = calls.Notes(str(tmp_path)), nn.LSTM(2, 3), torch.zeros(2, 1, 2)
    y = rnn(x)
    with notes._lock:
        notes.call(rnn, x, y)
    assert only(read(tmp_path))[1].calls == 1


def test_a_forked_process_has_notes_of_its_own(tmp_path):
    notes, rnn = calls.Notes(str(tmp_path)), nn.LSTM(2, 3)
    x = torch.zeros(2, 1, 2)
    y = rnn(x)
    notes.call(rnn, x, y)
    child = os.fork()
    if not child:
        notes.call(rnn, x, y)
        os._exit(0)  # no end in order: what is noted is there all the same
    os.waitpid(child, 0)
    notes.call(rnn, x, y)
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    assert only(read(tmp_path))[1].calls == 3


def test_more_kinds_than_a_file_has_room_for(tmp_path, monkeypatch):
    monkeypatch.setattr(calls, "FILE_NUMBERS", 4)
    notes, rnn = calls.Notes(str(tmp_path)), nn.LSTM(1, 2)
    for T in (1, 2, 3, 9):
        packed = pack_sequence([torch.zeros(T, 1)])
        notes.call(rnn, packed, rnn(packed))
    counts = read(tmp_path).counts
    assert {call.seq_len: count.running for call, count in counts.items()} == {
        T: [1] * T for T in (1, 2, 3, 9)
    }
    assert len(list(tmp_path.glob("*.counts"))) > 1


def test_a_disk_that_was_full_for_a_while_costs_those_calls_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(calls, "FILE_NUMBERS", 4)
    notes, rnn = calls.Notes(str(tmp_path)), nn.LSTM(1, 2)

    def call(T):
        x = pack_sequence([torch.zeros(T, 1)])
        notes.call(rnn, x, rnn(x))

    def full(*_):
        raise OSError("no space left")

    call(1)
    with monkeypatch.context() as patch:
        patch.setattr(calls.os, "posix_fallocate", full)
        with pytest.raises(OSError, match="no space left"):
            call(9)
    call(1)
    call(2)
    told = {call.seq_len: count.calls for call, count in read(tmp_path).counts.items()}
    assert told == {1: 2, 2: 1}


def test_a_line_that_a_kill_tore_costs_itself(tmp_path):
    notes, rnn = calls.Notes(str(tmp_path)), nn.LSTM(1, 2)
    x = torch.zeros(2, 1, 1)
    notes.call(rnn, x, rnn(x))
    (path,) = tmp_path.glob("*.jsonl")
    whole = path.read_text()
    path.write_text(whole + json.dumps({"file": 1})[:-1])
    assert only(read(tmp_path))[1].calls == 1
    assert not read(tmp_path).troubles
