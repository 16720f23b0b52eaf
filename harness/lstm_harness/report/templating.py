"""A template of this package and what it shows, to a page."""

import base64
import hashlib
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup


def fill(template: str, **content: Any) -> Markup:
    """A template's text, every value in it escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lstm_harness.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template(template).render(content)
    # A lone surrogate in a name has no UTF-8.
    return Markup(text.encode("utf-8", "replace").decode())


def static(name: str) -> Markup:
    """A script or style sheet of this package, never of a run."""
    return Markup((files("lstm_harness.report") / "static" / name).read_text("utf-8"))


def policy(script: str = "") -> str:
    """The policy of a page that runs this one script, or none, and asks for nothing outside."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    scripts = f"script-src 'sha256-{digest}'; " if script else ""
    return f"default-src 'none'; {scripts}style-src 'unsafe-inline'; img-src data:"
