"""How matrices are multiplied: by fused multiply-adds, or bfloat16 in pairs, summed in float32.

Multiplying in pairs takes what a CPU has for it: AMX, whose tiles are 16 rows of 32 elements, or
dot products of two elements a lane (AVX512-BF16). Both read the same memory. A row is bfloat16, its
K elements side by side, zeros behind them up to a multiple of 32. A panel is [K/2, vectors, W, 2]:
of each column two elements of K side by side. Sources: Intel 64 and IA-32 Architectures
Optimization Reference Manual, chapter "Intel AMX"; AVX512_BF16 in the Instruction Set Reference.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from lstm_kernels.backends.numba_cpu import simd
from lstm_kernels.backends.numba_cpu.cell_layout import VECTORS
from lstm_kernels.backends.numba_cpu.pairing import STEP, TILE_ROWS, Product
from lstm_kernels.backends.numba_cpu.simd import (
    INT8,
    INT32,
    INT64,
    VECTOR_BYTES,
    BFloat16,
    apart,
    either,
    halves_at,
    inlined,
    intrinsic,
    load_at,
    specialised,
    splat_of,
    store_at,
    store_word,
    transposed,
)
from lstm_kernels.backends.numba_cpu.tile import ROWS, multiply

# Tiles of sums, one a vector of columns; then the one of rows, and three that panels go through.
_OF_ROWS = VECTORS
_OF_PANELS = (5, 6, 7)
_ROW_BYTES = VECTORS * VECTOR_BYTES


def _constant_of(field: str) -> Any:
    """A number of `pairing.Product`, in a kernel."""

    def typing(typing: Any, like: Any) -> Any:
        number = getattr(Product(like.product, ROWS, VECTOR_BYTES), field)

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return INT64(number)

        return types.int64(like), generate

    return intrinsic(typing)


rows_at_once = _constant_of("rows")
tiles_at_once = _constant_of("tiles_at_once")
tile_bytes = _constant_of("tile_bytes")
scratch_bytes = _constant_of("scratch_bytes")


@intrinsic
def in_pairs(typing: Any, like: Any) -> Any:
    """Whether what is multiplied is 16-bit pairs."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(ir.IntType(1), like.in_pairs)

    return types.boolean(like), generate


@inlined
def padded_k(like: Any, elements: int) -> int:
    """`Product.padded`, in a kernel."""
    return (elements + STEP - 1) // STEP * STEP if in_pairs(like) else elements


@inlined
def lines_of(like: Any, elements: int) -> int:
    """`Product.lines`, in a kernel."""
    return padded_k(like, elements) // 2 if in_pairs(like) else elements


@intrinsic
def configure(typing: Any, like: Any, rows: Any) -> Any:
    """Set the number of rows of this thread's tiles, if products use tiles; 16 at most."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if like.product == "amx":
            # Palette 1; bytes of a row from byte 16 on, rows from byte 48 on.
            table = cgutils.alloca_once(builder, ir.ArrayType(INT8, 64))
            words = [*[1], *[0] * 15]
            words += [byte for _ in range(8) for byte in (64, 0)] + [0] * 16
            words += [TILE_ROWS] * 8 + [0] * 8
            builder.store(ir.Constant(ir.ArrayType(INT8, 64), words), table)
            count = builder.trunc(args[1], INT8)
            for tile in (*range(VECTORS), _OF_ROWS):
                builder.store(count, builder.gep(table, [INT32(0), INT32(48 + tile)]))
            pointer = builder.bitcast(table, INT8.as_pointer())
            _call(builder, "ldtilecfg", pointer)
        return context.get_dummy_value()

    return types.void(like, types.int64), generate


@intrinsic
def release(typing: Any, like: Any) -> Any:
    """Give this thread's tiles back."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if like.product == "amx":
            _call(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(like), generate


def _call(builder: Any, name: str, *args: Any) -> None:
    """The IR of one instruction on tiles; they go by their numbers."""
    kind = ir.FunctionType(ir.VoidType(), [arg.type for arg in args])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), args)


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
    first: Any,
    first_stride: Any,
    out: Any,
    out_stride: Any,
) -> Any:
    width = vectors.literal_value

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, rows, _, start, stride, panel, K, *sums = args
        if like.product == "amx":
            with builder.if_then(builder.icmp_signed(">", rows, INT64(0))):
                _in_tiles(builder, width, start, stride, panel, K, *sums)
            return context.get_dummy_value()
        for count in range(1, ROWS + 1):
            with builder.if_then(builder.icmp_signed("==", rows, INT64(count))):
                starts = [apart(builder, start, stride, i) for i in range(count)]
                _by_dots(builder, like, width, starts, panel, K, *sums)
        return context.get_dummy_value()

    return types.void(like, types.int64, vectors, *(types.int64,) * 8), generate


