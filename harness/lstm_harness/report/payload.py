"""Values as the page's script and plotly read them, and as no parser can mistake them."""

import base64
import json
import math
import zlib
from typing import Any

from markupsafe import Markup

from lstm_harness.model.text import shorten


def number(value: Any) -> Any:
    """A value as JSON holds it: six digits of a float, None for what is not finite."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else float(f"{value:.6g}")


def plot_text(text: str, limit: int = 28) -> str:
    """A label that plotly shows as it is, where it would read tags and entities."""
    short = shorten(text, limit)
    return short.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def packed(content: str) -> str:
    """A text as a zlib stream in base64, which `static/inflate.js` unpacks."""
    return base64.b64encode(zlib.compress(content.encode(), 9)).decode()


def json_for_script(value: Any) -> Markup:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    # A lone surrogate is legal in JSON and not in UTF-8.
    return Markup(text.encode("utf-8", "replace").decode())
