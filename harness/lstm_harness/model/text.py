"""Numbers, times and names as a reader sees them, on a terminal and on a page."""

import math
import re
import unicodedata
from datetime import datetime

_TIMES = {"s": 1e9, "ms": 1e6, "µs": 1e3, "ns": 1.0}
_LARGE = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
# A password may hold what should have been escaped in it, such as the slashes of an AWS key.
_USER = r"[^/\s:]*:(?!\d+/)\S*@|[^/\s]*@"
_URL = re.compile(rf"([A-Za-z][A-Za-z0-9+.-]*://)({_USER})?([^\s?#]*)\S*")
# In Azure's URLs the container is where others have a user: abfs://container@account.example/run.
_AZURE = ("abfs://", "abfss://")
_TURNS_TEXT = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def significant(value: float, digits: int = 3) -> str:
    """A number with this many significant digits, and an exponent only if it needs one."""
    if not math.isfinite(value):
        return "not finite" if math.isinf(value) else "unknown"
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        rounded = float(f"{value:.{digits - 1}e}")
        decimals = digits - 1 - math.floor(math.log10(abs(rounded))) if value else 0
        return f"{rounded:.{max(0, decimals)}f}"
    return f"{value:.{digits - 1}e}"


def duration(time_ns: float, digits: int = 3, *, zeros: bool = True, least: str = "ns") -> str:
    """A time in the largest unit in which it is at least 1 after rounding.

    Args:
        zeros: whether trailing zeros are shown: `1.50 ms`.
        least: the smallest unit.
    """
    rounded_up = 1 - 0.5 * 10**-digits
    units = list(_TIMES)[: list(_TIMES).index(least) + 1]
    large = (unit for unit in units if abs(time_ns) >= rounded_up * _TIMES[unit])
    unit = next(large, least)
    number = significant(time_ns / _TIMES[unit], digits)
    if not zeros and "." in number and "e" not in number:
        number = number.rstrip("0").rstrip(".")
    return f"{number} {unit}"


def large(value: float) -> str:
    """A count with its prefix: 1.24 M."""
    scale, prefix = next((s for s in _LARGE if value >= s[0]), _LARGE[-1])
    return f"{significant(value / scale)} {prefix}".rstrip()


def ratio(value: float) -> str:
    """A ratio, with enough digits to distinguish it from 1."""
    return f"{significant(value, 4 if 1 <= value < 1.01 else 3)}\N{MULTIPLICATION SIGN}"


def error(value: float) -> str:
    """A relative error, or that it is not finite."""
    return f"{value:.1e}" if math.isfinite(value) else "not finite"


def moment(iso: str) -> str:
    """A stored time to the minute; a text that is not a time is returned unchanged."""
    try:
        then = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return then.strftime("%Y-%m-%d %H:%M ") + (then.tzname() or "")


def count(number: int, noun: str) -> str:
    """A number and its noun: 1 shape, 2 shapes."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def printable(text: str) -> str:
    """The text without the control characters that a terminal obeys; line ends and tabs stay."""
    if text.isprintable():
        return text
    return "".join(_shown(char) for char in text)


def without_secrets(text: str) -> str:
    """A text in which no URL has a user, a password, a query or a fragment."""
    return _URL.sub(_bare, text)


def _bare(url: re.Match[str]) -> str:
    scheme, user, rest = url.groups(default="")
    kept = user if scheme.lower() in _AZURE and ":" not in user else ""
    return f"{scheme}{kept}{rest}"


def _shown(char: str) -> str:
    kept = char in "\n\t" or unicodedata.category(char) != "Cc"
    return char if kept else "\N{REPLACEMENT CHARACTER}"


def shorten(text: str, limit: int = 40) -> str:
    """A name or reason on one short line, without characters that change the direction of text."""
    clean = "".join(
        " " if unicodedata.category(char).startswith("C") else char
        for char in text[: 4 * limit]
        if char not in _TURNS_TEXT
    )
    clean = " ".join(clean.split()) or "(no name)"
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
