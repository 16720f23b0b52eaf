"""JSON as the standard has it, and no deeper than anything of ours: what a file or a pipe holds."""

import json
from typing import Any

MOST_DEPTH = 100


class Broken(ValueError):  # noqa: N818 - a finding about a file or a message
    """It is not JSON; the text goes on after a name: `is not JSON: ...`."""


def parsed(content: str | bytes) -> Any:
    """The value that a text holds. Bytes are UTF-8.

    Raises:
        Broken: it holds none, or NaN, or is nested without end.
    """
    try:
        text = content.decode() if isinstance(content, bytes) else content
        value = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise Broken(
            f"is not JSON as we write it: nested deeper than {MOST_DEPTH} levels"
        ) from None
    except ValueError as error:
        raise Broken(f"is not JSON: {error}") from None
    if text.count("[") + text.count("{") > MOST_DEPTH and _depth_exceeds(value):
        raise Broken(f"is not JSON as we write it: nested deeper than {MOST_DEPTH} levels")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number; expected a finite one")


def _depth_exceeds(value: Any) -> bool:
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
    return bool(level)


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
