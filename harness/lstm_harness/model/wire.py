"""Frozen dataclasses to JSON lines and back, by their annotations; what does not fit is named."""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from lstm_harness.model.strict_json import parsed
from lstm_harness.model.typed import built

Kind = TypeVar("Kind")


class BadMessage(Exception):  # noqa: N818 - a finding about the other end, which becomes a record
    """A line that is not a message; the text names the message, the field and what was expected."""


def encode(message: object) -> str:
    """One line of JSON: the message's name, and its fields."""
    return json.dumps({"message": type(message).__name__, "fields": plain(message)}) + "\n"


def decode(line: str | bytes, known: Mapping[str, type[Kind]]) -> Kind:
    """The message that a line holds.

    Args:
        known: the messages that are allowed, by name.
    Raises:
        BadMessage: it is not one of these.
    """
    try:
        stored = parsed(line)
        name, values = stored["message"], stored["fields"]
    except (ValueError, KeyError, TypeError):
        text = line.decode(errors="replace") if isinstance(line, bytes) else line
        raise BadMessage(f"not a message: {text[:80]!r}") from None
    if name not in known:
        raise BadMessage(f"unknown message {name!r}; known: {', '.join(sorted(known))}")
    try:
        message: Kind = built(values, known[name], name)
    except ValueError as error:
        raise BadMessage(str(error)) from None
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
