import io
import json
import os
import threading

import pytest

from lstm_harness.model import wire
from lstm_harness.model.protocol import Done, Execute, PrepareSample
from lstm_harness.worker import serving


class _Worker:
    """Notes what it is asked, and how much of standard input was read by then."""

    def __init__(self):
        self.asked = []

    def answer(self, request):
        self.asked.append(request)
        if isinstance(request, Execute):
            raise RuntimeError("nothing is prepared")
        return Done()

    def give_memory_back(self):
        pass

    def is_lost(self):
        return False


def _served(pieces, monkeypatch):
    """What a worker answers to bytes that arrive in these pieces: nonce and message of each."""
    reading, writing = os.pipe()
    replies, worker = io.StringIO(), _Worker()

    def send():
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            for piece in pieces:
                pipe.write(piece)

    with os.fdopen(reading) as standard_input:
        monkeypatch.setattr("sys.stdin", standard_input)
        sender = threading.Thread(target=send)
        sender.start()
        serving.serve(worker, replies)
        sender.join()
    lines = [line.split(" ", 1) for line in replies.getvalue().splitlines()]
    return [(nonce, json.loads(text)) for nonce, text in lines], worker.asked


PREPARE = PrepareSample("07", 3)
TOGETHER = f"a1 {wire.encode(PREPARE)}b2 {wire.encode(Execute())}c3 {wire.encode(PREPARE)}".encode()


@pytest.mark.parametrize("at", [0, 1, 40, len(TOGETHER) - 1])
def test_requests_are_answered_in_order_in_whatever_pieces_they_arrive(monkeypatch, at):
    answered, asked = _served([TOGETHER[:at] or b"", TOGETHER[at:]], monkeypatch)
    assert asked == [PREPARE, Execute(), PREPARE]
    assert [nonce for nonce, _ in answered] == ["a1", "b2", "c3"]
    assert [reply["message"] for _, reply in answered] == ["Done", "Refusal", "Done"]


def test_a_line_that_is_no_request_costs_itself_alone(monkeypatch):
    answered, asked = _served([b"a1 nonsense\n" + TOGETHER], monkeypatch)
    assert "cannot read" in answered[0][1]["fields"]["reason"]
    assert answered[0][0] == "a1"
    assert len(asked) == 3


def test_all_that_was_sent_together_is_read_before_the_first_is_answered(monkeypatch):
    read_before = []
    monkeypatch.setattr(serving, "_read", lambda line: read_before.append(line) or ("n", PREPARE))
    monkeypatch.setattr(
        _Worker, "answer", lambda self, request: self.asked.append(len(read_before)) or Done()
    )
    _, seen = _served([TOGETHER], monkeypatch)
    assert seen == [3, 3, 3]


def test_a_request_that_comes_late_is_answered_too(monkeypatch):
    monkeypatch.setattr(serving, "AWAKE_NS", 0)
    answered, asked = _served([TOGETHER], monkeypatch)
    assert len(answered) == len(asked) == 3
