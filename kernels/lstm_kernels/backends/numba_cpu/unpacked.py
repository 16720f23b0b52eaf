"""Products with weights as they are: a few rows times some rows of W, both along K.

Packing costs as much as some steps do, so short sequences are faster without. A sum of K products
is a vector of W sums, whose elements are added up at the end: those of W sums at once, by W - 1
additions of vectors. So K should be many times W.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from lstm_kernels.backends.numba_cpu.simd import (
    INT64,
    VECTOR_BYTES,
    Vector,
    apart,
    interleaved,
    intrinsic,
    load_at,
    load_part_at,
    mask_of,
    specialised,
    store_at,
)
from lstm_kernels.backends.numba_cpu.tile import ROWS

# How many rows of W are multiplied at once: with several others, as many as fill the registers.
_AT_ONCE = 4
# With a lone row memory is the bound, and fewer are read faster: at H=256 these two take 0.79 of
# the time of eight, and 0.90 of that of four. Each then has two sums, to keep the multipliers busy.
_AT_ONCE_WITH_ONE = 2
_CHAINS_OF_ONE = 2


@intrinsic
def _multiply(
    typing: Any,
    like: Any,
    rows: Any,
    table: Any,
    w: Any,
    units: Any,
    K: Any,
    out: Any,
    stride: Any,
) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, rows, table, *others = args
        sums = cgutils.alloca_once(builder, like.ir, size=INT64(ROWS * like.lanes))
        for count in range(1, ROWS + 1):
            with builder.if_then(builder.icmp_signed("==", rows, INT64(count))):
                starts = [
                    load_at(builder, INT64, builder.add(table, INT64(8 * i)), 8)
                    for i in range(count)
                ]
                _of_rows(builder, like, starts, sums, *others)
        return context.get_dummy_value()

    return types.void(like, *(types.int64,) * 7), generate


def _of_rows(
    builder: Any,
    like: Vector,
    starts: list[Any],
    sums: Any,
    w: Any,
    units: Any,
    K: Any,
    out: Any,
    stride: Any,
) -> None:
    """The IR of a product of the rows at those addresses; `sums` is memory for W vectors each."""
    W, count = like.lanes, len(starts)
    at_once = min(W, _AT_ONCE_WITH_ONE if count == 1 else _AT_ONCE)
    row_bytes = builder.mul(K, INT64(like.stored_bytes))
    last = builder.sub(units, INT64(1))
    with cgutils.for_range(builder, INT64(W // at_once), intp=INT64) as loop:
        first = builder.mul(loop.index, INT64(at_once))
        lines = [builder.add(first, INT64(j)) for j in range(at_once)]
        # Of units that do not exist W has no rows: the last one stands in.
        there = (builder.select(builder.icmp_signed("<", j, last), j, last) for j in lines)
        columns = [builder.add(w, builder.mul(j, row_bytes)) for j in there]
        for i, of_row in enumerate(_along(builder, like, starts, columns, K)):
            for line, found in zip(lines, of_row, strict=True):
                builder.store(found, builder.gep(sums, [builder.add(line, INT64(i * W))]))
    exists = mask_of(builder, W, units)
    for i in range(count):
        vectors = [builder.load(builder.gep(sums, [INT64(i * W + j)])) for j in range(W)]
        total = builder.select(exists, _added_up(builder, vectors), ir.Constant(like.ir, None))
        store_at(builder, total, apart(builder, out, stride, i), like.stored_bytes)


def _along(
    builder: Any, like: Vector, starts: list[Any], columns: list[Any], K: Any
) -> list[list[Any]]:
    """The IR of the sums of products of each row and each row of W, a vector each."""
    kind = ir.FunctionType(like.ir, [like.ir] * 3)
    # Fused where the CPU can; llvm.fma is a call of libm an element where it cannot.
    fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.{like.suffix}")
    chains = _CHAINS_OF_ONE if len(starts) == 1 else 1
    sums = [[[cgutils.alloca_once(builder, like.ir) for _ in columns] for _ in starts]]
    sums += [[[cgutils.alloca_once(builder, like.ir) for _ in columns]] for _ in range(1, chains)]
    for total in (total for chain in sums for of_row in chain for total in of_row):
        builder.store(ir.Constant(like.ir, None), total)

    def add(load: Callable[[Any], Any], block: Any, into: list[list[Any]]) -> None:
        offset = builder.mul(block, INT64(VECTOR_BYTES))
        elements = [load(builder.add(start, offset)) for start in starts]
        for j, column in enumerate(columns):
            weights = load(builder.add(column, offset))
            for element, of_row in zip(elements, into, strict=True):
                fused = builder.call(fma, [element, weights, builder.load(of_row[j])])
                builder.store(fused, of_row[j])

    def whole(at: Any) -> Any:
        return load_at(builder, like.ir, at, like.stored_bytes)

    def part(at: Any) -> Any:
        return load_part_at(builder, like, at, rest)

    blocks, rest = (divide(K, INT64(like.lanes)) for divide in (builder.udiv, builder.urem))
    turns = builder.udiv(K, INT64(like.lanes * chains))
    with cgutils.for_range(builder, turns, intp=INT64) as loop:
        for i, into in enumerate(sums):
            add(whole, builder.add(builder.mul(loop.index, INT64(chains)), INT64(i)), into)
    for i, into in enumerate(sums[1:]):
        block = builder.add(builder.mul(turns, INT64(chains)), INT64(i))
        with builder.if_then(builder.icmp_unsigned("<", block, blocks)):
            add(whole, block, into)
    with builder.if_then(builder.icmp_unsigned(">", rest, INT64(0))):
        add(part, blocks, sums[0])
    return [
        [_all_of(builder, [chain[i][j] for chain in sums]) for j in range(len(columns))]
        for i in range(len(starts))
    ]


def _all_of(builder: Any, totals: list[Any]) -> Any:
    found = builder.load(totals[0])
    for other in totals[1:]:
        found = builder.fadd(found, builder.load(other))
    return found


def _added_up(builder: Any, vectors: list[Any]) -> Any:
    """The IR of a vector: its element i is the sum of the elements of the i-th of W vectors."""
    while len(vectors) > 1:
        half = len(vectors) // 2
        # Two vectors of sums become one, of half as many sums of each, side by side.
        vectors = [
            builder.fadd(*(interleaved(builder, a, b, upper=upper) for upper in (False, True)))
            for a, b in zip(vectors[:half], vectors[half:], strict=True)
        ]
    return vectors[0]


@specialised
def multiply_unpacked(
    like: Any, rows: int, table: int, w: int, units: int, K: int, out: int, stride: int
) -> None:
    """Write rows times rows of W: for each row a vector of units, zero for those not there.

    Args:
        rows: 1 to ROWS, or less for none.
        table: address of the rows' addresses, an int64 each.
        w: address of the first unit's row of W; those of other units lie behind it.
        units: how many there are; only the first of them are multiplied, as many as a vector has.
        K: elements of a row.
        out, stride: where the first vector goes, and bytes from one to the next.
    """
    _multiply(like, rows, table, w, units, K, out, stride)
