"""Norms within a step: over a sequence's units, or over the sequences of the batch.

A thread has to itself whatever a norm is of: some rows with all units, or some units with all rows.
So statistics need no other thread. What it normalises at once are lines, vectors of W units: the
blocks of a row, or the rows of a block. It collects what a step takes of them in memory of its own,
in sections of [count, lines, W] that are `stride` bytes a count:

    slots | states before | values of norms | states' gradients | values' gradients

and behind them, for each value, its mean and 1/deviation, two vectors. A value's gradient is first
that of its result, until the norm's backward replaces it. Of a row's units, those behind the last
one are zero in values and in gradients, and belong to no statistic.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.extending import overload

from lstm_kernels.backends.numba_cpu.cell_code import cell_layout
from lstm_kernels.backends.numba_cpu.choices import full_like
from lstm_kernels.backends.numba_cpu.layout import per_unit_of
from lstm_kernels.backends.numba_cpu.simd import (
    INT32,
    INT64,
    OPTIONS,
    VECTOR_BYTES,
    apart,
    choose,
    inlined,
    intrinsic,
    lanes,
    load,
    load_at,
    store,
    zero,
)
from lstm_kernels.backends.numba_cpu.tuples import first_elements, load_all, store_all

# `common.norms` has the same.
EPSILON = 1e-5

# One of two functions of kernels, by the first argument, a record: of norms over units, or over the
# batch.
by_norm = partial(choose, lambda a: bool(a.cell.attribute("over_batch")))


@inlined
def before_at(a: Any, memory: int, stride: int) -> int:
    """Where the states before the step are; the pre-activations are where the memory begins."""
    return memory + a.cell.slots * stride


@inlined
def _values_at(a: Any, memory: int, stride: int) -> int:
    return memory + (a.cell.slots + a.cell.states) * stride


@inlined
def d_after_at(a: Any, memory: int, stride: int) -> int:
    """Where the gradients of the states after the step are."""
    return memory + (a.cell.slots + a.cell.states + a.cell.values) * stride


@inlined
def _d_values_at(a: Any, memory: int, stride: int) -> int:
    return d_after_at(a, memory, stride) + a.cell.states * stride


@inlined
def _statistics_at(a: Any, memory: int, stride: int) -> int:
    return _d_values_at(a, memory, stride) + a.cell.values * stride


@inlined
def stage_of(a: Any, like: Any, d: int, memory: int, stride: int, line: int, u: int) -> Any:
    """What a stage takes of a line, which is of a block u: p, before, per_unit, normed, values."""
    at = line * VECTOR_BYTES
    values = load_all(like, _values_at(a, memory, stride) + at, stride, a.cell.values)
    return (
        load_all(like, memory + at, stride, a.cell.slots),
        load_all(like, before_at(a, memory, stride) + at, stride, a.cell.states),
        per_unit_of(a, like, d, u * lanes(like)),
        _normed(a.cell, like, values, _statistics_at(a, memory, stride)),
        values,
    )


@inlined
def d_stage_of(a: Any, like: Any, memory: int, stride: int, line: int) -> Any:
    """What a stage backward takes in addition: d_after, d_values."""
    at = line * VECTOR_BYTES
    return (
        load_all(like, d_after_at(a, memory, stride) + at, stride, a.cell.states),
        load_all(like, _d_values_at(a, memory, stride) + at, stride, a.cell.values),
    )


@intrinsic
def _normed(typing: Any, cell: Any, like: Any, values: Any, statistics: Any) -> Any:
    """Values less their mean, over their deviation."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        align, found = like.scalar.bitwidth // 8, []
        for at in range(len(values)):
            where = apart(builder, args[3], INT64(2 * VECTOR_BYTES), at)
            mean = load_at(builder, like.ir, where, align)
            scale = load_at(builder, like.ir, builder.add(where, INT64(VECTOR_BYTES)), align)
            difference = builder.fsub(builder.extract_value(args[2], at), mean)
            found.append(builder.fmul(difference, scale, flags=("contract",)))
        return context.make_tuple(builder, values, found)

    return values(cell, like, values, statistics), generate


def run_levels(a: Any, like: Any, d: int, memory: int, stride: int, lines: int, u: int) -> None:
    """The values of norms and their statistics, level by level.

    Args:
        lines: how many there are.
        u: the block of the first line.
    """
    raise NotImplementedError("kernels alone call it")  # by the overload below


