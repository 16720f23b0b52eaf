"""The page's reader of samples, in a real browser: what Python wrote, exactly."""

import random
from pathlib import Path

import pytest
from synthetic_runs import case, record, run

import lstm_harness.report
from lstm_harness.analysis.summary import summarise
from lstm_harness.report import samples

pytestmark = pytest.mark.browser

STATIC = Path(lstm_harness.report.__file__).with_name("static")
TIMES = (1, 127, 128, 2**32 - 1, 2**32 + 1, 5, 2**51 + 1, samples.MOST - 1, 1)


@pytest.fixture(scope="module")
def decode(chromium):
    """Decode one row of a payload as the page does."""
    page = chromium.new_page()
    for script in ("inflate.js", "samples.js"):
        page.add_script_tag(path=STATIC / script)
    yield lambda payload, row: page.evaluate(
        "([payload, row]) => decodeSamples(payload, row)", [payload, row]
    )
    page.close()


def encoded(records):
    return samples.encode(summarise(records), [run(records)], ["run"])


def test_every_row_comes_back_exact(decode):
    rng = random.Random(0)
    records = [
        record("aten", (rng.randint(1, 2 ** rng.randint(1, 52) - 1) for _ in range(20)), of=one)
        for one in (case(seq_len=size) for size in range(1, 3 * samples.ROWS_A_CHUNK))
    ]
    payload = encoded(records)
    assert len(payload["chunks"]) == 3
    for row in (0, 1, 63, 64, 100, 190):
        expected = [{"block": 0, "ns": list(records[row].samples_ns), "marked": []}]
        assert decode(payload, row) == expected


def test_blocks_marks_and_large_numbers(decode):
    records = [
        record("aten", TIMES, block=0, marked=(0, 3, 8)),
        record("aten", (3,), block=300),
        record("naive", status="crashed"),
        record("hoisted", (samples.MOST,)),
    ]
    payload = encoded(records)
    assert decode(payload, 0) == [
        {"block": 0, "ns": list(TIMES), "marked": [0, 3, 8]},
        {"block": 300, "ns": [3], "marked": []},
    ]
    assert decode(payload, 1) == []
    assert decode(payload, 2) is None
    assert decode(payload, 3) is None


def test_a_torn_chunk_is_refused(decode):
    payload = encoded([record("aten", TIMES)])
    torn = payload | {"chunks": [payload["chunks"][0][:8]]}
    with pytest.raises(Exception, match=r"Error"):
        decode(torn, 0)
