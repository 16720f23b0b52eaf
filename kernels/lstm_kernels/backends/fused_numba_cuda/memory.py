"""Loads and stores that Numba does not have, as PTX; under the simulator, as plain Python.

An index here is used directly: Numba's own arrays check whether it counts from the end.
Every access to memory that others write says so to the compiler (`side_effect`, a clobber of
memory): Numba's own `cuda.ldcg` does not, and may be moved across a barrier. For the relaxed ones
and the bits of NOT_YET see `exchange.py`.
"""

# Device code is not Python: Numba types these functions itself.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import types

from lstm_kernels.gpu.numba_launching import SIMULATED


@dataclass(frozen=True)
class Access:
    """The PTX of what blocks tell each other by, for elements of one dtype."""

    load: str
    load_four: str
    store: str


# Relaxed: one that L1 may not answer, and that the compiler may neither drop nor repeat. An
# instruction has 16 bytes at most: four float32, and two float64.
ACCESS = {
    "float32": Access(
        "ld.relaxed.gpu.global.f32 $0, [$1];",
        "ld.relaxed.gpu.global.v4.f32 {$0, $1, $2, $3}, [$4];",
        "st.relaxed.gpu.global.f32 [$0], $1;",
    ),
    "float64": Access(
        "ld.relaxed.gpu.global.f64 $0, [$1];",
        "ld.relaxed.gpu.global.v2.f64 {$0, $1}, [$4]; "
        "ld.relaxed.gpu.global.v2.f64 {$2, $3}, [$4 + 16];",
        "st.relaxed.gpu.global.f64 [$0], $1;",
    ),
}
TRAP = "trap;"

# What memory holds that nobody wrote yet, in each of its words of 32 bits: a quiet NaN as float32,
# and two of it as float64. Neither a GPU's own NaN (0x7fffffff) nor PyTorch's (0x7fc00000).
NOT_YET = 0xFFFFA6F1
# By bytes of an element: that, and the NaN that is written in its place.
NOT_YET_BITS = {4: NOT_YET, 8: NOT_YET << 32 | NOT_YET}
INSTEAD_BITS = {4: 0x7FC00000, 8: 0x7FF8 << 48}

if SIMULATED:

    def load_shared(shared, at):
        """An element of shared memory."""
        assert at >= 0
        return shared[at]

    def store_shared(shared, at, value):
        """Store an element to shared memory."""
        assert at >= 0
        shared[at] = value

    def load_four(shared, at):
        """Four elements of shared memory from a multiple of 4 on."""
        assert at % 4 == 0
        return shared[at], shared[at + 1], shared[at + 2], shared[at + 3]

    def store_four(shared, at, a, b, c, d):
        """Store four elements to shared memory from a multiple of 4 on."""
        assert at % 4 == 0
        shared[at], shared[at + 1], shared[at + 2], shared[at + 3] = a, b, c, d

    def load_four_relaxed(array, at):
        """Four elements of global memory that other SMs write, from a 16-byte boundary on."""
        return array[at], array[at + 1], array[at + 2], array[at + 3]

    def load_relaxed(array, at):
        """An element of global memory that other SMs write."""
        return array[at]

    def store_relaxed(array, at, value):
        """Store an element that other SMs wait for."""
        array[at] = value

    def is_not_yet(value):
        """Whether these are the bits of what nobody wrote yet."""
        bits = np.asarray(value).view(f"u{value.itemsize}")
        return int(bits) == NOT_YET_BITS[value.itemsize]

    def some_not_yet(a, b, c, d):
        """Whether any of the four are."""
        return is_not_yet(a) or is_not_yet(b) or is_not_yet(c) or is_not_yet(d)

    def other_than_not_yet(value):
        """The value, or another NaN where it has those bits."""
        if is_not_yet(value):
            instead = np.array(INSTEAD_BITS[value.itemsize], f"u{value.itemsize}")
            return instead.view(value.dtype)[()]
        return value

    def unknown(number):
        """The same number; the compiler must compute again what depends on it."""
        return number

    def trap():
        """End the kernel, and its process's use of the GPU, with an error."""
        raise RuntimeError("trap")