def run_levels_back(
    a: Any, like: Any, d: int, memory: int, stride: int, lines: int, u: int
) -> None:
    """The gradients of the values of norms, from the last level to the first."""
    raise NotImplementedError("kernels alone call it")  # by the overload below


def _nothing(a: Any, like: Any, d: int, memory: int, stride: int, lines: int, u: int) -> None:
    """A level that a cell does not have."""


def _level_of(cell: Any, level: int) -> Callable[..., None]:
    """The values and statistics of one level."""
    make = cell.attribute(f"values_{level}")
    if make is None:
        return _nothing
    begin, end = (cell_layout(cell).level_begin[at] for at in (level - 1, level))
    first = cell_layout(cell).norm_begin[begin]

    def run(a: Any, like: Any, d: int, memory: int, stride: int, lines: int, u: int) -> None:
        to = _values_at(a, memory, stride) + first * stride
        for line in range(lines):
            block = u + line * a.cell.over_units
            p, before, per_unit, normed, values = stage_of(a, like, d, memory, stride, line, block)
            found = make(p, before, per_unit, normed, values)
            if a.H - block * lanes(like) < lanes(like):
                found = first_elements(found, a.H - block * lanes(like))
            store_all(to + line * VECTOR_BYTES, stride, found)
        for norm in range(begin, end):
            _take_statistics(a, like, memory, stride, lines, norm)

    return run


def _level_back_of(cell: Any, level: int) -> Callable[..., None]:
    """The gradients of one level's values."""
    make = cell.attribute(f"d_normed_{level}")
    if make is None:
        return _nothing
    begin, end = (cell_layout(cell).level_begin[at] for at in (level - 1, level))
    first = cell_layout(cell).norm_begin[begin]

    def run(a: Any, like: Any, d: int, memory: int, stride: int, lines: int, u: int) -> None:
        to = _d_values_at(a, memory, stride) + first * stride
        for line in range(lines):
            block = u + line * a.cell.over_units
            p, before, per_unit, normed, values = stage_of(a, like, d, memory, stride, line, block)
            d_after, d_values = d_stage_of(a, like, memory, stride, line)
            found = make(d_after, d_values, p, before, per_unit, normed, values)
            if a.H - block * lanes(like) < lanes(like):
                found = first_elements(found, a.H - block * lanes(like))
            store_all(to + line * VECTOR_BYTES, stride, found)
        for norm in range(begin, end):
            _go_back(a, like, memory, stride, lines, norm)

    return run


@overload(run_levels, jit_options=OPTIONS)  # type: ignore[untyped-decorator]  # numba ships no types
def _run_levels(a: Any, like: Any, d: int, memory: int, stride: int, lines: int, u: int) -> Any:
    one, two, three = (inlined(_level_of(a.cell, level)) for level in (1, 2, 3))

    def run(a: Any, like: Any, d: int, memory: int, stride: int, lines: int, u: int) -> None:
        one(a, like, d, memory, stride, lines, u)
        two(a, like, d, memory, stride, lines, u)
        three(a, like, d, memory, stride, lines, u)

    return run


@overload(run_levels_back, jit_options=OPTIONS)  # type: ignore[untyped-decorator]  # numba ships no types
def _run_levels_back(
    a: Any, like: Any, d: int, memory: int, stride: int, lines: int, u: int
) -> Any:
    three, two, one = (inlined(_level_back_of(a.cell, level)) for level in (3, 2, 1))

    def run(a: Any, like: Any, d: int, memory: int, stride: int, lines: int, u: int) -> None:
        three(a, like, d, memory, stride, lines, u)
        two(a, like, d, memory, stride, lines, u)
        one(a, like, d, memory, stride, lines, u)

    return run


# Variances are of differences from the mean: of squares of large numbers few digits would be left.


def _over_units(a: Any, like: Any, memory: int, stride: int, lines: int, norm: int) -> None:
    """The mean and 1/deviation of all of a norm's values."""
    begin, end = a.cell.norm_begin[norm], a.cell.norm_begin[norm + 1]
    at, share, total = _values_at(a, memory, stride), 1.0 / ((end - begin) * a.H), zero(like)
    for value in range(begin, end):
        for line in range(lines):
            total += load(like, at + value * stride + line * VECTOR_BYTES)
    mean = _sum_of(total) * share
    total = zero(like)
    for value in range(begin, end):
        for line in range(lines):
            difference = load(like, at + value * stride + line * VECTOR_BYTES) - mean
            if line == lines - 1:
                difference = first_elements((difference,), a.H - line * lanes(like))[0]
            total += difference * difference
    scale = _over_root_of(_sum_of(total) * share + EPSILON)
    for value in range(begin, end):
        to = _statistics_at(a, memory, stride) + 2 * value * VECTOR_BYTES
        store(to, mean)
        store(to + VECTOR_BYTES, scale)