def _in_tiles(
    builder: Any,
    width: int,
    start: Any,
    stride: Any,
    panel: Any,
    K: Any,
    first: Any,
    first_stride: Any,
    out: Any,
    out_stride: Any,
) -> None:
    """The IR of a product in tiles, of as many rows as they are configured for."""
    byte = INT8.as_pointer()
    line = INT64(width * VECTOR_BYTES)

    def vector(base: Any, j: int) -> Any:
        return builder.inttoptr(builder.add(base, INT64(j * VECTOR_BYTES)), byte)

    with builder.if_else(builder.icmp_unsigned("==", first, INT64(0))) as (none, some):
        with none:
            for j in range(width):
                _call(builder, "tilezero", INT8(j))
        with some:
            for j in range(width):
                _call(builder, "tileloadd64", INT8(j), vector(first, j), first_stride)
    steps = builder.udiv(K, INT64(STEP))
    with cgutils.for_range(builder, steps, intp=INT64) as loop:
        at = builder.inttoptr(apart(builder, start, loop.index, 2 * STEP), byte)
        _call(builder, "tileloadd64", INT8(_OF_ROWS), at, stride)
        here = apart(builder, panel, loop.index, STEP // 2 * width * VECTOR_BYTES)
        for j in range(width):
            tile = INT8(_OF_PANELS[j % len(_OF_PANELS)])
            _call(builder, "tileloadd64", tile, vector(here, j), line)
            _call(builder, "tdpbf16ps", INT8(j), INT8(_OF_ROWS), tile)
    for j in range(width):
        _call(builder, "tilestored64", INT8(j), vector(out, j), out_stride)


def _by_dots(
    builder: Any,
    like: Any,
    width: int,
    starts: list[Any],
    panel: Any,
    K: Any,
    first: Any,
    first_stride: Any,
    out: Any,
    out_stride: Any,
) -> None:
    """The IR of a product by dot products of pairs."""
    pairs = ir.VectorType(BFloat16(), 2 * like.lanes)
    kind = ir.FunctionType(like.ir, [like.ir, pairs, pairs])
    name = f"llvm.x86.avx512bf16.dpbf16ps.{8 * VECTOR_BYTES}"
    dot = cgutils.get_or_insert_function(builder.module, kind, name)
    nothing = ir.Constant(like.ir, None)
    sums = [[cgutils.alloca_once_value(builder, nothing) for _ in range(width)] for _ in starts]
    with builder.if_then(builder.icmp_unsigned("!=", first, INT64(0))):
        for i, totals in enumerate(sums):
            row = apart(builder, first, first_stride, i)
            for j, total in enumerate(totals):
                at = builder.add(row, INT64(j * VECTOR_BYTES))
                builder.store(load_at(builder, like.ir, at, VECTOR_BYTES), total)
    with cgutils.for_range(builder, builder.udiv(K, INT64(2)), intp=INT64) as loop:
        here = apart(builder, panel, loop.index, width * VECTOR_BYTES)
        columns = [
            load_at(builder, pairs, builder.add(here, INT64(j * VECTOR_BYTES)), VECTOR_BYTES)
            for j in range(width)
        ]
        for start, totals in zip(starts, sums, strict=True):
            pair = load_at(builder, INT32, apart(builder, start, loop.index, 4), 4)
            both = builder.bitcast(splat_of(builder, like.lanes, pair), pairs)
            for column, total in zip(columns, totals, strict=True):
                builder.store(builder.call(dot, [builder.load(total), both, column]), total)
    for i, totals in enumerate(sums):
        row = apart(builder, out, out_stride, i)
        for j, total in enumerate(totals):
            at = builder.add(row, INT64(j * VECTOR_BYTES))
            store_at(builder, builder.load(total), at, VECTOR_BYTES)


def _multiply_pairs(
    like: Any,
    rows: int,
    vectors: int,
    start: int,
    stride: int,
    panel: int,
    K: int,
    first: int,
    first_stride: int,
    out: int,
    out_stride: int,
) -> None:
    """Write rows times panel, [rows, vectors] vectors.

    Tiles read and write as many rows as they are configured for.

    Args:
        start, stride: the address of the first row, and bytes from one to the next.
        K: elements of a row, a multiple of 32.
        first, first_stride: what the product is added to, or 0; where its rows lie.
        out, out_stride: where the sum's rows go.
    """
    _multiply(like, rows, vectors, start, stride, panel, K, first, first_stride, out, out_stride)


multiply_pairs = specialised(_multiply_pairs)


def _rows_by_fma(
    like: Any,
    rows: int,
    vectors: int,
    table: int,
    start: int,
    stride: int,
    block_stride: int,
    k_stride: int,
    panel: int,
    K: int,
    out: int,
) -> None:
    """Write rows times panel: [rows, VECTORS] vectors at `out`, of which a row's first are made.

    Args:
        table: where the rows' addresses may be written.
        start, stride: the address of the first row, and bytes from one to the next.
        block_stride, k_stride: as `tile.multiply` has them; in pairs a row's elements are side by
            side.
    """
    for j in range(rows):
        store_word(table + 8 * j, start + j * stride)
    multiply(like, rows, vectors, table, block_stride, k_stride, panel, K, out)


def _rows_by_pairs(
    like: Any,
    rows: int,
    vectors: int,
    table: int,
    start: int,
    stride: int,
    block_stride: int,
    k_stride: int,
    panel: int,
    K: int,
    out: int,
) -> None:
    """The same in pairs; K is a multiple of 32. Tiles have as many rows as they are configured."""
    multiply_pairs(like, rows, vectors, start, stride, panel, K, 0, 0, out, _ROW_BYTES)


multiply_rows = either(_rows_by_fma, _rows_by_pairs)


def _not_onto(
    like: Any,
    rows: int,
    vectors: int,
    start: int,
    stride: int,
    panel: int,
    K: int,
    first: int,
    first_stride: int,
    out: int,
    out_stride: int,
) -> None:
    """Number by number, what a product is added to is added where the product is used."""


multiply_onto = either(_not_onto, _multiply_pairs)


@intrinsic
def interleave(typing: Any, like: Any, to: Any, first: Any, second: Any, columns: Any) -> Any:
    """Write one vector of a panel: of W columns the elements of two rows of a tensor, side by side.

    Args:
        columns: how many there are; the others are zero. A row at 0 has none.
    """

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, to, first, second, columns = args
        words = ir.VectorType(INT32, like.lanes)
        found = []
        for row in (first, second):
            none = builder.icmp_unsigned("==", row, INT64(0))
            bits = halves_at(builder, like.lanes, row, builder.select(none, INT64(0), columns))
            found.append(builder.zext(bits, words))
        upper = builder.shl(found[1], ir.Constant(words, [16] * like.lanes))
        store_at(builder, builder.or_(found[0], upper), to, VECTOR_BYTES)
        return context.get_dummy_value()

    return types.void(like, *(types.int64,) * 4), generate


@intrinsic
def transpose_pairs(
    typing: Any, like: Any, source: Any, row: Any, lines: Any, elements: Any, to: Any, column: Any
) -> Any:
    """Write W rows of 2 W elements, `row` bytes apart, as W vectors of pairs, `column` bytes apart.

    Args:
        lines, elements: how many rows there are, and elements of each; the others are zero.
    """
    W = like.lanes

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, source, row, lines, elements, to, column = args
        words = ir.VectorType(INT32, W)
        rows = []
        for i in range(W):
            there = builder.icmp_signed("<", INT64(i), lines)
            count = builder.select(there, elements, INT64(0))
            bits = halves_at(builder, 2 * W, apart(builder, source, row, i), count)
            rows.append(builder.bitcast(bits, words))
        for i, found in enumerate(transposed(builder, rows)):
            store_at(builder, found, apart(builder, to, column, i), VECTOR_BYTES)
        return context.get_dummy_value()

    return types.void(like, *(types.int64,) * 6), generate


@intrinsic
def copy_elements(typing: Any, like: Any, to: Any, source: Any, elements: Any) -> Any:
    """Copy one vector of 2 W elements of a tensor, of which only the first ones exist."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, to, source, elements = args
        store_at(builder, halves_at(builder, 2 * like.lanes, source, elements), to, 2)
        return context.get_dummy_value()

    return types.void(like, *(types.int64,) * 3), generate


@intrinsic
def load_operand(typing: Any, like: Any, address: Any) -> Any:
    """A whole vector of what is multiplied."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if like.in_pairs:
            return simd.load_part_at(builder, like, args[1], INT64(like.lanes))
        return load_at(builder, like.ir, args[1], like.stored_bytes)

    return like(like, types.int64), generate


@intrinsic
def store_operand(typing: Any, address: Any, vector: Any) -> Any:
    """Write a whole vector of what is multiplied."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = simd.narrowed(builder, vector, args[1]) if vector.in_pairs else args[1]
        store_at(builder, value, args[0], vector.stored_bytes)
        return context.get_dummy_value()

    return types.void(types.int64, vector), generate


@intrinsic
def store_all_operands(typing: Any, address: Any, stride: Any, vectors: Any) -> Any:
    """Write whole vectors of what is multiplied from an address on, a stride apart."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for at, vector in enumerate(vectors):
            value = builder.extract_value(args[2], at)
            value = simd.narrowed(builder, vector, value) if vector.in_pairs else value
            store_at(builder, value, apart(builder, args[0], args[1], at), vector.stored_bytes)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, vectors), generate


@intrinsic
def turn(typing: Any, like: Any, source: Any, row: Any, count: Any, to: Any, column: Any) -> Any:
    """Write 2 W rows of W elements, `row` bytes apart, as W rows of 2 W, `column` bytes apart.

    Args:
        count: how many rows there are; others are not read, and zero.
    """
    W = like.lanes

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, source, row, count, to, column = args
        words = ir.VectorType(INT32, W)

        def elements(i: int) -> Any:
            there = builder.icmp_signed("<", INT64(i), count)
            here = builder.select(there, INT64(W), INT64(0))
            return builder.zext(halves_at(builder, W, apart(builder, source, row, i), here), words)

        upper = ir.Constant(words, [16] * W)
        pairs = [
            builder.or_(elements(2 * i), builder.shl(elements(2 * i + 1), upper)) for i in range(W)
        ]
        for i, found in enumerate(transposed(builder, pairs)):
            store_at(builder, found, apart(builder, to, column, i), VECTOR_BYTES)
        return context.get_dummy_value()

    return types.void(like, *(types.int64,) * 5), generate
