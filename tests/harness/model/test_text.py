import math

import pytest

from lstm_harness.model import text

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
        (text.duration(999_600), "1.00 ms"),
        (text.duration(999_400), "999 µs"),
        (text.duration(0), "0 ns"),
        (text.duration(1_500_000, zeros=False), "1.5 ms"),
        (text.duration(2e9, zeros=False), "2 s"),
        (text.duration(100_000, zeros=False), "100 µs"),
        (text.duration(12, zeros=False, least="µs"), "0.012 µs"),
        (text.duration(999_960, 4, zeros=False), "1 ms"),
        (text.duration(999_940, 4, zeros=False), "999.9 µs"),
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


def test_a_label_is_one_short_line_that_turns_nothing_around():
    assert text.shorten("a" * 10_000, 10) == "a" * 9 + "…"
    assert text.shorten("\u202eab\n c") == "ab c"
    assert text.shorten("") == "(no name)"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("s3://lab/store/run", "s3://lab/store/run"),
        ("--out=s3://me:pass@lab/store", "--out=s3://lab/store"),
        ("https://token@example.org:8080/a/b", "https://example.org:8080/a/b"),
        ("https://example.org/a?sig=abc&se=1#part", "https://example.org/a"),
        ("https://example.org?sig=a@b", "https://b"),
        ("s3://KEY:se/cr+et@lab/store", "s3://lab/store"),
        ("https://example.org:8080/who@where", "https://example.org:8080/who@where"),
        ("s3://lab/who@where", "s3://lab/who@where"),
        ("abfs://box@account.example.org/run", "abfs://box@account.example.org/run"),
        ("abfs://box:pass@account.example.org/run", "abfs://account.example.org/run"),
        ("see http://a:b@c/d and ftp://e:f@g/h, please", "see http://c/d and ftp://g/h, please"),
        ("results/runs/a@b", "results/runs/a@b"),
    ],
)
def test_no_credential_of_a_url_is_left(given, shown):
    assert text.without_secrets(given) == shown
