"""The one matrix product there is: a few rows times a panel of packed columns, in registers.

A panel is K rows of `vectors` vectors, one after another. Its product with up to ROWS rows of
another matrix takes ROWS * vectors accumulators, which stay in registers over all of K: each loaded
vector is used ROWS times, each broadcast element `vectors` times. Source: Goto and van de Geijn
2008, "Anatomy of High-Performance Matrix Multiplication".
"""

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from lstm_kernels.backends.numba_cpu.cell_layout import VECTORS
from lstm_kernels.backends.numba_cpu.simd import (
    INT64,
    REGISTERS,
    VECTOR_BYTES,
    intrinsic,
    load_at,
    prefetch_at,
    specialised,
    splat,
    store_at,
)

# What a step of K needs fills the registers: see `_turns`.
ROWS = 6 if REGISTERS == 32 else 3
# Where it is false, Numba compiles no product of more rows.
_HAS_MORE = ROWS > 3
# Chains of dependent sums that keep the multipliers busy: 4 cycles of latency, 2 at a time.
CHAINS = 8
# How many k a turn of the inner loop has. LLVM unrolls such a loop of few rows further, but not
# that of six.
UNROLLED = 2
# How far ahead of a lone row's product its panel is fetched: such a product is as fast as the
# second-level cache, and the processor's own prefetching starts again with every 4 KiB page.
# docs/numba-cpu-tried.md has what was tried.
AHEAD_BYTES = 2048
# How many blocks of W elements ahead those of the rows are fetched: the backward's lie a chunk of
# pairs apart, where no processor looks for them.
AHEAD_BLOCKS = 2


def _prefetch(builder: Any, addresses: list[Any]) -> None:
    for address in addresses:
        prefetch_at(builder, address, into=1)


@intrinsic
def _multiply(
    typing: Any,
    like: Any,
    rows: Any,
    vectors: Any,
    row_addresses: Any,
    block_stride: Any,
    stride: Any,
    panel: Any,
    K: Any,
    out: Any,
) -> Any:
    count, width, W = rows.literal_value, vectors.literal_value, like.lanes
    itemsize = like.scalar.bitwidth // 8
    # Few rows have too few accumulators: those of even and odd k are kept separately.
    chains = 2 if count * width < CHAINS else 1

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, _, _, table, block_stride, stride, panel, K, out = args
        kind = ir.FunctionType(like.ir, [like.ir] * 3)
        # Fused where the CPU can; llvm.fma is a call of libm an element where it cannot.
        fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.{like.suffix}")
        starts = [
            load_at(builder, INT64, builder.add(table, INT64(8 * i)), 8) for i in range(count)
        ]
        nothing = ir.Constant(like.ir, None)
        sums = [
            [[cgutils.alloca_once_value(builder, nothing) for _ in range(width)] for _ in starts]
            for _ in range(chains)
        ]

        def one_k(block: Any, k: Any, into: list[list[Any]]) -> None:
            """Add one row of the panel: the k-th of a block."""
            row = builder.add(builder.mul(block, INT64(W)), k)
            at = builder.add(panel, builder.mul(row, INT64(width * W * itemsize)))
            alone = range(width if count == 1 else 0)
            aheads = [INT64(AHEAD_BYTES + j * VECTOR_BYTES) for j in alone]
            _prefetch(builder, [builder.add(at, ahead) for ahead in aheads])
            offset = builder.add(builder.mul(block, block_stride), builder.mul(k, stride))

            @cache
            def element(i: int) -> Any:
                where = builder.add(starts[i], offset)
                return splat(builder, like, load_at(builder, like.ir_scalar, where, itemsize))

            @cache
            def column(j: int) -> Any:
                where = builder.add(at, INT64(j * W * itemsize))
                return load_at(builder, like.ir, where, itemsize)

            for i, j in _turns(count, width):
                total = into[i][j]
                fused = builder.call(fma, [element(i), column(j), builder.load(total)])
                builder.store(fused, total)

        blocks = builder.udiv(K, INT64(W))
        with cgutils.for_range(builder, blocks, intp=INT64) as outer:
            later = builder.mul(builder.add(outer.index, INT64(AHEAD_BLOCKS)), block_stride)
            _prefetch(builder, [builder.add(start, later) for start in starts])
            with cgutils.for_range(builder, INT64(W // UNROLLED), intp=INT64) as inner:
                first = builder.mul(inner.index, INT64(UNROLLED))
                for i in range(UNROLLED):
                    one_k(outer.index, builder.add(first, INT64(i)), sums[i % chains])
        with cgutils.for_range(builder, builder.urem(K, INT64(W)), intp=INT64) as rest:
            one_k(blocks, rest.index, sums[0])
        for i in range(count):
            for j in range(width):
                found = builder.load(sums[0][i][j])
                for other in sums[1:]:
                    found = builder.fadd(found, builder.load(other[i][j]))
                where = builder.add(out, INT64((i * VECTORS + j) * W * itemsize))
                store_at(builder, found, where, itemsize)
        return context.get_dummy_value()

    words = (types.int64,) * 6
    return types.void(like, rows, vectors, *words), generate


def _turns(rows: int, vectors: int) -> list[tuple[int, int]]:
    """A tile's places in the order they are added to.

    The fewer of a row's elements and the panel's vectors are all in registers at once, and the
    others one after another: 3 rows by 4 vectors take 16 registers, 6 rows by 4 vectors 29.
    """
    if rows < vectors:
        return [(i, j) for j in range(vectors) for i in range(rows)]
    return [(i, j) for i in range(rows) for j in range(vectors)]


@specialised
def multiply(
    like: Any,
    rows: int,
    vectors: int,
    table: int,
    block_stride: int,
    stride: int,
    panel: int,
    K: int,
    out: int,
) -> None:
    """Write rows times panel: [rows, VECTORS] vectors at `out`, of which a row's first are made.

    Args:
        like: any vector of the panel's type, of W elements.
        rows: 1 to ROWS, or less for none.
        vectors: 1 to VECTORS, known when this is compiled.
        table: address of the rows' addresses, an int64 each.
        block_stride, stride: bytes from W elements of a row to the next W, and from one to the
            next of them.
        panel: address of [K, vectors] vectors.
    """
    if rows == 1:
        _multiply(like, 1, vectors, table, block_stride, stride, panel, K, out)
    elif rows == 2:
        _multiply(like, 2, vectors, table, block_stride, stride, panel, K, out)
    elif rows == 3:
        _multiply(like, 3, vectors, table, block_stride, stride, panel, K, out)
    elif _HAS_MORE:
        if rows == 4:
            _multiply(like, 4, vectors, table, block_stride, stride, panel, K, out)
        elif rows == 5:
            _multiply(like, 5, vectors, table, block_stride, stride, panel, K, out)
        elif rows == 6:
            _multiply(like, 6, vectors, table, block_stride, stride, panel, K, out)
