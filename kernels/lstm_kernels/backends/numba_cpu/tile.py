"""The one matrix product there is: a few rows times a panel of packed columns, in registers.

A panel is K rows of `vectors` vectors, one after another. Its product with up to ROWS rows of
another matrix takes ROWS * vectors accumulators, which stay in registers over all of K: each loaded
vector is used ROWS times, each broadcast element `vectors` times. Source: Goto and van de Geijn
2008, "Anatomy of High-Performance Matrix Multiplication".
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lstm_kernels.backends.numba_cpu.simd import (
    INT64,
    REGISTERS,
    VECTOR_BYTES,
    load_at,
    routine,
    splat,
    store_at,
)

# Accumulators and the vectors of one step of K fill the registers.
ROWS = 6 if REGISTERS == 32 else 3
VECTORS = 4
# Chains of dependent sums that keep the multipliers busy: 4 cycles of latency, 2 at a time.
CHAINS = 8
# What a thread keeps to itself: the addresses of a tile's rows, and their product.
TABLE_BYTES = 64
SCRATCH_BYTES = TABLE_BYTES + ROWS * VECTORS * VECTOR_BYTES


@intrinsic(prefer_literal=True)
def _multiply(
    typing: Any,
    like: Any,
    rows: Any,
    vectors: Any,
    row_addresses: Any,
    stride: Any,
    panel: Any,
    K: Any,
    out: Any,
) -> Any:
    count, width = rows.literal_value, vectors.literal_value
    itemsize = like.scalar.bitwidth // 8
    vector_bytes = itemsize * like.lanes
    # Few rows have too few accumulators: those of even and odd k are kept apart.
    unroll = 2 if count * width < CHAINS else 1

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, _, _, table, stride, panel, K, out = args
        kind = ir.FunctionType(like.ir, [like.ir] * 3)
        name = f"llvm.fma.{like.suffix}"
        fma = cgutils.get_or_insert_function(builder.module, kind, name)
        starts = [
            load_at(builder, INT64, builder.add(table, INT64(8 * i)), 8) for i in range(count)
        ]
        nothing = ir.Constant(like.ir, None)
        sums = [
            [[cgutils.alloca_once_value(builder, nothing) for _ in range(width)] for _ in starts]
            for _ in range(unroll)
        ]

        def one_k(k: Any, into: list[list[Any]]) -> None:
            at = builder.add(panel, builder.mul(k, INT64(width * vector_bytes)))
            columns = [
                load_at(builder, like.ir, builder.add(at, INT64(j * vector_bytes)), itemsize)
                for j in range(width)
            ]
            offset = builder.mul(k, stride)
            for start, row in zip(starts, into, strict=True):
                element = load_at(builder, like.ir_scalar, builder.add(start, offset), itemsize)
                broadcast = splat(builder, like, element)
                for column, total in zip(columns, row, strict=True):
                    fused = builder.call(fma, [broadcast, column, builder.load(total)])
                    builder.store(fused, total)

        rounds = builder.udiv(K, INT64(unroll))
        with cgutils.for_range(builder, rounds, intp=INT64) as loop:
            first = builder.mul(loop.index, INT64(unroll))
            for u, into in enumerate(sums):
                one_k(builder.add(first, INT64(u)), into)
        if unroll > 1:
            done = builder.mul(rounds, INT64(unroll))
            with cgutils.for_range_slice(builder, done, K, INT64(1), intp=INT64) as (k, _):
                one_k(k, sums[0])
        for i in range(count):
            for j in range(width):
                total = builder.load(sums[0][i][j])
                for other in sums[1:]:
                    total = builder.fadd(total, builder.load(other[i][j]))
                where = builder.add(out, INT64((i * VECTORS + j) * vector_bytes))
                store_at(builder, total, where, itemsize)
        return context.get_dummy_value()

    words = (types.int64,) * 5
    return types.void(like, rows, vectors, *words), generate


@routine
def multiply(like: Any, rows: int, table: int, stride: int, panel: int, K: int, out: int) -> None:
    """Write rows times panel: [rows, VECTORS] vectors at `out`.

    Args:
        like: any vector of the panel's type.
        rows: 1 to ROWS.
        table: address of the rows' addresses, an int64 each.
        stride: bytes from one element of a row to the next.
        panel: address of [K, VECTORS] vectors.
    """
    if rows == 1:
        _multiply(like, 1, 4, table, stride, panel, K, out)
    elif rows == 2:
        _multiply(like, 2, 4, table, stride, panel, K, out)
    elif rows == 3:
        _multiply(like, 3, 4, table, stride, panel, K, out)
    elif rows == 4:
        _multiply(like, 4, 4, table, stride, panel, K, out)
    elif rows == 5:
        _multiply(like, 5, 4, table, stride, panel, K, out)
    else:
        _multiply(like, 6, 4, table, stride, panel, K, out)


@routine
def multiply_three(
    like: Any, rows: int, table: int, stride: int, panel: int, K: int, out: int
) -> None:
    """The same with panels of [K, 3] vectors; every fourth vector at `out` is left as it is."""
    if rows == 1:
        _multiply(like, 1, 3, table, stride, panel, K, out)
    elif rows == 2:
        _multiply(like, 2, 3, table, stride, panel, K, out)
    elif rows == 3:
        _multiply(like, 3, 3, table, stride, panel, K, out)
    elif rows == 4:
        _multiply(like, 4, 3, table, stride, panel, K, out)
    elif rows == 5:
        _multiply(like, 5, 3, table, stride, panel, K, out)
    else:
        _multiply(like, 6, 3, table, stride, panel, K, out)
