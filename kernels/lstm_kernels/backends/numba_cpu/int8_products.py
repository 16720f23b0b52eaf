"""Products of int8: a few rows of activations times a panel of weights, summed in int32.

A row is K bytes, 128 + q of each element, zeros of q behind them up to whole vectors, and then its
scale. A panel is a line of its columns' scales, a line of what the 128 adds, with its sign changed,
and then [K/4, vectors, W, 4] bytes: of each column four elements of K side by side. A line is as
many vectors as the panel is wide.

Four products of a byte without a sign and one with a sign are one instruction (AVX512-VNNI,
AVX-VNNI), or two that multiply 16-bit numbers: both are exact, so that results have the same bits.
Sources: "VPDPBUSD" and "PMADDWD" in the Instruction Set Reference.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from lstm_kernels.backends.numba_cpu import target
from lstm_kernels.backends.numba_cpu.cell_layout import VECTORS
from lstm_kernels.backends.numba_cpu.simd import (
    INT8,
    INT16,
    INT32,
    INT64,
    VECTOR_BYTES,
    apart,
    inlined,
    intrinsic,
    lanes,
    load_at,
    load_part_at,
    prefetch_at,
    specialised,
    splat,
    splat_of,
    store_at,
)
from lstm_kernels.backends.numba_cpu.tile import AHEAD_BYTES, CHAINS, ROWS, UNROLLED

# The largest q, of 8 bits with a sign and as many values on both sides of 0.
MOST = 127.0
# A row whose largest element is smaller counts as zeros: 127 / that would not be finite.
LEAST = 2.0**-100
# LLVM's name of the product of 16-bit numbers, by the bytes of a vector.
_OF_WORDS = {32: "avx2.pmadd.wd", 64: "avx512.pmaddw.d.512"}


def how_multiplied() -> str:
    """How this CPU multiplies int8: by "vnni", by "words" of 16 bits, or "" for not at all."""
    if target.machine() != "x86_64":
        return ""
    vnni, words = ("avx512vnni", "avx512bw") if VECTOR_BYTES == 64 else ("avxvnni", "avx2")
    if target.has(vnni):
        return "vnni"
    return "words" if target.has(words) else ""


@inlined
def padded(like: Any, K: int) -> int:
    """How many elements of K a row has."""
    return (K + lanes(like) - 1) // lanes(like) * lanes(like)


@inlined
def row_bytes(like: Any, K: int) -> int:
    """Bytes from one row to the next."""
    return padded(like, K) + lanes(like)


@inlined
def panel_bytes(like: Any, K: int, vectors: int) -> int:
    """Bytes of a panel."""
    return (2 + padded(like, K) // 4) * vectors * VECTOR_BYTES


@intrinsic
def quantise(typing: Any, like: Any, to: Any, source: Any, elements: Any) -> Any:
    """Write a row from that many float32: the largest becomes 127, or -127.

    One that is not finite makes the scale so, and with it every product of the row.
    """
    W, number = like.lanes, like.ir_scalar
    words = ir.VectorType(INT32, W)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, to, source, elements = args
        blocks = builder.udiv(builder.add(elements, INT64(W - 1)), INT64(W))

        def block(at: Any) -> Any:
            left = builder.sub(elements, builder.mul(at, INT64(W)))
            return load_part_at(
                builder, like, apart(builder, source, at, like.stored_bytes * W), left
            )

        largest = cgutils.alloca_once_value(builder, ir.Constant(words, None))
        unsigned = ir.Constant(words, [0x7FFFFFFF] * W)
        with cgutils.for_range(builder, blocks, intp=INT64) as loop:
            # As integers the bits of numbers without a sign have the same order, NaN the last.
            bits = builder.and_(builder.bitcast(block(loop.index), words), unsigned)
            known = builder.load(largest)
            more = builder.icmp_signed(">", bits, known)
            builder.store(builder.select(more, bits, known), largest)
        reduce = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(INT32, [words]), f"llvm.vector.reduce.smax.v{W}i32"
        )
        most = builder.bitcast(builder.call(reduce, [builder.load(largest)]), number)
        is_some = builder.fcmp_ordered(">", most, number(LEAST))
        per_unit = builder.select(is_some, builder.fdiv(number(MOST), most), number(0.0))
        factor = splat(builder, like, per_unit)
        # Cutting off what is behind the point then rounds to nearest.
        shift = ir.Constant(like.ir, [128.5] * W)
        with cgutils.for_range(builder, blocks, intp=INT64) as loop:
            value = builder.fadd(builder.fmul(block(loop.index), factor), shift)
            found = builder.trunc(builder.fptosi(value, words), ir.VectorType(INT8, W))
            store_at(builder, found, apart(builder, to, loop.index, W), 1)
        scale = builder.fdiv(most, number(MOST))
        store_at(builder, scale, apart(builder, to, blocks, W), 4)
        return context.get_dummy_value()

    return types.void(like, *(types.int64,) * 3), generate


@intrinsic
def _multiply(
    typing: Any,
    like: Any,
    rows: Any,
    vectors: Any,
    start: Any,
    stride: Any,
    panel: Any,
    K: Any,
    out: Any,
) -> Any:
    width = vectors.literal_value

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, rows, _, start, stride, panel, K, out = args
        for count in range(1, ROWS + 1):
            with builder.if_then(builder.icmp_signed("==", rows, INT64(count))):
                starts = [apart(builder, start, stride, i) for i in range(count)]
                _by_fours(builder, like, width, starts, panel, K, out)
        return context.get_dummy_value()

    return types.void(like, types.int64, vectors, *(types.int64,) * 5), generate


def _by_fours(
    builder: Any, like: Any, width: int, starts: list[Any], panel: Any, K: Any, out: Any
) -> None:
    """The IR of a product of that many rows."""
    words = ir.VectorType(INT32, like.lanes)

    def vector(kind: Any, line: int, j: int) -> Any:
        at = builder.add(panel, INT64((line * width + j) * VECTOR_BYTES))
        return load_at(builder, kind, at, VECTOR_BYTES)

    # Few rows have too few sums: those of even and odd fours are kept separately.
    chains = 2 if len(starts) * width < CHAINS else 1
    sums = [
        [
            [
                cgutils.alloca_once_value(
                    builder, ir.Constant(words, None) if chain else vector(words, 1, j)
                )
                for j in range(width)
            ]
            for _ in starts
        ]
        for chain in range(chains)
    ]
    turns = builder.udiv(K, INT64(4 * UNROLLED))
    with cgutils.for_range(builder, turns, intp=INT64) as loop:
        for i in range(UNROLLED):
            four = builder.add(builder.mul(loop.index, INT64(UNROLLED)), INT64(i))
            line = builder.add(four, INT64(2))
            here = apart(builder, panel, line, width * VECTOR_BYTES)
            places = [builder.add(here, INT64(j * VECTOR_BYTES)) for j in range(width)]
            for place in places if len(starts) == 1 else ():
                prefetch_at(builder, builder.add(place, INT64(AHEAD_BYTES)), into=1)
            columns = [load_at(builder, words, place, VECTOR_BYTES) for place in places]
            for start, totals in zip(starts, sums[i % chains], strict=True):
                bytes_of_row = load_at(builder, INT32, apart(builder, start, four, 4), 4)
                row = splat_of(builder, like.lanes, bytes_of_row)
                for column, total in zip(columns, totals, strict=True):
                    builder.store(_added(builder, builder.load(total), row, column), total)
    for i, start in enumerate(starts):
        scale = load_at(builder, like.ir_scalar, builder.add(start, K), 4)
        for j in range(width):
            total = builder.load(sums[0][i][j])
            for other in sums[1:]:
                total = builder.add(total, builder.load(other[i][j]))
            value = builder.fmul(builder.sitofp(total, like.ir), vector(like.ir, 0, j))
            value = builder.fmul(value, splat(builder, like, scale))
            at = builder.add(out, INT64((i * VECTORS + j) * VECTOR_BYTES))
            store_at(builder, value, at, VECTOR_BYTES)


def _added(builder: Any, total: Any, row: Any, column: Any) -> Any:
    """The IR of a sum to which four products a lane are added: of row's bytes and column's."""
    words = total.type
    if how_multiplied() == "vnni":
        name = f"llvm.x86.avx512.vpdpbusd.{8 * VECTOR_BYTES}"
        kind = ir.FunctionType(words, [words] * 3)
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(function, [total, row, column])
    halves = ir.VectorType(INT16, 2 * words.count)
    kind = ir.FunctionType(words, [halves] * 2)
    name = f"llvm.x86.{_OF_WORDS[VECTOR_BYTES]}"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    eight = ir.Constant(halves, [8] * halves.count)
    row, column = builder.bitcast(row, halves), builder.bitcast(column, halves)
    # The first and the third byte of four, then the second and the fourth.
    first = (
        builder.and_(row, ir.Constant(halves, [0xFF] * halves.count)),
        builder.ashr(builder.shl(column, eight), eight),
    )
    second = builder.lshr(row, eight), builder.ashr(column, eight)
    for both in (first, second):
        total = builder.add(total, builder.call(function, both))
    return total


@specialised
def multiply_int8(
    like: Any,
    rows: int,
    vectors: int,
    start: int,
    stride: int,
    panel: int,
    K: int,
    out: int,
) -> None:
    """Write rows times panel, in float32: [rows, VECTORS] vectors, of which a row's first are made.

    Args:
        rows: 1 to ROWS, or less for none.
        start, stride: the address of the first row, and bytes from one to the next.
        K: elements of a row, `padded`.
    """
    _multiply(like, rows, vectors, start, stride, panel, K, out)
