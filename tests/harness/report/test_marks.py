import pytest

from lstm_harness.report import marks


def test_a_backend_keeps_its_mark_whoever_else_runs():
    assert marks.mark("aten") == marks.FIXED["aten"]
    assert marks.mark("someone's own") == marks.mark("someone's own")


def test_no_two_backends_share_colour_or_symbol():
    for shade in ("light", "dark", "symbol", "glyph"):
        assert len({getattr(one, shade) for one in marks.FIXED.values()}) == len(marks.FIXED)


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("name", [*marks.FIXED, "a plugin", "another", "third", "x", "y"])
def test_marks_stand_out_from_both_papers(name):
    one = marks.mark(name)
    assert (luminance("#fdfdfb") + 0.05) / (luminance(one.light) + 0.05) >= 3
    assert (luminance(one.dark) + 0.05) / (luminance("#15171a") + 0.05) >= 3