def _over_batch(a: Any, like: Any, memory: int, stride: int, lines: int, norm: int) -> None:
    """The means and 1/deviations of each of a norm's values."""
    share = 1.0 / lines
    for value in range(a.cell.norm_begin[norm], a.cell.norm_begin[norm + 1]):
        at, total = _values_at(a, memory, stride) + value * stride, zero(like)
        for line in range(lines):
            total += load(like, at + line * VECTOR_BYTES)
        mean = total * share
        total = zero(like)
        for line in range(lines):
            difference = load(like, at + line * VECTOR_BYTES) - mean
            total += difference * difference
        to = _statistics_at(a, memory, stride) + 2 * value * VECTOR_BYTES
        store(to, mean)
        store(to + VECTOR_BYTES, _over_root_of(total * share + EPSILON))


_take_statistics = by_norm(_over_units, _over_batch)


def _back_over_units(a: Any, like: Any, memory: int, stride: int, lines: int, norm: int) -> None:
    """Replace the gradients of a norm's results by those of its values."""
    begin, end = a.cell.norm_begin[norm], a.cell.norm_begin[norm + 1]
    statistics = _statistics_at(a, memory, stride) + 2 * begin * VECTOR_BYTES
    mean, scale = load(like, statistics), load(like, statistics + VECTOR_BYTES)
    values, d_values = _values_at(a, memory, stride), _d_values_at(a, memory, stride)
    share = 1.0 / ((end - begin) * a.H)
    total, product = zero(like), zero(like)
    for value in range(begin, end):
        for line in range(lines):
            at = value * stride + line * VECTOR_BYTES
            d_result = load(like, d_values + at)
            total += d_result
            product += d_result * ((load(like, values + at) - mean) * scale)
    d_mean, d_scale = _sum_of(total) * share, _sum_of(product) * share
    for value in range(begin, end):
        for line in range(lines):
            at = value * stride + line * VECTOR_BYTES
            result = (load(like, values + at) - mean) * scale
            d_value = (load(like, d_values + at) - d_mean - result * d_scale) * scale
            if line == lines - 1:
                d_value = first_elements((d_value,), a.H - line * lanes(like))[0]
            store(d_values + at, d_value)


def _back_over_batch(a: Any, like: Any, memory: int, stride: int, lines: int, norm: int) -> None:
    """The same of each of its values."""
    share = 1.0 / lines
    for value in range(a.cell.norm_begin[norm], a.cell.norm_begin[norm + 1]):
        statistics = _statistics_at(a, memory, stride) + 2 * value * VECTOR_BYTES
        mean, scale = load(like, statistics), load(like, statistics + VECTOR_BYTES)
        values = _values_at(a, memory, stride) + value * stride
        d_values = _d_values_at(a, memory, stride) + value * stride
        total, product = zero(like), zero(like)
        for line in range(lines):
            d_result = load(like, d_values + line * VECTOR_BYTES)
            total += d_result
            product += d_result * ((load(like, values + line * VECTOR_BYTES) - mean) * scale)
        d_mean, d_scale = total * share, product * share
        for line in range(lines):
            at = d_values + line * VECTOR_BYTES
            result = (load(like, values + line * VECTOR_BYTES) - mean) * scale
            store(at, (load(like, at) - d_mean - result * d_scale) * scale)


_go_back = by_norm(_back_over_units, _back_over_batch)


@intrinsic
def _sum_of(typing: Any, vector: Any) -> Any:
    """A vector whose every element is the sum of all, added up in the same order for each."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        found, distance = args[0], vector.lanes // 2
        while distance:
            kind = ir.VectorType(INT32, vector.lanes)
            others = ir.Constant(kind, [at ^ distance for at in range(vector.lanes)])
            found = builder.fadd(found, builder.shuffle_vector(found, found, others))
            distance //= 2
        return found

    return vector(vector), generate


@inlined
def _over_root_of(vector: Any) -> Any:
    """1 over the square root of each element."""
    return full_like(vector, 1.0) / _root_of(vector)


@intrinsic
def _root_of(typing: Any, vector: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(vector.ir, [vector.ir])
        name = f"llvm.sqrt.{vector.suffix}"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return vector(vector), generate
