"""A template of this package and what it shows, to a page."""

import re
from typing import Any

import jinja2
from markupsafe import Markup, escape


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
