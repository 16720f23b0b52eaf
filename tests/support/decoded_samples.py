"""A second reader of the page's samples, in Python, written from the format's description alone."""

import base64
import itertools
import zlib
from collections.abc import Iterator, Mapping
from typing import Any


def decoded(payload: Mapping[str, Any]) -> list[list[dict[str, Any]] | None]:
    """Every row that the payload holds: its blocks, or None where they are left out."""
    rows = []
    for number, chunk in enumerate(payload["chunks"]):
        numbers = _varints(zlib.decompress(base64.b64decode(chunk)))
        held = min(payload["rows_a_chunk"], payload["rows"] - number * payload["rows_a_chunk"])
        rows += [_blocks(numbers) for _ in range(held)]
        assert next(numbers, None) is None
    return rows


def _blocks(numbers: Iterator[int]) -> list[dict[str, Any]] | None:
    count = next(numbers)
    return None if count == 0 else [_block(numbers) for _ in range(count - 1)]


def _block(numbers: Iterator[int]) -> dict[str, Any]:
    block, samples, marked = (next(numbers) for _ in range(3))
    places = itertools.accumulate([next(numbers) for _ in range(marked)])
    steps = [next(numbers) for _ in range(samples)]
    ns = itertools.accumulate(-(s // 2) - 1 if s % 2 else s // 2 for s in steps)
    return {"block": block, "ns": list(ns), "marked": list(places)}


def _varints(content: bytes) -> Iterator[int]:
    value, shift = 0, 0
    for byte in content:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value, shift = 0, 0
