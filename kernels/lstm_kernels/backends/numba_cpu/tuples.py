"""Several vectors at once, a tuple: those of one unit block that lie a stride apart in memory.

Their number is known when a kernel is compiled, so that a tuple is in that many registers.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types

from lstm_kernels.backends.numba_cpu.cell_code import cell_layout
from lstm_kernels.backends.numba_cpu.simd import (
    INT64,
    VECTOR_BYTES,
    apart,
    intrinsic,
    load_at,
    load_part_at,
    mask_of,
    store_at,
    store_part_at,
)


def _tuple_of(like: Any, count: int) -> Any:
    return types.UniTuple(like, count) if count else types.Tuple(())


def _elements(builder: Any, kind: Any, value: Any) -> list[Any]:
    return [builder.extract_value(value, at) for at in range(len(kind))]


@intrinsic
def load_all(typing: Any, like: Any, address: Any, stride: Any, count: Any) -> Any:
    """The `count` vectors from an address on, a stride apart."""
    found = _tuple_of(like, count.literal_value)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, address, stride, _ = args
        vectors = [
            load_at(builder, like.ir, apart(builder, address, stride, at), _itemsize(like))
            for at in range(len(found))
        ]
        return context.make_tuple(builder, found, vectors)

    return found(like, types.int64, types.int64, count), generate


@intrinsic
def load_all_parts(
    typing: Any, like: Any, address: Any, stride: Any, count: Any, elements: Any
) -> Any:
    """The same of the first `elements` of each vector, and zeros; no more is read."""
    found = _tuple_of(like, count.literal_value)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, address, stride, _, elements = args
        vectors = [
            load_part_at(builder, like, apart(builder, address, stride, at), elements)
            for at in range(len(found))
        ]
        return context.make_tuple(builder, found, vectors)

    return found(like, types.int64, types.int64, count, types.int64), generate


@intrinsic
def store_all(typing: Any, address: Any, stride: Any, vectors: Any) -> Any:
    """Write vectors from an address on, a stride apart."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address, stride, values = args
        for at, value in enumerate(_elements(builder, vectors, values)):
            where = apart(builder, address, stride, at)
            store_at(builder, value, where, _itemsize(vectors[at]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, vectors), generate


@intrinsic
def store_all_parts(typing: Any, address: Any, stride: Any, vectors: Any, elements: Any) -> Any:
    """The same for the first `elements` of each; what is behind does not change."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address, stride, values, elements = args
        for at, value in enumerate(_elements(builder, vectors, values)):
            where = apart(builder, address, stride, at)
            store_part_at(builder, vectors[at], value, where, elements)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, vectors, types.int64), generate


@intrinsic
def pre_activations(typing: Any, cell: Any, like: Any, gates: Any, product: Any) -> Any:
    """A block's pre-activations: what `gates` has, and the product with W_hh where it goes in.

    Where matrices are multiplied in pairs and the cell is `joined`, the product has all.
    """
    layout = cell_layout(cell)
    found = _tuple_of(like, layout.slots)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, _, gates, product = args

        def vector(base: Any, at: int) -> Any:
            where = apart(builder, base, INT64(VECTOR_BYTES), at)
            return load_at(builder, like.ir, where, _itemsize(like))

        vectors = []
        for slot, gate in enumerate(layout.h_gate_of):
            if like.in_pairs and layout.joined:
                vectors.append(vector(product, gate))
                continue
            value = vector(gates, slot)
            if gate >= 0:
                value = builder.fadd(vector(product, gate), value, flags=("contract",))
            vectors.append(value)
        return context.make_tuple(builder, found, vectors)

    return found(cell, like, types.int64, types.int64), generate


@intrinsic
def kept_of(typing: Any, cell: Any, own: Any) -> Any:
    """A unit's states other than h that the backward uses."""
    kept = cell_layout(cell).kept
    return _picked(cell, own, kept)


@intrinsic
def in_places(typing: Any, cell: Any, d_slots: Any) -> Any:
    """The slots' gradients in the order of their places."""
    place_of = cell_layout(cell).place_of
    return _picked(cell, d_slots, [place_of.index(at) for at in range(len(place_of))])


def _picked(cell: Any, vectors: Any, picks: Sequence[int]) -> tuple[Any, Any]:
    found = types.Tuple([vectors[at] for at in picks])

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = [builder.extract_value(args[1], at) for at in picks]
        return context.make_tuple(builder, found, values)

    return found(cell, vectors), generate


@intrinsic
def first_elements(typing: Any, vectors: Any, elements: Any) -> Any:
    """The first `elements` of each vector, and zeros."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = [
            builder.select(mask_of(builder, kind.lanes, args[1]), value, ir.Constant(kind.ir, None))
            for kind, value in zip(vectors, _elements(builder, vectors, args[0]), strict=True)
        ]
        return context.make_tuple(builder, vectors, values)

    return vectors(vectors, types.int64), generate


@intrinsic
def load_kept(typing: Any, cell: Any, like: Any, address: Any) -> Any:
    """A unit's states other than h; those that were not kept are zero."""
    layout = cell_layout(cell)
    found = _tuple_of(like, layout.own)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vectors = [context.get_constant_null(like)] * layout.own
        for at, state in enumerate(layout.kept):
            where = apart(builder, args[2], INT64(VECTOR_BYTES), at)
            vectors[state] = load_at(builder, like.ir, where, _itemsize(like))
        return context.make_tuple(builder, found, vectors)

    return found(cell, like, types.int64), generate


def _itemsize(vector: Any) -> int:
    size: int = vector.scalar.bitwidth // 8
    return size
