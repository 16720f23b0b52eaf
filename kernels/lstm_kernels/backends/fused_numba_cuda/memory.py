"""Loads and flags that Numba has no words for, as PTX; under the simulator, as plain Python.

An index here is what it says: Numba's own arrays ask of each whether it counts from the end.
Every one that touches memory others write says so to the compiler (`side_effect`, a clobber of
memory): Numba's own `cuda.ldcg` does not, and may be moved across a barrier.
"""

# Device code is not Python: Numba types these functions itself.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from dataclasses import dataclass
from typing import Any

from numba import types

from lstm_kernels.gpu.numba_launching import SIMULATED

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

    def load_four_past_l1(array, at):
        """Four elements of global memory that other SMs wrote, from a 16-byte boundary on."""
        return array[at], array[at + 1], array[at + 2], array[at + 3]

    def load_past_l1(array, at):
        """An element of global memory that other SMs wrote."""
        return array[at]

    def load_acquire(counters, at):
        """A counter, and everything stored before what it counts is visible afterwards."""
        return counters[at]

    def add_release(counters, at):
        """Add one to a counter, after everything stored before it."""
        counters[at] += 1

    def trap():
        """End the kernel, and its process's use of the GPU, with an error."""
        raise RuntimeError("trap")

else:
    from llvmlite import ir
    from numba.cuda.extending import intrinsic

    @dataclass(frozen=True)
    class _Element:
        """What a dtype is to the compiler, and the PTX that loads one or four of it past L1."""

        llvm: Any
        constraint: str
        load: str
        load_four: str

    # A load has 16 bytes at most: four float32, and two float64.
    _ELEMENTS = {
        types.float32: _Element(
            ir.FloatType(),
            "f",
            "ld.global.cg.f32 $0, [$1];",
            "ld.global.cg.v4.f32 {$0, $1, $2, $3}, [$4];",
        ),
        types.float64: _Element(
            ir.DoubleType(),
            "d",
            "ld.global.cg.f64 $0, [$1];",
            "ld.global.cg.v2.f64 {$0, $1}, [$4]; ld.global.cg.v2.f64 {$2, $3}, [$4 + 16];",
        ),
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
    def load_four_past_l1(typing_context, array, at):
        """Four elements of global memory that other SMs wrote, from a 16-byte boundary on."""

        def generate(context, builder, signature, arguments):
            pointer = _element(builder, *arguments)
            element = _ELEMENTS[array.dtype]
            four = ir.LiteralStructType([element.llvm] * 4)
            constraints = f"={element.constraint}," * 4 + "l,~{memory}"
            loaded = _asm(builder, four, [pointer], element.load_four, constraints)
            lanes = [builder.extract_value(loaded, lane) for lane in range(4)]
            return context.make_tuple(builder, signature.return_type, lanes)

        return types.UniTuple(array.dtype, 4)(array, at), generate

    @intrinsic
    def load_past_l1(typing_context, array, at):
        """An element of global memory that other SMs wrote."""

        def generate(context, builder, signature, arguments):
            pointer = _element(builder, *arguments)
            element = _ELEMENTS[array.dtype]
            constraints = f"={element.constraint},l,~{{memory}}"
            return _asm(builder, element.llvm, [pointer], element.load, constraints)

        return array.dtype(array, at), generate

    @intrinsic
    def load_acquire(typing_context, counters, at):
        """A counter, and everything stored before what it counts is visible afterwards."""

        def generate(context, builder, signature, arguments):
            pointer = _element(builder, *arguments)
            text = "ld.acquire.gpu.global.u32 $0, [$1];"
            return _asm(builder, ir.IntType(32), [pointer], text, "=r,l,~{memory}")

        return types.int32(counters, at), generate

    @intrinsic
    def add_release(typing_context, counters, at):
        """Add one to a counter, after everything stored before it."""

        def generate(context, builder, signature, arguments):
            pointer = _element(builder, *arguments)
            text = "red.release.gpu.global.add.u32 [$0], 1;"
            _asm(builder, ir.VoidType(), [pointer], text, "l,~{memory}")
            return context.get_dummy_value()

        return types.void(counters, at), generate

    @intrinsic
    def trap(typing_context):
        """End the kernel, and its process's use of the GPU, with an error."""

        def generate(context, builder, signature, arguments):
            _asm(builder, ir.VoidType(), [], "trap;", "~{memory}")
            return context.get_dummy_value()

        return types.void(), generate
