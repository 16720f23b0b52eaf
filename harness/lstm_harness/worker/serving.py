"""Requests are answered one after the other; what goes wrong becomes a refusal."""

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from lstm_harness.model import wire
from lstm_harness.model.protocol import REQUESTS, Refusal, Request
from lstm_harness.worker.handlers import Worker
from lstm_harness.worker.older_kernels import PLUGIN
from lstm_harness.worker.passes import Malformed
from lstm_kernels.stack import Unsupported

LONGEST_REASON = 500
MOST_READ_BYTES = 1 << 20
# How long the next request is awaited without sleep. The one for a backward comes sooner after its
# forward.
AWAKE_NS = 300_000


def refusal(error: BaseException, poisoned: bool) -> Refusal:
    """The reply that says what went wrong: status and one line."""
    text = " ".join(str(error).split())[:LONGEST_REASON]
    named = f"{type(error).__name__}: {text}{_place_in_plugin(error)}"
    if isinstance(error, Malformed):
        return Refusal("incorrect", text, poisoned)
    if isinstance(error, Unsupported):
        return Refusal("unsupported", text, poisoned)
    if isinstance(error, wire.BadMessage):
        return Refusal("error", f"the worker got a message that it cannot read: {text}", poisoned)
    return Refusal("out_of_memory" if _is_out_of_memory(error) else "error", named, poisoned)


def _place_in_plugin(error: BaseException) -> str:
    """The last line of a plugin that an error passed, in brackets; empty where it passed none."""
    places = [
        f" ({Path(frame.f_code.co_filename).name}, line {line})"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__", "")).startswith(PLUGIN)
    ]
    return places[-1] if places else ""


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, RuntimeError) and any(w in str(error).lower() for w in words)


def serve(worker: Worker, replies: Any) -> None:
    """Answer until standard input ends, which it does when the harness is gone.

    Requests that were sent together are all read before the first is answered: an execution after
    reading one is slower, for it finds other things in the caches.
    """
    for lines in _sent_together():
        # The reply repeats the nonce of the request, so nobody can prepare one before.
        for nonce, request in [_read(line) for line in lines]:
            try:
                if isinstance(request, wire.BadMessage):
                    raise request
                reply = worker.answer(request)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a backend may raise anything; it becomes a record
                worker.give_memory_back()
                reply = refusal(error, worker.is_lost())
            replies.write(f"{nonce} {wire.encode(reply)}")
            replies.flush()


def _sent_together() -> Iterator[list[str]]:
    """The lines of standard input, as many at a time as are there."""
    unread = b""
    while chunk := _read_soon(sys.stdin.fileno()):
        *lines, unread = (unread + chunk).split(b"\n")
        yield [line.decode() for line in lines]


def _read_soon(descriptor: int) -> bytes:
    """What comes next. It is awaited without sleep at first: a core that slept is slower."""
    os.set_blocking(descriptor, False)
    until_ns = time.perf_counter_ns() + AWAKE_NS
    while time.perf_counter_ns() < until_ns:
        with suppress(BlockingIOError):
            return os.read(descriptor, MOST_READ_BYTES)
    os.set_blocking(descriptor, True)
    return os.read(descriptor, MOST_READ_BYTES)


def _read(line: str) -> tuple[str, Request[Any] | wire.BadMessage]:
    """A request's nonce, and the request or why it cannot be read."""
    nonce, _, message = line.partition(" ")
    try:
        return nonce, wire.decode(message, REQUESTS)
    except wire.BadMessage as error:
        return nonce, error
