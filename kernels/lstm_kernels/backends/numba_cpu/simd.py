"""A SIMD vector as a Numba type: arithmetic, loads and stores that are vector code by construction.

By itself LLVM does not vectorise loops over many arrays that may overlap, or calls of libm. Here
`a * b + c` on vectors is one instruction in any context. Memory is given by addresses,
int64, as C would: nothing checks a bound.
"""

import operator
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numba.extending
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import models, register_model

from lstm_kernels.backends.numba_cpu import target
from lstm_kernels.backends.numba_cpu.parts import PartCompiler


def _register_file() -> tuple[int, int]:
    """Bytes in a register, and how many registers there are."""
    if target.machine() == "x86_64":
        if target.has("avx512f"):
            return 64, 32
        return (32 if target.has("avx") else 16), 16
    return 16, 32 if target.machine() == "aarch64" else 16


VECTOR_BYTES, REGISTERS = _register_file()

# No Python and no C calls the functions of kernels: leaving out what would let them saves a quarter
# of the time that compiling takes.
OPTIONS: dict[str, Any] = {
    "nogil": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "error_model": "numpy",
    "pipeline_class": PartCompiler,
}

INT8, INT16, INT32, INT64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
# By family, an instruction that gives way and its operands; Arm's hint 1 is "yield".
_PAUSES: dict[str, tuple[Any, ...]] = {
    "x86_64": ("llvm.x86.sse2.pause",),
    "aarch64": ("llvm.aarch64.hint", INT32(1)),
}

Function = TypeVar("Function", bound=Callable[..., Any])


def routine(function: Function) -> Function:
    """Compile a function that kernels call; it raises nothing, so has no branches for that."""
    return _one_for_all_numbers(_compile(function, forceinline=False))


def specialised(function: Function) -> Function:
    """The same, compiled for each number that is known where it is called."""
    return _compile(function, forceinline=False)


def inlined(function: Function) -> Function:
    """The same, inlined into its caller."""
    return _compile(function, forceinline=True)


def _compile(function: Function, *, forceinline: bool) -> Function:
    compiled: Function = numba.njit(forceinline=forceinline, **OPTIONS)(function)
    return compiled


def _one_for_all_numbers(dispatcher: Any) -> Any:
    """Numba's function, so that a call with 0 compiles nothing more than one with any number."""
    of_types = dispatcher.get_call_template

    def of_any_numbers(args: Any, kws: Any) -> Any:
        return of_types(tuple(types.unliteral(arg) for arg in args), kws)

    dispatcher.get_call_template = of_any_numbers
    return dispatcher


def choose(is_second: Callable[[Any], bool], first: Function, second: Function) -> Function:
    """One of two functions of kernels, plain Python, by the type of the first argument.

    Only the one that is chosen is compiled.
    """

    def chosen(by: Any, *args: Any) -> Any:
        raise NotImplementedError("kernels alone call it")

    # Not strict: the choice needs no names for the arguments behind the first.
    @numba.extending.overload(chosen, jit_options=OPTIONS, strict=False, prefer_literal=True)  # type: ignore[untyped-decorator]  # numba ships no types
    def _choose(by: Any, *args: Any) -> Any:
        return second if is_second(by) else first

    return chosen  # type: ignore[return-value]  # kernels call either as it is


def either(of_numbers: Function, of_pairs: Function) -> Function:
    """One of two functions of kernels, whose first argument is a vector.

    Args:
        of_numbers: compiled where matrices are multiplied by multiply-adds.
        of_pairs: compiled where they are multiplied in pairs.
    """
    return choose(lambda like: like.in_pairs, of_numbers, of_pairs)


def intrinsic(typing: Callable[..., Any]) -> Callable[..., Any]:
    """A function of kernels whose IR `typing` generates; integers that are literal stay so."""
    made: Callable[..., Any] = numba.extending.intrinsic(prefer_literal=True)(typing)
    return made


