"""Machine code of an object file, loaded so that it can be called: LLVM's linker without LLVM.

Importing LLVM takes longer than a first call may. It supports only x86-64 under Linux, and what
Numba's objects have: sections that are code or constants, 64-bit addresses in them, and symbols
without a value. A section that tells debuggers of frames is left out. Source: System V ABI, AMD64
supplement.
"""

import ctypes
import mmap
import struct
from collections.abc import Callable
from typing import NamedTuple

_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_SYMBOLS, _RELOCATIONS, _NOBITS = 2, 4, 8
_WRITTEN, _KEPT_IN_MEMORY = 1, 2
_NOWHERE, _COMMON = 0, 0xFFF2
# The types of relocation: an address of 8 bytes, or a distance of 4 bytes.
_ADDRESS, _NEAR, _CALL, _FAR = 1, 2, 4, 24
_ALIGNMENT = 64


class Unloadable(ValueError):  # noqa: N818 - a finding about a file
    """An object with something that this does not support; the message says what."""


class Loaded(NamedTuple):
    """The address of a function, and the memory that must live as long as it."""

    address: int
    memory: mmap.mmap


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


class _Symbol(NamedTuple):
    name: int
    kind: int
    visibility: int
    section: int
    value: int
    size: int


def load(content: bytes, function: str, address_of: Callable[[str], int]) -> Loaded:
    """A function of an object file.

    Args:
        address_of: of a symbol that the object does not define.
    Raises:
        Unloadable: with the reason.
    """
    sections = _sections(content)
    symbols, strings = _symbols(content, sections)
    places, size = _places(content, sections)
    # Symbols without a place of their own: Numba's, which only a failing kernel would read.
    commons = {at: size + _ALIGNMENT * n for n, at in enumerate(_commons(symbols))}
    size += _ALIGNMENT * len(commons)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    _copy(content, sections, places, memory)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))

    def value(at: int) -> int:
        symbol = symbols[at]
        if symbol.section == _NOWHERE:
            return address_of(_text(content, strings, symbol.name))
        if symbol.section == _COMMON:
            return base + commons[at]
        if symbol.section not in places:
            raise Unloadable(f"a symbol lies in section {symbol.section}, which is not loaded")
        return base + places[symbol.section] + symbol.value

    for section in sections:
        if section.kind == _RELOCATIONS and section.info in places:
            for offset, info, addend in _RELOCATION.iter_unpack(_part(content, section)):
                place = places[section.info] + offset
                _relocate(memory, base, place, info & 0xFFFFFFFF, value(info >> 32) + addend)
    names = [_text(content, strings, symbol.name) for symbol in symbols]
    if function not in names:
        raise Unloadable(f"it has no function {function!r}")
    _make_executable(base, len(memory))
    return Loaded(value(names.index(function)), memory)


def _sections(content: bytes) -> list[_Section]:
    if content[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<HH", content, 16) != (1, 62):
        raise Unloadable("it is not an object file of x86-64")
    (start,) = struct.unpack_from("<Q", content, 40)
    (count,) = struct.unpack_from("<H", content, 60)
    return [
        _Section(*_SECTION.unpack_from(content, start + i * _SECTION.size)) for i in range(count)
    ]


def _symbols(content: bytes, sections: list[_Section]) -> tuple[list[_Symbol], _Section]:
    """Its symbols, and the section of their names."""
    for section in sections:
        if section.kind == _SYMBOLS:
            rows = _SYMBOL.iter_unpack(_part(content, section))
            return [_Symbol(*row) for row in rows], sections[section.link]
    raise Unloadable("it has no symbols")


def _places(content: bytes, sections: list[_Section]) -> tuple[dict[int, int], int]:
    """The place of each needed section, and the size of all."""
    names = sections[struct.unpack_from("<H", content, 62)[0]]
    places, size = {}, 0
    for index, section in enumerate(sections):
        is_frames = _text(content, names, section.name) == ".eh_frame"
        if section.flags & _KEPT_IN_MEMORY and section.size and not is_frames:
            if section.flags & _WRITTEN:
                raise Unloadable(f"section {index} must be writable, but memory here is not")
            places[index] = size
            size += -(-section.size // _ALIGNMENT) * _ALIGNMENT
    return places, size


def _part(content: bytes, section: _Section) -> bytes:
    return content[section.offset : section.offset + section.size]


def _text(content: bytes, strings: _Section, at: int) -> str:
    start = strings.offset + at
    return content[start : content.index(b"\0", start)].decode()


def _copy(
    content: bytes, sections: list[_Section], places: dict[int, int], memory: mmap.mmap
) -> None:
    for index, place in places.items():
        if sections[index].kind != _NOBITS:
            memory[place : place + sections[index].size] = _part(content, sections[index])


def _commons(symbols: list[_Symbol]) -> list[int]:
    """Which symbols need a place; each of at most 64 bytes."""
    found = [at for at, symbol in enumerate(symbols) if symbol.section == _COMMON]
    if any(symbols[at].size > _ALIGNMENT for at in found):
        raise Unloadable("a symbol without a place is larger than a cache line")
    return found


def _relocate(memory: mmap.mmap, base: int, place: int, kind: int, target: int) -> None:
    """Write an address, or how far it is, into its place."""
    if kind == _ADDRESS:
        struct.pack_into("<Q", memory, place, target & 0xFFFFFFFFFFFFFFFF)
        return
    distance = target - base - place
    if kind == _FAR:
        struct.pack_into("<q", memory, place, distance)
    elif kind in (_NEAR, _CALL) and -(2**31) <= distance < 2**31:
        struct.pack_into("<i", memory, place, distance)
    else:
        raise Unloadable(f"it has a relocation of type {kind} over {distance} bytes")


def _make_executable(base: int, size: int) -> None:
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    if protect(base, size, mmap.PROT_READ | mmap.PROT_EXEC):
        raise Unloadable(f"memory cannot be made executable (errno {ctypes.get_errno()})")
