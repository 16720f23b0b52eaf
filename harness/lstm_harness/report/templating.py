"""A template of this package and what it shows, to a page."""

import base64
import functools
import hashlib
import re
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from lstm_harness.report.payload import packed


def fill(template: str, **content: Any) -> Markup:
    """A template's text, every value in it escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lstm_harness.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["with_code"] = with_code
    text = environment.get_template(template).render(content)
    # A lone surrogate in a name has no UTF-8.
    return Markup(text.encode("utf-8", "replace").decode())


def with_code(sentence: str) -> Markup:
    """A sentence, escaped, in which what stands in backticks is code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(sentence))))


def static(name: str) -> Markup:
    """A script or style sheet of this package, never of a run."""
    return Markup((files("lstm_harness.report") / "static" / name).read_text("utf-8"))


def style() -> Markup:
    """The style sheet of every page."""
    return static("page.css")


def assets(*names: str) -> dict[str, Markup | str]:
    """The scripts of a page of figures, its style, and the policy that lets these alone run.

    The scripts named are one, `script`. They share the scope of a function that may wait: what one
    declares at its top the others see, and the page does not. `plotly` is plotly.js as
    `static/plotly.js` unpacks it.
    """
    shared = map(static, ("inflate.js", "plotly.js", *names))
    script = Markup("\n".join(['"use strict";', "(async () => {", *shared, "})();"]))
    return {
        "plotly": _packed_plotly(),
        "script": script,
        "style": style(),
        "policy": policy(get_plotlyjs(), script),
    }


@functools.cache
def _packed_plotly() -> str:
    """Plotly.js: of version 7.1, which has 4.8 MB, 2.0 MB."""
    return packed(get_plotlyjs())


def policy(*scripts: str) -> str:
    """The policy of a page that runs these scripts or none, and fetches nothing from outside.

    A plot that is downloaded as a picture is a blob first.
    """
    allowed = f"script-src {' '.join(map(_source_hash, scripts))}; " if scripts else ""
    return f"default-src 'none'; {allowed}style-src 'unsafe-inline'; img-src data: blob:"


def _source_hash(code: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
