import json
import math

import pytest

from lstm_harness.report import text

TIMES = "\N{MULTIPLICATION SIGN}"


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (text.significant(0.0), "0"),
        (text.significant(999.6), "1000"),
        (text.significant(0.001234), "0.00123"),
        (text.significant(1.5e9), "1.50e+09"),
        (text.significant(math.nan), "unknown"),
        (text.duration(950), "950 ns"),
        (text.duration(1_234_567), "1.23 ms"),
        (text.large(1_240_000), "1.24 M"),
        (text.large(0.5), "0.500"),
        (text.ratio(1.004), f"1.004{TIMES}"),
        (text.ratio(2.5), f"2.50{TIMES}"),
        (text.count(1, "shape"), "1 shape"),
        (text.count(1200, "shape"), "1,200 shapes"),
        (text.moment("2026-01-01T12:00:30+00:00"), "2026-01-01 12:00 UTC"),
        (text.moment("yesterday"), "yesterday"),
    ],
)
def test_numbers_read_as_people_write_them(made, expected):
    assert made == expected


def test_json_cannot_end_its_script():
    made = text.json_for_script({"<": "</script>&\u2028\u2029\ud800"})
    assert not set(made) & set("<>&\u2028\u2029\ud800")
    assert json.loads(made)["<"].startswith("</script>&\u2028\u2029")


def test_a_label_is_one_short_line_that_turns_nothing_around():
    assert text.shorten("a" * 10_000, 10) == "a" * 9 + "…"
    assert text.shorten("\u202eab\n c") == "ab c"
    assert text.shorten("") == "(no name)"
    assert text.plot_text("<b>&amp;</b>") == "&lt;b&gt;&amp;amp;&lt;/b&gt;"
