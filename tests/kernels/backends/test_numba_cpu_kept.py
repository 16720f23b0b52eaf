"""What numba_cpu keeps on disk, and how it loads it: files that are not what they should be."""

import ctypes
import mmap
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numba", reason="numba_cpu needs numba")

import numba
from numba import types

from lstm_kernels.backends.numba_cpu import compiled, kept, object_file, target
from lstm_kernels.backends.numba_cpu.compiling import object_of
from lstm_kernels.backends.numba_cpu.registers import registers
from lstm_kernels.backends.numba_cpu.simd import VECTOR_BYTES
from lstm_kernels.backends.numba_cpu.tile import ROWS

needs_objects = pytest.mark.skipif(
    not kept.is_used(), reason="objects are loaded on x86-64 under Linux, and Numba told nothing"
)
getpagesize: Any = types.ExternalFunction("getpagesize", types.int32())


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))


@pytest.fixture(scope="module")
def made() -> tuple[str, bytes]:
    """The object of a function with a constant in memory, a loop, and a call of another."""

    @numba.cfunc(types.float64(types.float64, types.int64), error_model="numpy")
    def weighed(x: float, n: int) -> float:
        total = 0.1 + getpagesize()
        for i in range(n):
            total += x * 1.75 / (i + 1)
        return total

    return object_of(weighed)


@needs_objects
def test_a_function_of_an_object_does_what_it_did(made: tuple[str, bytes]) -> None:
    symbol, content = made
    loaded = object_file.load(content, symbol, compiled._address_of)
    kind = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double, ctypes.c_int64)
    want = mmap.PAGESIZE + 0.1 + 3.5 + 1.75 + 3.5 / 3
    assert kind(loaded.address)(2.0, 3) == pytest.approx(want, rel=1e-15)


@needs_objects
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda content: b"\x7fELF\x01" + content[5:], "not an object file of x86-64"),
        (lambda content: content[:18] + b"\xb7" + content[19:], "not an object file of x86-64"),
    ],
    ids=["32 bits", "another machine"],
)
def test_what_is_no_object_of_this_machine_is_refused(
    spoil: Any, reason: str, made: tuple[str, bytes]
) -> None:
    symbol, content = made
    with pytest.raises(object_file.Unloadable, match=reason):
        object_file.load(spoil(content), symbol, compiled._address_of)


@needs_objects
def test_a_function_that_is_not_there_is_refused(made: tuple[str, bytes]) -> None:
    with pytest.raises(object_file.Unloadable, match="it has no function 'other'"):
        object_file.load(made[1], "other", compiled._address_of)


@needs_objects
def test_a_kernel_that_could_not_be_loaded_is_not_kept(
    made: tuple[str, bytes], tmp_path: Path
) -> None:
    symbol, content = made
    strange = content.replace(b"\0getpagesize\0", b"\0notinlibc00\0")
    assert strange != content
    with pytest.warns(
        UserWarning, match="kernel name is not stored on disk: it calls 'notinlibc00'"
    ):
        compiled._keep("name", (), symbol, strange)
    assert list(tmp_path.iterdir()) == []


def test_a_relocation_that_is_not_known_is_refused() -> None:
    with pytest.raises(object_file.Unloadable, match="relocation of type 9"):
        object_file._relocate(bytearray(8), 0, 0, 9, 0)  # type: ignore[arg-type] # any memory will do


@needs_objects
def test_what_is_kept_is_read_and_what_was_torn_is_not(tmp_path: Path) -> None:
    assert kept.read("name") is None
    kept.write("name", b"content\nof two lines")
    assert kept.read("name") == b"content\nof two lines"
    assert kept.read("another") is None
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    assert kept.read("name") is None


@needs_objects
def test_nowhere_to_keep_it_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "folder"))
    kept.write("name", b"content")
    assert kept.read("name") is None


@needs_objects
@pytest.mark.parametrize("variable", ["NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_ENABLE_AVX"])
def test_nothing_is_kept_where_numba_is_told_of_a_cpu(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.write("name", b"content")
    monkeypatch.setenv(variable, "")
    assert kept.read("name") is None
    kept.write("other", b"content")
    assert len(list(tmp_path.iterdir())) == 1


def test_registers_are_those_that_kernels_are_compiled_for() -> None:
    for _ in range(2):
        registers.cache_clear()
        dots, tiles, vnni = (
            target.machine() == "x86_64" and target.has(feature)
            for feature in ("avx512bf16", "amx-bf16", "avx512vnni")
        )
        assert registers()[:4] == (VECTOR_BYTES, ROWS, dots, dots and tiles)
        assert (registers().int8 == "vnni") >= (vnni and VECTOR_BYTES == 64)
