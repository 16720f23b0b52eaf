"""Numbers and names as a reader sees them, and as no parser can mistake them."""

import json
import math
import unicodedata
from datetime import datetime
from typing import Any

from markupsafe import Markup

_TIMES = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns"))
_LARGE = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def significant(value: float, digits: int = 3) -> str:
    """A number with so many significant digits and no exponent where none is needed."""
    if not math.isfinite(value):
        return "not finite" if math.isinf(value) else "unknown"
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        decimals = digits - 1 - math.floor(math.log10(abs(value))) if value else 0
        return f"{round(value, decimals):.{max(0, decimals)}f}"
    return f"{value:.{digits - 1}e}"


def duration(ns: float) -> str:
    """A time with its unit."""
    scale, unit = next((s for s in _TIMES if ns >= s[0]), _TIMES[-1])
    return f"{significant(ns / scale)} {unit}"


def large(value: float) -> str:
    """A count with its prefix: 1.24 M."""
    scale, prefix = next((s for s in _LARGE if value >= s[0]), _LARGE[-1])
    return f"{significant(value / scale)} {prefix}".rstrip()


def ratio(value: float) -> str:
    """A ratio, with digits enough to tell it from 1."""
    return f"{significant(value, 4 if 1 <= value < 1.01 else 3)}\N{MULTIPLICATION SIGN}"


def error(value: float) -> str:
    """A relative error, or that it is not finite."""
    return f"{value:.1e}" if math.isfinite(value) else "not finite"


def moment(iso: str) -> str:
    """A stored time to the minute; one that is none, as it stands."""
    try:
        then = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return then.strftime("%Y-%m-%d %H:%M ") + (then.tzname() or "")


def count(number: int, noun: str) -> str:
    """A number and its noun: 1 shape, 2 shapes."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def shorten(text: str, limit: int = 40) -> str:
    """A text short enough for a label, on one line, unable to turn the text around it."""
    clean = "".join(
        " " if unicodedata.category(char).startswith("C") else char
        for char in text[: 4 * limit]
        if char not in _BIDI
    )
    clean = " ".join(clean.split()) or "(no name)"
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def plot_text(text: str, limit: int = 28) -> str:
    """A label that plotly shows as it is, where it would read tags and entities."""
    short = shorten(text, limit)
    return short.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def number(value: Any) -> Any:
    """A value as JSON holds it: six digits of a float, None for what is not finite."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else float(f"{value:.6g}")


def json_for_script(value: Any) -> Markup:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    # A lone surrogate is legal in JSON and not in UTF-8.
    return Markup(text.encode("utf-8", "replace").decode())