else:
    from llvmlite import ir
    from numba.cuda.extending import intrinsic

    @dataclass(frozen=True)
    class _Element:
        """What a dtype is to the compiler: a number, its bits, a register; and its accesses."""

        llvm: Any
        bits: Any
        bytes: int
        constraint: str
        access: Access

    _ELEMENTS = {
        types.float32: _Element(ir.FloatType(), ir.IntType(32), 4, "f", ACCESS["float32"]),
        types.float64: _Element(ir.DoubleType(), ir.IntType(64), 8, "d", ACCESS["float64"]),
    }

    def _asm(builder, result: Any, operands: list[Any], text: str, constraints: str) -> Any:
        kind = ir.FunctionType(result, [operand.type for operand in operands])
        assembly = ir.InlineAsm(kind, text, constraints, side_effect=True)
        return builder.call(assembly, operands)

    def _element(builder, pointer, at) -> Any:
        return builder.gep(pointer, [at])

    def _shared_element(context, builder, signature, arguments) -> Any:
        """A pointer to an element of a shared array; the first two arguments say which."""
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return _element(builder, array.data, arguments[1])

    def _four_of(context, builder, signature, arguments) -> Any:
        pointer = _shared_element(context, builder, signature, arguments)
        element = _ELEMENTS[signature.args[0].dtype].llvm
        return builder.bitcast(pointer, ir.VectorType(element, 4).as_pointer())

    @intrinsic
    def load_shared(typing_context, shared, at):
        """An element of shared memory."""

        def generate(context, builder, signature, arguments):
            return builder.load(_shared_element(context, builder, signature, arguments))

        return shared.dtype(shared, at), generate

    @intrinsic
    def store_shared(typing_context, shared, at, value):
        """Store an element to shared memory."""

        def generate(context, builder, signature, arguments):
            kinds = signature.args
            cast = context.cast(builder, arguments[2], kinds[2], kinds[0].dtype)
            builder.store(cast, _shared_element(context, builder, signature, arguments))
            return context.get_dummy_value()

        return types.void(shared, at, value), generate

    @intrinsic
    def load_four(typing_context, shared, at):
        """Four elements of shared memory from a multiple of 4 on."""

        def generate(context, builder, signature, arguments):
            pointer = _four_of(context, builder, signature, arguments)
            loaded = builder.load(pointer, align=16)
            lanes = [
                builder.extract_element(loaded, ir.Constant(ir.IntType(32), lane))
                for lane in range(4)
            ]
            return context.make_tuple(builder, signature.return_type, lanes)

        return types.UniTuple(shared.dtype, 4)(shared, at), generate

    @intrinsic
    def store_four(typing_context, shared, at, a, b, c, d):
        """Store four elements to shared memory from a multiple of 4 on."""

        def generate(context, builder, signature, arguments):
            element = _ELEMENTS[signature.args[0].dtype].llvm
            four = ir.Constant(ir.VectorType(element, 4), ir.Undefined)
            for lane, value in enumerate(arguments[2:]):
                four = builder.insert_element(four, value, ir.Constant(ir.IntType(32), lane))
            pointer = _four_of(context, builder, signature, arguments)
            builder.store(four, pointer, align=16)
            return context.get_dummy_value()

        return types.void(shared, at, *[shared.dtype] * 4), generate

    @intrinsic
    def load_four_relaxed(typing_context, array, at):
        """Four elements of global memory that other SMs write, from a 16-byte boundary on."""

        def generate(context, builder, signature, arguments):
            pointer = _element(builder, *arguments)
            element = _ELEMENTS[array.dtype]
            four = ir.LiteralStructType([element.llvm] * 4)
            constraints = f"={element.constraint}," * 4 + "l,~{memory}"
            loaded = _asm(builder, four, [pointer], element.access.load_four, constraints)
            lanes = [builder.extract_value(loaded, lane) for lane in range(4)]
            return context.make_tuple(builder, signature.return_type, lanes)

        return types.UniTuple(array.dtype, 4)(array, at), generate

    @intrinsic
    def load_relaxed(typing_context, array, at):
        """An element of global memory that other SMs write."""

        def generate(context, builder, signature, arguments):
            pointer = _element(builder, *arguments)
            element = _ELEMENTS[array.dtype]
            constraints = f"={element.constraint},l,~{{memory}}"
            return _asm(builder, element.llvm, [pointer], element.access.load, constraints)

        return array.dtype(array, at), generate

    @intrinsic
    def store_relaxed(typing_context, array, at, value):
        """Store an element that other SMs wait for."""

        def generate(context, builder, signature, arguments):
            element = _ELEMENTS[array.dtype]
            pointer = _element(builder, *arguments[:2])
            cast = context.cast(builder, arguments[2], signature.args[2], array.dtype)
            constraints = f"l,{element.constraint},~{{memory}}"
            _asm(builder, ir.VoidType(), [pointer, cast], element.access.store, constraints)
            return context.get_dummy_value()

        return types.void(array, at, value), generate

    def _is_not_yet(builder, kind: Any, value: Any) -> Any:
        element = _ELEMENTS[kind]
        bits = builder.bitcast(value, element.bits)
        return builder.icmp_unsigned(
            "==", bits, ir.Constant(element.bits, NOT_YET_BITS[element.bytes])
        )

    @intrinsic
    def is_not_yet(typing_context, value):
        """Whether these are the bits of what nobody wrote yet."""

        def generate(context, builder, signature, arguments):
            return _is_not_yet(builder, signature.args[0], arguments[0])

        return types.boolean(value), generate

    @intrinsic
    def some_not_yet(typing_context, a, b, c, d):
        """Whether any of the four are; no branch."""

        def generate(context, builder, signature, arguments):
            first, *others = (
                _is_not_yet(builder, kind, value)
                for kind, value in zip(signature.args, arguments, strict=True)
            )
            for other in others:
                first = builder.or_(first, other)
            return first

        return types.boolean(a, b, c, d), generate

    @intrinsic
    def other_than_not_yet(typing_context, value):
        """The value, or another NaN where it has those bits: by integers, which keep a NaN's."""

        def generate(context, builder, signature, arguments):
            element = _ELEMENTS[signature.args[0]]
            bits = builder.bitcast(arguments[0], element.bits)
            instead = ir.Constant(element.bits, INSTEAD_BITS[element.bytes])
            is_it = _is_not_yet(builder, signature.args[0], arguments[0])
            return builder.bitcast(builder.select(is_it, instead, bits), element.llvm)

        return value(value), generate

    @intrinsic
    def unknown(typing_context, number):
        """The same number; the compiler must compute again what depends on it."""

        def generate(context, builder, signature, arguments):
            cast = context.cast(builder, arguments[0], signature.args[0], types.int64)
            return _asm(builder, ir.IntType(64), [cast], "", "=l,0")

        return types.int64(number), generate

    @intrinsic
    def trap(typing_context):
        """End the kernel, and its process's use of the GPU, with an error."""

        def generate(context, builder, signature, arguments):
            _asm(builder, ir.VoidType(), [], TRAP, "~{memory}")
            return context.get_dummy_value()

        return types.void(), generate
