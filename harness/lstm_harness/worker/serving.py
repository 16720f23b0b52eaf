"""Requests are answered one after the other; what goes wrong becomes a refusal."""

import sys
from typing import Any

import torch

from lstm_harness.model import wire
from lstm_harness.model.protocol import REQUESTS, Refusal
from lstm_harness.worker.handlers import Worker
from lstm_harness.worker.passes import Malformed
from lstm_kernels.stack import Unsupported

LONGEST_REASON = 500


def refusal(error: BaseException, poisoned: bool) -> Refusal:
    """The reply that says what went wrong: status and one line."""
    text = " ".join(str(error).split())[:LONGEST_REASON]
    named = f"{type(error).__name__}: {text}"
    if isinstance(error, Malformed):
        return Refusal("incorrect", text, poisoned)
    if isinstance(error, Unsupported):
        return Refusal("unsupported", text, poisoned)
    if isinstance(error, wire.BadMessage):
        return Refusal("error", f"the worker got a message that it cannot read: {text}", poisoned)
    return Refusal("out_of_memory" if _is_out_of_memory(error) else "error", named, poisoned)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, RuntimeError) and any(w in str(error).lower() for w in words)


def serve(worker: Worker, replies: Any) -> None:
    """Answer until standard input ends, which it does when the harness is gone."""
    for line in sys.stdin:
        # The reply repeats the nonce of the request, so nobody can prepare one before.
        nonce, _, message = line.partition(" ")
        try:
            reply = worker.answer(wire.decode(message, REQUESTS))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a backend may raise anything; it becomes a record
            worker.give_memory_back()
            reply = refusal(error, worker.is_lost())
        replies.write(f"{nonce} {wire.encode(reply)}")
        replies.flush()
