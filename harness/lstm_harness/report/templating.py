"""A template of this package and what it shows, to a page."""

import base64
import hashlib
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs


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


def style() -> Markup:
    """The style sheet of every page."""
    return static("page.css")


def assets(*names: str) -> dict[str, Markup | str]:
    """A page's scripts, as one, its style, and the policy that lets these scripts alone run.

    The scripts share one scope: what one declares at its top the others see, and the page does not.
    """
    script = Markup("\n".join(['"use strict";', "{", *map(static, names), "}"]))
    # A file of plotly's, never of a run.
    plotly = Markup(get_plotlyjs())
    return {
        "plotly": plotly,
        "script": script,
        "style": style(),
        "policy": policy(plotly, script),
    }


def policy(*scripts: str) -> str:
    """The policy of a page that runs these scripts, or none, and asks for nothing outside.

    A plot that is downloaded as a picture is a blob first.
    """
    allowed = f"script-src {' '.join(map(_source_hash, scripts))}; " if scripts else ""
    return f"default-src 'none'; {allowed}style-src 'unsafe-inline'; img-src data: blob:"


def _source_hash(code: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
