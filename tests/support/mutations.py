"""Files as nobody meant them: a text spoilt in one to three ways, by a chance that can be repeated.

JSON keeps its form where that is what is asked for, so that what reads it gets far; bytes are
spoilt without regard to any form.
"""

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

# Where a value of JSON stood, any of these may stand.
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**63, -(2**63), 10**30, 0.5, 1e308, -0.0),
    *(float("nan"), float("inf"), "", "0", "ok", "nan", "a" * 10_000, "\x1b[31mred\x1b[0m"),
    *("two\nlines", "\x00", "\udcff", "\u202e", "../../etc/passwd", "=1+1"),
    *([], {}, [[]], [None], [1, "a"], {"": 0}, {"schema": 1}, [0] * 1000),
)
BYTES = (b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"{", b"}", b"[", b'"', b"\n", b"\r", b"\\u", b"9")
DEEP = 100_000

Place = tuple[Any, Any]  # a container, and the key or index of something in it


def json_document(content: bytes, chance: random.Random) -> bytes:
    """A JSON document spoilt: a value of it, its shape, or its bytes."""
    if chance.random() < 0.25:
        return raw(content, chance)
    document = json.loads(content)
    for _ in range(chance.randint(1, 3)):
        document = _spoilt(document, chance)
    return _dumped(document, chance)


def json_lines(content: bytes, chance: random.Random) -> bytes:
    """Lines of JSON spoilt: one of them, their number or order, or their bytes."""
    if chance.random() < 0.25:
        return raw(content, chance)
    lines = content.splitlines()
    at = chance.randrange(len(lines))
    way = chance.randrange(5)
    if way == 0:
        lines.insert(at, chance.choice(lines))
    elif way == 1:
        del lines[at]
    elif way == 2:
        chance.shuffle(lines)
    else:
        lines[at] = json_document(lines[at], chance)
    return b"\n".join(lines) + b"\n"


def under_a_digest(content: bytes, chance: random.Random) -> bytes:
    """JSON that stands under its digest spoilt, or the digest."""
    if chance.random() < 0.5:
        return raw(content, chance)
    digest, _, document = content.partition(b"\n")
    return digest + b"\n" + json_document(document, chance)


def toml(content: bytes, chance: random.Random) -> bytes:
    """TOML spoilt: a value of a line, its lines, or its bytes."""
    if chance.random() < 0.25:
        return raw(content, chance)
    lines = content.decode().splitlines()
    at = chance.randrange(len(lines))
    name, equals, _ = lines[at].partition("=")
    value = chance.choice([v for v in VALUES if v is not None and v != "\udcff"])
    if equals:
        lines[at] = f"{name}= {json.dumps(value, ensure_ascii=False)}"
    else:
        lines.insert(at, chance.choice(["[run]", "[[grid]]", "[grid]", "x = 1", "seed = 1.5"]))
    return "\n".join(lines).encode(errors="replace")


def raw(content: bytes, chance: random.Random) -> bytes:
    """Bytes spoilt: cut, doubled, replaced, or nested without end."""
    at = chance.randrange(len(content) + 1)
    until = min(len(content), at + chance.randint(1, 40))
    ways: list[Callable[[], bytes]] = [
        lambda: b"",
        lambda: content[:at],
        lambda: content[at:],
        lambda: content[:at] + content[until:],
        lambda: content[:at] + chance.choice(BYTES) + content[at:],
        lambda: content[:at] + chance.choice(BYTES) + content[at + 1 :],
        lambda: content + content,
        lambda: b"[" * DEEP + b"]" * DEEP,
        lambda: content[:at] + b'{"a":' * DEEP + content[at:],
        lambda: content[:at] + b"9" * 5000 + content[at:],
    ]
    return chance.choice(ways)()


def _spoilt(document: Any, chance: random.Random) -> Any:
    places = list(_places(document))
    if not places or chance.random() < 0.02:
        return _any(chance)
    container, key = chance.choice(places)
    way = chance.randrange(4)
    if way == 0:
        del container[key]
    elif way == 1:
        container[key] = _deep(_any(chance), chance)
    elif way == 2:
        other, name = chance.choice(places)
        container[key] = copy.deepcopy(other[name])
    elif isinstance(container, dict):
        container[chance.choice(["", "schema", "x", key.upper()])] = container.pop(key)
    else:
        container.insert(key, _any(chance))
    return document


def _any(chance: random.Random) -> Any:
    return copy.deepcopy(chance.choice(VALUES))


def _deep(value: Any, chance: random.Random) -> Any:
    for _ in range(chance.choice([0, 0, 0, 1, 50])):
        value = [value] if chance.random() < 0.5 else {"a": value}
    return value


def _places(document: Any) -> Iterator[Place]:
    if isinstance(document, dict):
        pairs: Any = document.items()
    elif isinstance(document, list):
        pairs = enumerate(document)
    else:
        return
    for key, value in list(pairs):
        yield document, key
        yield from _places(value)


def _dumped(document: Any, chance: random.Random) -> bytes:
    text = json.dumps(document, ensure_ascii=chance.random() < 0.5)
    return text.encode(errors="surrogatepass")
