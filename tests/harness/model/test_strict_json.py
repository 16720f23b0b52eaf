"""JSON of ours: what the standard allows, and no deeper than anything that we write."""

import pytest

from lstm_harness.model.strict_json import MOST_DEPTH, Broken, parsed


def nested(depth):
    return "[" * depth + "]" * depth


def test_what_is_json_is_read():
    assert parsed(b'{"a": [1, 2.5, "\xc2\xb5", null, true]}') == {"a": [1, 2.5, "µ", None, True]}
    wide = "[" + ", ".join(["[]"] * 1000) + "]"
    assert len(parsed(wide)) == 1000
    assert parsed(nested(MOST_DEPTH))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"\xff\xfe", "can't decode"),
        ("NaN", "NaN is not a number"),
        ("[-Infinity]", "-Infinity is not a number"),
        ("9" * 5000, "4300 digits"),
        (nested(MOST_DEPTH + 1), "nested deeper than 100"),
        (nested(100_000), "nested deeper than 100"),
        ('{"a":' * 100_000, "nested deeper than 100"),
    ],
    ids=range(9),
)
def test_what_is_not_is_told(content, says):
    with pytest.raises(Broken, match=says) as broken:
        parsed(content)
    assert str(broken.value).startswith("is not JSON")
