"""Values of annotated types from JSON, field by field; what does not fit is named."""

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from lstm_harness.model.text import printable

# What an array of numbers holds.
_LARGEST_INT = 2**63 - 1

Reader = Callable[[Any], Any]


class Stored:
    """A part of a file: fields that another version added to it are left out."""


class Unfit(ValueError):  # noqa: N818 - a finding about a file or a message
    """A value is not of the type that is expected there; the text names the place and both."""

    def __init__(self, said: str, place: str = "") -> None:
        super().__init__(f"{place} {said}".strip())
        self._said, self._place = said, place

    def under(self, outer: str) -> "Unfit":
        """The same, seen from what it is a part of."""
        return Unfit(self._said, outer + self._place)


def built(value: Any, kind: Any, where: str) -> Any:
    """The value of an annotated type that JSON holds; numbers are finite and fit 64 bits.

    Texts lose their control characters, which a terminal or a table would obey.

    Args:
        where: what it is, for the message of an error.
    Raises:
        Unfit: it does not fit.
    """
    try:
        return _reader(kind)(value)
    except Unfit as error:
        raise error.under(where) from None


def known(stored: Any, kind: Any, where: str = "it") -> dict[str, Any]:
    """Those fields of a dataclass that a JSON object holds; what it does not know is left out.

    Raises:
        Unfit: it is not an object, or one of them does not fit.
    """
    try:
        return _known(stored, kind)
    except Unfit as error:
        raise error.under(where) from None


@cache
def fields_of(kind: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The types of a dataclass's fields by name, and the names of those that have no default."""
    hints = get_type_hints(kind)
    needed = (f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING)
    return {each.name: hints[each.name] for each in fields(kind)}, tuple(needed)


@cache
def _reader(kind: Any) -> Reader:
    """What makes a value of a type of what JSON holds."""
    origin = get_origin(kind)
    if kind is Any:
        return lambda value: value
    if origin in (Union, UnionType):
        return _reader_of_one(get_args(kind))
    if origin is tuple:
        return _reader_of_many(get_args(kind)[0])
    if origin is not None and issubclass(origin, Mapping):
        return _reader_of_named(get_args(kind)[1])
    if kind in _PLAIN:
        return _PLAIN[kind]
    if hasattr(kind, "from_dict"):
        return lambda value: _by_itself(value, kind)
    return lambda value: _dataclass(value, kind)


def _reader_of_one(kinds: tuple[Any, ...]) -> Reader:
    some = [kind for kind in kinds if kind is not NoneType]
    if len(some) == 1 and len(kinds) == 2 and some[0] not in _PLAIN:
        only = _reader(some[0])  # whose own words say more
        return lambda value: None if value is None else only(value)
    readers = [_reader(kind) for kind in some]
    may_be_none = NoneType in kinds
    names = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)

    def read(value: Any) -> Any:
        if value is None and may_be_none:
            return None
        for reader in readers:
            try:
                return reader(value)
            except Unfit:
                continue
        raise _unlike(value, names)

    return read


def _reader_of_many(kind: Any) -> Reader:
    one = _reader(kind)

    def read(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise _unlike(value, "a list")
        # What is long is numbers, which are checked together.
        kinds = set(map(type, value))
        if kind is int and kinds == {int} and max(map(abs, value)) <= _LARGEST_INT:
            return tuple(value)
        if kind is float and kinds == {float} and all(map(math.isfinite, value)):
            return tuple(value)
        return tuple(_at(one, each, f"[{place}]") for place, each in enumerate(value))

    return read


def _reader_of_named(kind: Any) -> Reader:
    one = _reader(kind)

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _unlike(value, "an object")
        return {printable(name): _at(one, each, f".{name}") for name, each in value.items()}

    return read


def _at(reader: Reader, value: Any, place: str) -> Any:
    try:
        return reader(value)
    except Unfit as error:
        raise error.under(place) from None


def _known(stored: Any, kind: Any) -> dict[str, Any]:
    if not isinstance(stored, dict):
        raise _unlike(stored, "an object")
    read = {}
    for name, reader in _readers_of(kind):
        if name in stored:
            try:
                read[name] = reader(stored[name])
            except Unfit as error:
                raise error.under(f".{name}") from None
    return read


@cache
def _readers_of(kind: Any) -> tuple[tuple[str, Reader], ...]:
    return tuple((name, _reader(each)) for name, each in fields_of(kind)[0].items())


def _dataclass(value: Any, kind: Any) -> Any:
    if not isinstance(value, dict):
        raise _unlike(value, "an object")
    types, needed = fields_of(kind)
    may_hold_more = isinstance(kind, type) and issubclass(kind, Stored)
    unknown = [] if may_hold_more else [name for name in value if name not in types]
    missing = [name for name in needed if name not in value]
    if unknown or missing:
        said = [f"unknown field {name!r}" for name in unknown]
        said += [f"no field {name!r}" for name in missing]
        raise Unfit(f"has {'; '.join(said)}")
    return kind(**_known(value, kind))


def _by_itself(value: Any, kind: Any) -> Any:
    """A value of a type that reads itself, as run.json and records.jsonl are read."""
    try:
        return kind.from_dict(value)
    except KeyError as error:
        raise Unfit(f"is not a {kind.__name__}: {error} is missing") from None
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise Unfit(f"is not a {kind.__name__}: {error}") from None


def _text(value: Any) -> str:
    if type(value) is not str:
        raise _unlike(value, "str")
    return printable(value)


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise _unlike(value, "int")
    if abs(value) > _LARGEST_INT:
        raise _unlike(value, "int of 64 bits")
    return value


def _number(value: Any) -> float:
    if type(value) is int:
        return float(_whole(value))
    if type(value) is not float:
        raise _unlike(value, "float")
    if not math.isfinite(value):
        raise _unlike(value, "a finite float")
    return value


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        raise _unlike(value, "bool")
    return value


_PLAIN: Mapping[Any, Reader] = {
    str: _text,
    int: _whole,
    float: _number,
    bool: _truth,
}


def _unlike(value: Any, expected: str) -> Unfit:
    text = repr(value)
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    return Unfit(f"is {shown}; expected {expected}")
