"""The colour and symbol of each backend: the same on every page, with any other backends.

Colours are picked from sets made for colour-blind eyes (Okabe and Ito 2008; Tol 2021), one shade
for a light page and one for a dark. More backends than such sets have colours: the symbol tells
apart what the colour does not.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """`light` and `dark` are colours, `symbol` is plotly's name of the shape `glyph` shows."""

    light: str
    dark: str
    symbol: str
    glyph: str


FIXED = {
    "reference": Mark("#444444", "#d0d0d0", "x-thin", "✕"),
    "per_gate": Mark("#8a8a8a", "#9a9a9a", "circle-open", "○"),
    "naive": Mark("#b07d00", "#e6b422", "square", "■"),
    "hoisted": Mark("#3a9bd9", "#7cc4f0", "diamond", "◆"),
    "compiled": Mark("#aa4499", "#d58ac9", "triangle-up", "▲"),
    "graphed": Mark("#2f9c8f", "#5cc9bb", "triangle-down", "▼"),
    "pointwise": Mark("#7d7d1e", "#bdbd55", "square-open", "□"),
    "aten": Mark("#3b2f91", "#9a8ff0", "circle", "●"),
    "cudnn": Mark("#117733", "#4fb972", "diamond-open", "◇"),
    "triton": Mark("#d55e00", "#f58a3c", "star", "★"),
    "numba_cuda": Mark("#cc6699", "#f0a3c4", "triangle-up-open", "△"),
    "numba_cpu": Mark("#882255", "#c9669a", "triangle-down-open", "▽"),
}

# A plugin takes one of these by the hash of its name, a line of a figure by its place in it.
_FURTHER_COLOURS = (
    ("#0072b2", "#4da3d8"),
    ("#994455", "#e08a96"),
    ("#009e73", "#35c99c"),
    ("#997700", "#d4b23a"),
    ("#5f5f9e", "#a5a5dc"),
)
_FURTHER_SYMBOLS = (("star-open", "☆"), ("hexagram", "✶"), ("cross", "✚"), ("x", "✖"))


def mark(backend: str) -> Mark:
    """The mark of a backend, known or not."""
    if backend in FIXED:
        return FIXED[backend]
    digest = zlib.crc32(backend.encode("utf-8", "surrogatepass"))
    return _further(digest % len(_FURTHER_COLOURS), digest // 8)


def mark_at(place: int) -> Mark:
    """The mark of a figure's line that is not a backend: each of the first 20 has its own."""
    return _further(place % len(_FURTHER_COLOURS), place)


def _further(colour: int, symbol: int) -> Mark:
    light, dark = _FURTHER_COLOURS[colour]
    return Mark(light, dark, *_FURTHER_SYMBOLS[symbol % len(_FURTHER_SYMBOLS)])


def ordered(backends: Iterable[str]) -> list[str]:
    """Backends in the order every list shows them: the ladder first, strangers by name."""
    ladder = list(FIXED)
    known = {backend: (0, ladder.index(backend)) for backend in FIXED}
    return sorted(set(backends), key=lambda name: (*known.get(name, (1, 0)), name))
