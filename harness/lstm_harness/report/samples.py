r"""Every raw sample of a report, small enough to stand in the page, decoded only when asked for.

`static/samples.js` reads what `encode` makes:

    {"rows": 640, "rows_a_chunk": 64, "chunks": ["eJx...", ...], "left_out": 0}

Row n of the Summary is number n % rows_a_chunk of chunk n // rows_a_chunk. A chunk is base64 of a
zlib stream (`DecompressionStream("deflate")`) of whole numbers, each as a varint: seven bits a
byte, the lowest first, the top bit set where another byte follows. A signed one goes zigzag: 0, -1,
1, -2 as 0, 1, 2, 3. For each row of the chunk:

    blocks + 1      0 where the row's samples are left out, and nothing else follows
    of each block, in the order measured:
        block, samples, marked samples
        the marked samples' places, rising: the first, then each less the one before
        the samples in ns, in the order taken: the first, then each less the one before; zigzag

Left out are the rows from the first on with which the page would hold more than `MOST_SAMPLES`
(there are fewer than `rows` then), and a row with a number that JavaScript cannot hold exactly.
`left_out` counts them all: their samples stand in records.jsonl alone.
"""

import base64
import itertools
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from lstm_harness.analysis.record_columns import values_of
from lstm_harness.analysis.summary import CASE_COLUMNS
from lstm_harness.model.case import Case
from lstm_harness.model.record import Record
from lstm_harness.store.run_folder import Run

MOST_SAMPLES = 1_000_000
ROWS_A_CHUNK = 64
# JavaScript holds whole numbers exactly below 2**53, and zigzag doubles them.
MOST = 2**52


def encode(summary: pd.DataFrame, runs: Sequence[Run], labels: Sequence[str]) -> dict[str, Any]:
    """The samples of every row of a Summary of these runs; `run` tells them apart by label."""
    several = "run" in summary
    by_row: dict[tuple[Any, ...], list[Record]] = {}
    for run, label in zip(runs, labels, strict=True):
        fields: dict[Case, tuple[Any, ...]] = {}
        for record in run.records:
            if record.case not in fields:
                fields[record.case] = values_of(record.case)
            key = (label if several else None, record.backend, *fields[record.case])
            by_row.setdefault(key, []).append(record)
    rows = [by_row.get(key, []) for key in _keys(summary)]
    kept = rows[: _fitting(rows)]
    encoded = [_row(records) for records in kept]
    chunks = [
        _packed(encoded[start : start + ROWS_A_CHUNK])
        for start in range(0, len(encoded), ROWS_A_CHUNK)
    ]
    return {
        "rows": len(kept),
        "rows_a_chunk": ROWS_A_CHUNK,
        "chunks": chunks,
        "left_out": len(rows) - len(kept) + sum(1 for each in encoded if each == _LEFT_OUT),
    }


_LEFT_OUT = b"\0"


def _keys(summary: pd.DataFrame) -> list[tuple[Any, ...]]:
    names = ["backend", *CASE_COLUMNS]
    labels = summary["run"].tolist() if "run" in summary else [None] * len(summary)
    return list(zip(labels, *(summary[name].tolist() for name in names), strict=True))


def _fitting(rows: Sequence[Sequence[Record]]) -> int:
    """How many of the first rows hold no more than `MOST_SAMPLES` together."""
    total = 0
    for number, records in enumerate(rows):
        total += sum(len(record.samples_ns) for record in records)
        if total > MOST_SAMPLES:
            return number
    return len(rows)


def _packed(rows: Iterable[bytes]) -> str:
    return base64.b64encode(zlib.compress(b"".join(rows), 9)).decode()


def _row(records: Sequence[Record]) -> bytes:
    taken = [record for record in records if record.samples_ns]
    if not all(_exact(record) for record in taken):
        return _LEFT_OUT
    numbers = [len(taken) + 1]
    for record in taken:
        samples, marked = record.samples_ns, _marked(record)
        numbers += [record.block, len(samples), len(marked)]
        numbers += _steps(marked)
        numbers += [2 * step if step >= 0 else -2 * step - 1 for step in _steps(samples)]
    return _varints(numbers)


def _exact(record: Record) -> bool:
    samples = record.samples_ns
    return 0 <= record.block < MOST and min(samples) >= 0 and max(samples) < MOST


def _marked(record: Record) -> list[int]:
    """The places of marked samples, ascending; invalid places are skipped."""
    places = range(len(record.samples_ns))
    return sorted({each for each in record.marked if type(each) is int and each in places})


def _steps(values: Sequence[int]) -> list[int]:
    """The first value, then each less the one before."""
    return [*values[:1], *(b - a for a, b in itertools.pairwise(values))]


def _varints(numbers: Iterable[int]) -> bytes:
    made = bytearray()
    for number in numbers:
        while number > 0x7F:
            made.append(number & 0x7F | 0x80)
            number >>= 7
        made.append(number)
    return bytes(made)
