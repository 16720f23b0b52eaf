"""Frozen dataclasses to JSON lines and back, by their annotations; what does not fit is named."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

Kind = TypeVar("Kind")

_PLAIN = (str, int, float, bool)


class BadMessage(Exception):  # noqa: N818 - a finding about the other end, which becomes a record
    """A line that is no message; the text names the message, the field and what was expected."""


def encode(message: object) -> str:
    """One line of JSON: the message's name, and its fields."""
    return json.dumps({"message": type(message).__name__, "fields": plain(message)}) + "\n"


def decode(line: str | bytes, known: Mapping[str, type[Kind]]) -> Kind:
    """The message that a line holds.

    Args:
        known: what may come, by name.
    Raises:
        BadMessage: it holds none of these.
    """
    try:
        stored = json.loads(line)
        name, values = stored["message"], stored["fields"]
    except (ValueError, KeyError, TypeError):
        text = line.decode(errors="replace") if isinstance(line, bytes) else line
        raise BadMessage(f"not a message: {text[:80]!r}") from None
    if name not in known:
        raise BadMessage(f"unknown message {name!r}; known: {', '.join(sorted(known))}")
    message: Kind = built(values, known[name], name)
    return message


def plain(value: Any) -> Any:
    """What JSON holds of a value: a dataclass's fields, or what its own `to_dict` tells."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list | frozenset):
        return [plain(each) for each in value]
    return value


def built(value: Any, kind: Any, where: str) -> Any:
    """The value of an annotated type that JSON holds.

    Args:
        where: what it is, for the message of an error.
    Raises:
        BadMessage: it does not fit.
    """
    origin = get_origin(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        return _one_of(value, get_args(kind), where)
    if origin is tuple:
        _need(isinstance(value, list), value, "a list", where)
        (item, *_) = get_args(kind)
        return tuple(built(each, item, f"{where}[{place}]") for place, each in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        _need(isinstance(value, dict), value, "an object", where)
        item = get_args(kind)[1]
        return {name: built(each, item, f"{where}.{name}") for name, each in value.items()}
    if kind is NoneType:
        _need(value is None, value, "null", where)
        return None
    if kind in _PLAIN:
        return _plain(value, kind, where)
    if hasattr(kind, "from_dict"):
        return _by_itself(value, kind, where)
    return _dataclass(value, kind, where)


def _one_of(value: Any, kinds: tuple[Any, ...], where: str) -> Any:
    for kind in kinds:
        try:
            return built(value, kind, where)
        except BadMessage:
            continue
    names = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
    raise BadMessage(f"{where} is {_short(value)}; expected {names}")


def _plain(value: Any, kind: type, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    _need(fits, value, kind.__name__, where)
    return value


def _by_itself(value: Any, kind: Any, where: str) -> Any:
    """A value of a type that reads itself, as run.json and records.jsonl are read."""
    try:
        return kind.from_dict(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise BadMessage(f"{where} is no {kind.__name__}: {why}") from None


def _dataclass(value: Any, kind: Any, where: str) -> Any:
    _need(isinstance(value, dict), value, f"the fields of {kind.__name__}", where)
    types, needed = _fields_of(kind)
    unknown = [name for name in value if name not in types]
    missing = [name for name in needed if name not in value]
    if unknown or missing:
        said = [f"unknown field {name!r}" for name in unknown]
        said += [f"no field {name!r}" for name in missing]
        raise BadMessage(f"{where} has {'; '.join(said)}")
    return kind(
        **{name: built(each, types[name], f"{where}.{name}") for name, each in value.items()}
    )


@cache
def _fields_of(kind: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The types of a dataclass's fields by name, and the names of those that have no default."""
    hints = get_type_hints(kind)
    needed = (f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING)
    return {each.name: hints[each.name] for each in fields(kind)}, tuple(needed)


def _need(condition: bool, value: Any, expected: str, where: str) -> None:
    if not condition:
        raise BadMessage(f"{where} is {_short(value)}; expected {expected}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