class BFloat16(ir.Type):  # type: ignore[misc]  # llvmlite ships no types
    """LLVM's type of bfloat16, which llvmlite has no class for."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BFloat16)

    def __hash__(self) -> int:
        return hash(BFloat16)


class Vector(types.Type):  # type: ignore[misc]  # numba ships no types
    """As many elements of a float type as a register holds.

    `product` names how matrices are multiplied where these are computed with, as `pairing.Product`
    does. Where that is in pairs, tensors and what is multiplied are bfloat16, and a vector of such
    is widened when it is loaded. `stored_bytes` is an element of a tensor.
    """

    def __init__(self, scalar: Any, product: str = "fma") -> None:
        self.scalar = scalar
        self.product = product
        self.in_pairs = product != "fma"
        self.stored_bytes = 2 if self.in_pairs else scalar.bitwidth // 8
        self.lanes = VECTOR_BYTES // (scalar.bitwidth // 8)
        self.ir_scalar = ir.FloatType() if scalar.bitwidth == 32 else ir.DoubleType()
        self.ir_bits = ir.IntType(scalar.bitwidth)
        self.ir = ir.VectorType(self.ir_scalar, self.lanes)
        # How LLVM spells the type in the name of an intrinsic.
        self.suffix = f"v{self.lanes}f{scalar.bitwidth}"
        super().__init__(name=f"Vector({scalar}, {self.lanes}, {product})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):  # type: ignore[misc]  # numba ships no types
    """A vector is an LLVM vector, in a register and in memory."""

    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, fe_type.ir)


def splat(builder: Any, vector: Vector, scalar: Any) -> Any:
    """The IR of a vector whose every element is that scalar."""
    return splat_of(builder, vector.lanes, scalar)


def splat_of(builder: Any, lanes: int, scalar: Any) -> Any:
    """The IR of this many elements, each that scalar."""
    undefined = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, scalar, INT32(0))
    indices = ir.Constant(ir.VectorType(INT32, lanes), [0] * lanes)
    return builder.shuffle_vector(first, undefined, indices)


def constant(vector: Vector, value: float) -> Any:
    """The IR of a vector whose every element is that number."""
    return ir.Constant(vector.ir, [value] * vector.lanes)


def add(builder: Any, a: Any, b: Any) -> Any:
    """The IR of a + b; a product may be fused into it, and nothing else changes."""
    return builder.fadd(a, b, flags=("contract",))


def multiply(builder: Any, a: Any, b: Any) -> Any:
    """The IR of a * b."""
    return builder.fmul(a, b, flags=("contract",))


def between(
    python: Callable[..., Any],
    emit: Callable[..., Any],
    result_of: Callable[[Vector], Any] = lambda vector: vector,
) -> None:
    """Teach Numba an operator between two vectors, or a vector and a number.

    Args:
        emit: makes its IR from a builder and two vectors.
        result_of: the type of what it makes, from the vectors'.
    """

    @infer_global(python)
    class _Typing(AbstractTemplate):  # type: ignore[misc]  # numba ships no types
        def generic(self, args: Any, kws: Any) -> Any:
            vectors = [a for a in args if isinstance(a, Vector)]
            if len(args) != 2 or not vectors:
                return None
            vector = vectors[0]
            kinds = (a if a is vector else vector.scalar for a in args)
            return signature(result_of(vector), *kinds)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = next(kind for kind in sig.args if isinstance(kind, Vector))
        operands = [
            value if isinstance(kind, Vector) else splat(builder, vector, value)
            for kind, value in zip(sig.args, args, strict=True)
        ]
        return emit(builder, *operands)

    for kinds in ((Vector, Vector), (Vector, types.Float), (types.Float, Vector)):
        lower_builtin(python, *kinds)(lower)


between(operator.add, add)
between(operator.iadd, add)
between(operator.mul, multiply)
between(operator.sub, lambda builder, a, b: builder.fsub(a, b, flags=("contract",)))
between(operator.truediv, lambda builder, a, b: builder.fdiv(a, b))


@infer_global(operator.neg)
class _Negation(AbstractTemplate):  # type: ignore[misc]  # numba ships no types
    def generic(self, args: Any, kws: Any) -> Any:
        return signature(args[0], args[0]) if isinstance(args[0], Vector) else None


@lower_builtin(operator.neg, Vector)  # type: ignore[untyped-decorator]  # numba ships no types
def _negative(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.fneg(args[0], flags=("contract",))


@intrinsic
def zero(typing: Any, like: Any) -> Any:
    """A vector of zeros, like that vector or of elements like that scalar."""
    vector = like if isinstance(like, Vector) else Vector(like)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(vector.ir, None)

    return vector(like), generate


@intrinsic
def load(typing: Any, like: Any, address: Any) -> Any:
    """The vector at an address."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return load_at(builder, like.ir, args[1], like.scalar.bitwidth // 8)

    return like(like, types.int64), generate


