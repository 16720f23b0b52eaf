"""One vector or another, element by element; a NaN is never lost. Names are those of the cells'."""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import models, register_model

from lstm_kernels.backends.numba_cpu.simd import Vector, between, intrinsic, splat


class Mask(types.Type):  # type: ignore[misc]  # numba ships no types
    """For each element of a vector, whether a comparison holds."""

    def __init__(self, vector: Vector) -> None:
        self.ir = ir.VectorType(ir.IntType(1), vector.lanes)
        super().__init__(name=f"Mask({vector})")


@register_model(Mask)
class MaskModel(models.PrimitiveModel):  # type: ignore[misc]  # numba ships no types
    """A mask is an LLVM vector of bits."""

    def __init__(self, dmm: Any, fe_type: Mask) -> None:
        super().__init__(dmm, fe_type, fe_type.ir)


def _comparison(sign: str) -> Callable[..., Any]:
    # Comparisons with a NaN are false.
    return lambda builder, a, b: builder.fcmp_ordered(sign, a, b)


between(operator.lt, _comparison("<"), Mask)
between(operator.le, _comparison("<="), Mask)


def _of_two(generate_vector: Callable[..., Any]) -> Callable[..., Any]:
    """A function of two vectors, or of a vector and a number."""

    @intrinsic
    def function(typing: Any, a: Any, b: Any) -> Any:
        vector, kinds = _widened(a, b)

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return generate_vector(builder, vector, *_as_vectors(builder, vector, sig.args, args))

        return vector(*kinds), generate

    return function


def _with_nan(name: str) -> Callable[..., Any]:
    """One of LLVM's choices that return a NaN if either operand is one."""

    def generate(builder: Any, vector: Vector, a: Any, b: Any) -> Any:
        kind = ir.FunctionType(vector.ir, [vector.ir] * 2)
        full_name = f"llvm.{name}.{vector.suffix}"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, full_name), [a, b])

    return generate


maximum = _of_two(_with_nan("maximum"))
minimum = _of_two(_with_nan("minimum"))


@intrinsic
def relu(typing: Any, x: Any) -> Any:
    """The greater of x and 0."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        nothing = ir.Constant(x.ir, None)
        return builder.select(builder.fcmp_ordered("<=", args[0], nothing), nothing, args[0])

    return x(x), generate


@intrinsic
def where(typing: Any, mask: Any, a: Any, b: Any) -> Any:
    """`a` where the mask holds, else `b`; one of them may be a number."""
    vector, kinds = _widened(a, b)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(args[0], *_as_vectors(builder, vector, sig.args[1:], args[1:]))

    return vector(mask, *kinds), generate


@intrinsic
def full_like(typing: Any, like: Any, value: Any) -> Any:
    """A vector whose every element is that number."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return splat(builder, like, args[1])

    return like(like, like.scalar), generate


def _widened(a: Any, b: Any) -> tuple[Vector, tuple[Any, ...]]:
    """The vector type of two operands, and what each is taken as."""
    vector = a if isinstance(a, Vector) else b
    return vector, tuple(each if each is vector else vector.scalar for each in (a, b))


def _as_vectors(builder: Any, vector: Vector, kinds: Any, values: Any) -> list[Any]:
    return [
        value if isinstance(kind, Vector) else splat(builder, vector, value)
        for kind, value in zip(kinds, values, strict=True)
    ]
