"""What pages share: the style sheets, the scripts and plotly.js.

A page that stands alone has them in it. Pages of a site refer to files, each there once:

    assets/plotly-0123456789abcdef.js     a digest of the content is in the name, so that a page
                                          finds the file that it was made with, or none
"""

import base64
import functools
import hashlib
from dataclasses import dataclass
from importlib.resources import files

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from lstm_harness.report.payload import packed

FOLDER = "assets"
_DIGITS = 16
_FIGURES = ("inflate.js", "plotly.js")
# Files of `static/`, in order: what a script declares at its top, those after it see.
_SCRIPTS = {
    "report": (
        *(*_FIGURES, "dom.js", "view.js", "marks.js", "map.js", "plots.js", "panels.js"),
        *("numbers.js", "samples.js", "inspector.js", "rows.js", "start.js"),
    ),
    "lines": (*_FIGURES, "lines.js"),
    "list": ("index.js",),
}
_STYLES = {"page": ("page.css",), "list": ("page.css", "index.css")}


@dataclass(frozen=True)
class Asset:
    """A file that pages share; `content` is of this package or of plotly, never of a run."""

    name: str
    content: Markup


@dataclass(frozen=True)
class Assets:
    """What a page is dressed in and run by.

    Attributes:
        at: where its files are, as the page refers to them; empty where it has them in it.
        script: None for a page that runs nothing.
        plotly: None for a page without figures.
    """

    at: str
    style: Asset
    script: Asset | None = None
    plotly: Asset | None = None

    @property
    def policy(self) -> str:
        """The policy that lets these scripts run and no other, and fetches nothing from outside.

        Scripts within the page are known by their hashes. Those in files are known by where they
        are: a hash would need the file's origin, and a page that is opened from a disk has none.
        A plot that is downloaded as a picture is a blob first.
        """
        inside = [one.content for one in (self.plotly, self.script) if one]
        known = "'self' file:" if self.at else " ".join(map(_source_hash, inside))
        scripts = f"script-src {known}; " if inside else ""
        styles = "'self' file: 'unsafe-inline'" if self.at else "'unsafe-inline'"
        return f"default-src 'none'; {scripts}style-src {styles}; img-src data: blob:"

    @property
    def packed_plotly(self) -> str:
        """Plotly.js as `static/plotly.js` unpacks it: of version 7.1, which has 4.8 MB, 2.0 MB."""
        return _packed_plotly()


def of_page(script: str = "", style: str = "page", at: str = "") -> Assets:
    """What a page needs, in it or at `at`.

    Args:
        script: a name in `_SCRIPTS`, or empty for a page that runs nothing.
        style: a name in `_STYLES`.
    """
    has_figures = script in _SCRIPTS and _FIGURES[0] in _SCRIPTS[script]
    return Assets(
        at,
        _style(style),
        _script(script) if script else None,
        plotly() if has_figures else None,
    )


def every() -> list[Asset]:
    """All that pages of a site may refer to."""
    return [*map(_style, _STYLES), *map(_script, _SCRIPTS), plotly()]


@functools.cache
def plotly() -> Asset:
    """Plotly.js as its Python package has it."""
    return _named("plotly", "js", get_plotlyjs())


@functools.cache
def _packed_plotly() -> str:
    return packed(get_plotlyjs())


@functools.cache
def _style(name: str) -> Asset:
    return _named(name, "css", _joined(_STYLES[name]))


@functools.cache
def _script(name: str) -> Asset:
    """Scripts as one, in the scope of a function that may wait: the page sees none of its names."""
    lines = ['"use strict";', "(async () => {", _joined(_SCRIPTS[name]), "})();"]
    return _named(name, "js", "\n".join(lines))


def _joined(names: tuple[str, ...]) -> str:
    return "\n".join(
        (files("lstm_harness.report") / "static" / name).read_text("utf-8") for name in names
    )


def _named(stem: str, suffix: str, content: str) -> Asset:
    digest = hashlib.sha256(content.encode()).hexdigest()[:_DIGITS]
    return Asset(f"{stem}-{digest}.{suffix}", Markup(content))


def _source_hash(code: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