@intrinsic
def store(typing: Any, address: Any, vector: Any) -> Any:
    """Write a vector at an address."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        store_at(builder, args[1], args[0], vector.scalar.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(types.int64, vector), generate


@intrinsic
def load_part(typing: Any, like: Any, address: Any, count: Any) -> Any:
    """The first `count` elements of a tensor at an address, and zeros; no more is read."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return load_part_at(builder, like, args[1], args[2])

    return like(like, types.int64, types.int64), generate


def load_part_at(builder: Any, vector: Vector, address: Any, count: Any) -> Any:
    """The IR of a part's load."""
    if not vector.in_pairs:
        mask = mask_of(builder, vector.lanes, count)
        return _masked_load(builder, vector.ir, vector.suffix, vector.stored_bytes, address, mask)
    bits = halves_at(builder, vector.lanes, address, count)
    return builder.fpext(builder.bitcast(bits, _halves(vector.lanes)), vector.ir)


def halves_at(builder: Any, lanes: int, address: Any, count: Any) -> Any:
    """The IR of the first `count` of this many 16-bit elements, as integers, and zeros."""
    mask = mask_of(builder, lanes, count)
    return _masked_load(builder, ir.VectorType(INT16, lanes), f"v{lanes}i16", 2, address, mask)


def _masked_load(builder: Any, kind: Any, suffix: str, align: int, address: Any, mask: Any) -> Any:
    """The IR of a load of some elements of a vector; the others are zero."""
    where = builder.inttoptr(address, kind.as_pointer())
    of = ir.FunctionType(kind, [where.type, INT32, mask.type, kind])
    name = f"llvm.masked.load.{suffix}.p0"
    function = cgutils.get_or_insert_function(builder.module, of, name)
    return builder.call(function, [where, INT32(align), mask, ir.Constant(kind, None)])


@intrinsic
def store_part(typing: Any, address: Any, vector: Any, count: Any) -> Any:
    """Write the first `count` elements of a vector to a tensor; what lies behind is left."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        store_part_at(builder, vector, args[1], args[0], args[2])
        return context.get_dummy_value()

    return types.void(types.int64, vector, types.int64), generate


def store_part_at(builder: Any, vector: Vector, value: Any, address: Any, count: Any) -> None:
    """The IR of a part's store."""
    kind, suffix = vector.ir, vector.suffix
    if vector.in_pairs:
        value, suffix = narrowed(builder, vector, value), f"v{vector.lanes}i16"
        kind = value.type
    mask = mask_of(builder, vector.lanes, count)
    where = builder.inttoptr(address, kind.as_pointer())
    of = ir.FunctionType(ir.VoidType(), [kind, where.type, INT32, mask.type])
    name = f"llvm.masked.store.{suffix}.p0"
    function = cgutils.get_or_insert_function(builder.module, of, name)
    builder.call(function, [value, where, INT32(vector.stored_bytes), mask])


def narrowed(builder: Any, vector: Vector, value: Any) -> Any:
    """The IR of a vector's elements rounded to 16 bits, as integers."""
    rounded = builder.fptrunc(value, _halves(vector.lanes))
    return builder.bitcast(rounded, ir.VectorType(INT16, vector.lanes))


def _halves(lanes: int) -> Any:
    return ir.VectorType(BFloat16(), lanes)


def mask_of(builder: Any, lanes: int, count: Any) -> Any:
    """The IR of which of this many elements are among the first `count`."""
    positions = ir.VectorType(INT32, lanes)
    counts = splat_of(builder, lanes, builder.trunc(count, INT32))
    return builder.icmp_signed("<", ir.Constant(positions, list(range(lanes))), counts)


@intrinsic
def transpose(typing: Any, like: Any, source: Any, row: Any, to: Any, column: Any) -> Any:
    """Write W rows of W elements, `row` bytes apart, as W columns, `column` bytes apart."""
    W = like.lanes
    size = like.scalar.bitwidth // 8

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, source, row, to, column = args
        rows = [load_at(builder, like.ir, apart(builder, source, row, i), size) for i in range(W)]
        for i, found in enumerate(transposed(builder, rows)):
            store_at(builder, found, apart(builder, to, column, i), size)
        return context.get_dummy_value()

    return types.void(like, *(types.int64,) * 4), generate


def transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """The IR of W rows of W elements as W columns."""
    W = len(rows)
    # A perfect shuffle of the rows moves one bit of each element's place from row to column.
    for _ in range(W.bit_length() - 1):
        pairs = zip(rows[: W // 2], rows[W // 2 :], strict=True)
        rows = [
            interleaved(builder, a, b, upper=upper) for a, b in pairs for upper in (False, True)
        ]
    return rows


def interleaved(builder: Any, a: Any, b: Any, *, upper: bool) -> Any:
    """The IR of the lower or upper half of a0 b0 a1 b1 and so on, of two vectors."""
    W = a.type.count
    start = W // 2 if upper else 0
    picks = [start + i // 2 + i % 2 * W for i in range(W)]
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT32, W), picks))


def apart(builder: Any, base: Any, stride: Any, index: int) -> Any:
    """The IR of an address, this many strides from another."""
    return builder.add(base, builder.mul(stride, INT64(index)))


def load_at(builder: Any, kind: Any, address: Any, align: int) -> Any:
    """The IR of a load of that type."""
    loaded = builder.load(builder.inttoptr(address, kind.as_pointer()))
    loaded.align = align
    return loaded


def store_at(builder: Any, value: Any, address: Any, align: int) -> None:
    """The IR of a store."""
    stored = builder.store(value, builder.inttoptr(address, value.type.as_pointer()))
    stored.align = align


@intrinsic
def load_word(typing: Any, address: Any) -> Any:
    """The int64 at an address."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return load_at(builder, INT64, args[0], 8)

    return types.int64(types.int64), generate


@intrinsic
def store_word(typing: Any, address: Any, word: Any) -> Any:
    """Write an int64 at an address."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        store_at(builder, args[1], args[0], 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


def prefetch_at(builder: Any, address: Any, into: int) -> None:
    """Prefetch the line at an address into the cache of that level; any address is allowed."""
    where = builder.inttoptr(address, ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [where.type, INT32, INT32, INT32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    # A load, of data; LLVM counts locality from none, 0, to the nearest cache, 3.
    builder.call(function, [where, INT32(0), INT32(4 - into), INT32(1)])


@intrinsic
def prefetch(typing: Any, address: Any) -> Any:
    """Prefetch the cache line at an address, to read it later; any address is allowed."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        prefetch_at(builder, args[0], into=2)
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def load_acquired(typing: Any, address: Any) -> Any:
    """The int64 at an address, and after it all that its writer had written before."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        where = builder.inttoptr(args[0], INT64.as_pointer())
        return builder.load_atomic(where, "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def store_released(typing: Any, address: Any, word: Any) -> Any:
    """Write an int64 at an address, after all that was written before."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        where = builder.inttoptr(args[0], INT64.as_pointer())
        builder.store_atomic(args[1], where, "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def pause(typing: Any) -> Any:
    """Leave a core's shared parts to its other thread for a moment, if the CPU can."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        name, *numbers = _PAUSES.get(target.machine(), (None,))
        if name is not None:
            kind = ir.FunctionType(ir.VoidType(), [INT32] * len(numbers))
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), numbers)
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def load_scalar(typing: Any, like: Any, address: Any) -> Any:
    """The one element at an address, of those a vector has."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return load_at(builder, like.ir_scalar, args[1], like.scalar.bitwidth // 8)

    return like.scalar(like, types.int64), generate


@intrinsic
def store_scalar(typing: Any, address: Any, scalar: Any) -> Any:
    """Write one element at an address."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        store_at(builder, args[1], args[0], scalar.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(types.int64, scalar), generate


@intrinsic
def lanes(typing: Any, like: Any) -> Any:
    """Elements in a vector of that type."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return INT64(like.lanes)

    return types.int64(like), generate


@intrinsic
def itemsize(typing: Any, like: Any) -> Any:
    """Bytes of one element of a tensor, and of what is multiplied."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return INT64(like.stored_bytes)

    return types.int64(like), generate
