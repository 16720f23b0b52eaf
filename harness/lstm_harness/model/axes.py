"""The axes of a grid, and how their values are written: lists, and inclusive ranges.

`16,32`, `32:1024:x2` (doubling) and `8:64:+8` (adding) on the command line; the same strings, or
TOML lists, in a suite.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lstm_harness.model.case import AUTOCASTS, CACHES, LAUNCHES
from lstm_harness.model.errors import UserError
from lstm_harness.model.text import printable
from lstm_kernels import CELLS, DTYPE_BYTES, PASSES, PRECISIONS
from lstm_kernels.names import check_name

MOST_VALUES = 10_000
# More than any machine can hold; the limit keeps arithmetic on sizes fast and within a float.
MOST = 10**9
MOST_LAYERS = 1000
MOST_CALLS = 10**15


@dataclass(frozen=True)
class Axis:
    """One axis: its name (its key in a suite), how one value is read, and its default.

    `flag` is the option of the command line without its dashes, where it is not the name.
    """

    name: str
    read: Callable[[str, Any], Any]
    default: tuple[Any, ...]
    ranges: bool = False
    flag: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "flag", self.flag or self.name)

    def values(self, given: Any) -> tuple[Any, ...]:
        """The values of a comma list, a TOML scalar or a TOML list, in order, without duplicates.

        Raises:
            UserError: a value that the axis does not have, or no value at all.
        """
        items = given if isinstance(given, list) else [given]
        texts = [text for item in items for text in self._split(item)]
        values = [value for text in texts for value in self._expand(text)]
        if not values:
            raise UserError(f"--{self.flag} is empty; expected {self.expected}")
        return tuple(dict.fromkeys(values))

    @property
    def expected(self) -> str:
        """What a value looks like, for an error message."""
        return EXPECTED_SIZE if self.ranges else "a name, or several with commas between"

    def _split(self, item: Any) -> list[Any]:
        return [part.strip() for part in item.split(",")] if isinstance(item, str) else [item]

    def _expand(self, item: Any) -> tuple[Any, ...]:
        if self.ranges and isinstance(item, str) and ":" in item:
            return _range(self.flag, item)
        return (self.read(self.flag, item),)


EXPECTED_SIZE = "whole numbers from 1 on, like 64 or 16,32 or 16:64:x2 or 8:64:+8"


def read_size(name: str, value: Any) -> int:
    """A whole number from 1 on, from a text or a TOML integer."""
    text = str(value)
    if isinstance(value, bool) or not _is_whole(text) or int(text) < 1:
        raise UserError(f"--{name} {_shown(text)}: expected {EXPECTED_SIZE}")
    most = MOST_LAYERS if name == "layers" else MOST
    if int(text) > most:
        raise UserError(f"--{name} {_shown(text)}: expected at most {most}")
    return int(text)


def _is_whole(text: str) -> bool:
    return text.isdecimal() and len(text) < 1000


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")


def _read_calls(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_CALLS:
        return value
    raise UserError(f"calls = {_shown(str(value))}: expected a whole number, 1 to {MOST_CALLS}")


def _read_layer(value: Any) -> str:
    if isinstance(value, str) and value.strip():
        return printable(value)
    raise UserError(f"layer = {_shown(str(value))}: expected a layer's name, like 'encoder.rnn'")


def _read_input(name: str, value: Any) -> int | None:
    return None if value == "hidden" else read_size(name, value)


def _read_projection(name: str, value: Any) -> int:
    return 0 if str(value) == "0" else read_size(name, value)


def _read_probability(name: str, value: Any) -> float:
    try:
        read = float(value) if isinstance(value, str | int | float) else math.nan
    except (OverflowError, ValueError):
        read = math.nan
    if isinstance(value, bool) or not 0.0 <= read < 1.0:
        raise UserError(
            f"--{name} {_shown(str(value))}: expected a number from 0 to below 1, like 0.3"
        )
    return read


# How the values of an axis that is on or off are written.
SWITCH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _read_bool(name: str, value: Any) -> bool:
    text = str(value).lower()
    if text not in SWITCH:
        raise UserError(f"--{name} {value!r}: expected true, false or true,false")
    return SWITCH[text]


def _one_of(known: Any) -> Callable[[str, Any], str]:
    def read(name: str, value: Any) -> str:
        try:
            return check_name(name, value, known)
        except ValueError as error:
            raise UserError(str(error)) from None

    return read


def _read_cell(name: str, value: Any) -> str:
    """A name; `model.spec` checks that a cell has it, once plugins are loaded."""
    if isinstance(value, str) and value.isidentifier():
        return value
    return _one_of(CELLS)(name, value)


def _read_text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise UserError(f"--{name} {value!r}: expected a name")
    return value


def _range(name: str, text: str) -> tuple[int, ...]:
    shown, parts = _shown(text), text.split(":")
    step = parts[2] if len(parts) == 3 else ""
    if step[:1] not in ("x", "+") or not _is_whole(step[1:]):
        raise UserError(f"--{name} {shown}: expected a range like 16:64:x2 or 8:64:+8")
    low, high, by = read_size(name, parts[0]), read_size(name, parts[1]), int(step[1:])
    if low > high:
        raise UserError(f"--{name} {shown}: the range is empty, {low} is above {high}; swap them")
    if by < (2 if step[0] == "x" else 1):
        raise UserError(f"--{name} {shown}: a range steps by x2 or more, or by +1 or more")
    values = []
    while low <= high:
        values.append(low)
        low = low * by if step[0] == "x" else low + by
        if len(values) > MOST_VALUES:
            raise UserError(f"--{name} {shown}: over {MOST_VALUES} values; take a larger step")
    return tuple(values)


AXES = {
    axis.name: axis
    for axis in (
        Axis("cell", _read_cell, ("lstm",)),
        Axis("seq-len", read_size, (128,), ranges=True),
        Axis("batch", read_size, (16,), ranges=True),
        Axis("input", _read_input, (None,), ranges=True),
        Axis("hidden", read_size, (256,), ranges=True),
        Axis("layers", read_size, (1,), ranges=True),
        Axis("bidirectional", _read_bool, (False,)),
        Axis("bias", _read_bool, (True,)),
        Axis("proj", _read_projection, (0,), ranges=True, flag="proj-size"),
        Axis("heads", read_size, (1,), ranges=True),
        Axis("dtype", _one_of(DTYPE_BYTES), ("float32",)),
        Axis("precision", _one_of(PRECISIONS), ("ieee",)),
        Axis("lengths", _read_text, ("full",)),
        Axis("pass", _one_of(PASSES), ("forward", "backward")),
        Axis("launch", _one_of(LAUNCHES), ("eager",)),
        Axis("cache", _one_of(CACHES), ("warm",)),
        Axis("batch-first", _read_bool, (False,)),
        Axis("autocast", _one_of(AUTOCASTS), ("none",)),
        Axis("dropout", _read_probability, (0.0,)),
    )
}

# The axes that say how a layer is called, where a command's problems have a plain call.
PLAIN_CALL = {name: AXES[name].default for name in ("batch-first", "autocast", "dropout")}

# What a grid of a suite says in addition to its axes: how often a program calls its cases, and in
# which layer.
NOTES: Mapping[str, Callable[[Any], Any]] = {"calls": _read_calls, "layer": _read_layer}
