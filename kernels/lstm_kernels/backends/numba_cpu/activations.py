"""sigmoid, tanh, exp and log on vectors: relative accuracy near 0, saturation far out.

e^y - 1 is made as Cody and Waite did: y = n ln 2 + r with |r| <= ln 2 / 2, e^r - 1 by a polynomial,
n put into the exponent's bits. Keeping the 1 apart keeps tanh of a small number accurate to that
number's last bits. A NaN stays one. Source: Cody and Waite 1980, "Software Manual for the
Elementary Functions".
"""

import math
import struct
from dataclasses import dataclass
from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numpy.polynomial import chebyshev

from lstm_kernels.backends.numba_cpu.simd import (
    VECTOR_BYTES,
    add,
    constant,
    intrinsic,
    multiply,
)


@dataclass(frozen=True)
class Format:
    """The facts about a float format that the exponential needs.

    `degree` is where the polynomial of e^r - 1 ends: it is off by less than half a unit in the last
    place. `low` and `high` bound y, so that 2^n is a normal number, and so is 1 / e^-low. In
    `ln2_high` are so few bits that n times it is exact. Adding `round_to_int` leaves a number's
    nearest whole number in the lowest bits. `log_degree` is the last power of the logarithm's
    series, for |s| < 0.172.
    """

    degree: int
    low: float
    high: float
    ln2_high: float
    round_to_int: float
    mantissa_bits: int
    exponent_bias: int
    log_degree: int


FORMATS = {
    32: Format(6, -87.0, 88.0, 0.693359375, 1.5 * 2**23, 23, 127, 11),
    64: Format(12, -708.0, 709.0, 6.93145751953125e-1, 1.5 * 2**52, 52, 1023, 23),
}
# ln 2 minus each ln2_high, which floats cannot subtract that exactly.
LN2_LOW = {32: -2.121944400546905827679e-4, 64: 1.42860682030941723212e-6}
# Terms of e^r's own series that are more than enough for any degree above.
TERMS = 20


@intrinsic
def sigmoid(typing: Any, x: Any) -> Any:
    """1 / (1 + e^-x) of each element."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = _cut(builder, x, args[0], 1)
        power_of_two, series = _exponential(builder, x, value, -1)
        one = constant(x, 1.0)
        above = builder.fadd(power_of_two, one)
        return _quotient(
            builder, x, one, _fma(builder, x, builder.fneg(power_of_two), series, above)
        )

    return x(x), generate


@intrinsic
def tanh(typing: Any, x: Any) -> Any:
    """(e^2x - 1) / (e^2x + 1) of each element, both halved."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = _cut(builder, x, args[0], 2)
        power_of_two, series = _exponential(builder, x, value, 2)
        half = constant(x, 0.5)
        less = _fma(builder, x, power_of_two, half, constant(x, -0.5))
        more = _fma(builder, x, power_of_two, half, half)
        less = _fma(builder, x, power_of_two, series, less)
        more = _fma(builder, x, power_of_two, series, more)
        return _quotient(builder, x, less, more)

    return x(x), generate


@intrinsic
def exp(typing: Any, y: Any) -> Any:
    """e^y of each element; what is not a normal number is 0, or infinite."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        number_format = FORMATS[y.scalar.bitwidth]
        low, high = constant(y, number_format.low), constant(y, number_format.high)
        below, value = _bounded(builder, "<", args[0], low)
        above, value = _bounded(builder, ">", value, high)
        power_of_two, series = _exponential(builder, y, value, 1)
        found = add(builder, multiply(builder, power_of_two, series), power_of_two)
        found = builder.select(below, constant(y, 0.0), found)
        return builder.select(above, constant(y, math.inf), found)

    return y(y), generate


def _cut(builder: Any, x: Any, value: Any, scale: int) -> Any:
    """The same, but where e^(scale x) or its inverse would leave the format."""
    bound = -FORMATS[x.scalar.bitwidth].low / scale
    _, value = _bounded(builder, ">", value, constant(x, bound))
    return _bounded(builder, "<", value, constant(x, -bound))[1]


def _bounded(builder: Any, sign: str, value: Any, bound: Any) -> tuple[Any, Any]:
    """Whether a value is beyond a bound, and then the bound."""
    # Comparisons with a NaN are false: it stays.
    beyond = builder.fcmp_ordered(sign, value, bound)
    return beyond, builder.select(beyond, bound, value)


def _exponential(builder: Any, x: Any, value: Any, scale: int) -> tuple[Any, Any]:
    """2^n and (e^r - 1) / scale, where scale x = n ln 2 + r; the scale is 1, -1 or 2.

    What is divided is x, so that scaling it takes no instruction of its own.
    """
    bits = x.scalar.bitwidth
    number_format = FORMATS[bits]

    def number(value: float) -> Any:
        return constant(x, value)

    rounding = number(number_format.round_to_int)
    shifted = add(builder, multiply(builder, value, number(scale / math.log(2))), rounding)
    n = builder.fsub(shifted, rounding)
    r = add(builder, multiply(builder, n, number(-number_format.ln2_high / scale)), value)
    r = add(builder, multiply(builder, n, number(-LN2_LOW[bits] / scale)), r)
    square = multiply(builder, r, r)
    # (e^r - 1 - r) / r^2 in pairs of terms: a chain half as long as one term after another.
    terms = [
        number(term * scale ** (power + 1))
        for power, term in enumerate(_terms(number_format.degree - 2))
    ]
    pairs = [
        add(builder, multiply(builder, odd, r), even)
        for even, odd in zip(terms[::2], terms[1::2], strict=False)
    ] + terms[len(terms) // 2 * 2 :]
    series = pairs.pop()
    while pairs:
        series = add(builder, multiply(builder, series, square), pairs.pop())
    series = add(builder, multiply(builder, square, series), r)

    words = ir.VectorType(x.ir_bits, x.lanes)

    def word(value: int) -> Any:
        return ir.Constant(words, [value] * x.lanes)

    exponent = builder.shl(builder.bitcast(shifted, words), word(number_format.mantissa_bits))
    biased = builder.add(exponent, word(number_format.exponent_bias << number_format.mantissa_bits))
    return builder.bitcast(biased, x.ir), series


@cache
def _terms(degree: int) -> list[float]:
    """The polynomial nearest to (e^r - 1 - r) / r^2 for |r| <= ln 2 / 2, within a few per cent.

    It interpolates at Chebyshev's points: with a degree less it is as near as Taylor's.
    """
    reach = math.log(2) / 2

    def exact(u: Any) -> Any:
        return sum((u * reach) ** k / math.factorial(k + 2) for k in range(TERMS))

    scaled = chebyshev.cheb2poly(chebyshev.chebinterpolate(exact, degree))
    return [float(term) / reach**power for power, term in enumerate(scaled)]


def _quotient(builder: Any, x: Any, a: Any, b: Any) -> Any:
    """A / b of normal numbers, within a unit in the last place.

    A division of 16 floats keeps Intel's divider busy for 16 cycles; the inverse to 14 bits and one
    step of Newton's take three multiplications.
    """
    if x.scalar.bitwidth != 32 or VECTOR_BYTES != 64:
        return builder.fdiv(a, b)
    mask = ir.IntType(16)
    kind = ir.FunctionType(x.ir, [x.ir, x.ir, mask])
    rcp14 = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.rcp14.ps.512")
    inverse = builder.call(rcp14, [b, ir.Constant(x.ir, None), mask(-1)])
    if x.in_pairs:
        # Far more accurate than bfloat16.
        return builder.fmul(a, inverse)
    error = _fma(builder, x, builder.fneg(b), inverse, constant(x, 1.0))
    near = builder.fmul(a, inverse)
    return _fma(builder, x, near, error, near)


def _fma(builder: Any, x: Any, a: Any, b: Any, c: Any) -> Any:
    """A b + c, fused where the CPU can, even if a b is needed twice."""
    kind = ir.FunctionType(x.ir, [x.ir] * 3)
    fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.{x.suffix}")
    return builder.call(fma, [a, b, c])


@intrinsic
def log(typing: Any, x: Any) -> Any:
    """The natural logarithm of each element: n ln 2 + 2 artanh(s) of x = 2^n (1 + s) / (1 - s)."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = x.scalar.bitwidth
        number_format = FORMATS[bits]
        shift, bias = number_format.mantissa_bits, number_format.exponent_bias
        words = ir.VectorType(x.ir_bits, x.lanes)

        def number(value: float) -> Any:
            return constant(x, value)

        def word(value: int) -> Any:
            return ir.Constant(words, [value] * x.lanes)

        # Numbers below the normal ones are made normal first.
        is_small = builder.fcmp_ordered("<", args[0], number(2.0 ** (1 - bias)))
        larger = builder.fmul(args[0], number(2.0 ** (shift + 1)))
        value = builder.bitcast(builder.select(is_small, larger, args[0]), words)
        # 1 / sqrt 2 as an integer: what is left of a number's bits is 2^n, and its like below 2.
        half = _bits_of(math.sqrt(0.5), bits)
        above = builder.ashr(builder.sub(value, word(half)), word(shift))
        n = builder.sitofp(above, x.ir)
        n = builder.fsub(n, builder.select(is_small, number(shift + 1.0), number(0.0)))
        value = builder.bitcast(builder.sub(value, builder.shl(above, word(shift))), x.ir)
        f = builder.fsub(value, number(1.0))
        s = builder.fdiv(f, builder.fadd(f, number(2.0)))
        square = builder.fmul(s, s)
        series = number(0.0)
        for power in range(number_format.log_degree, 2, -2):
            series = multiply(builder, add(builder, number(1 / power), series), square)
        # 2 s (1 + series), whose greatest part, 2 s, is f less f s: f alone has no rounding in it.
        product = builder.fmul(s, builder.fsub(multiply(builder, number(2.0), series), f))
        rest = add(builder, multiply(builder, n, number(LN2_LOW[bits])), product)
        found = builder.fadd(rest, f)
        found = add(builder, multiply(builder, n, number(number_format.ln2_high)), found)
        found = builder.select(
            builder.fcmp_ordered("==", args[0], number(math.inf)), args[0], found
        )
        found = builder.select(
            builder.fcmp_ordered("==", args[0], number(0.0)), number(-math.inf), found
        )
        # Neither a NaN nor a number below 0 has a logarithm.
        is_none = builder.fcmp_unordered("<", args[0], number(0.0))
        return builder.select(is_none, number(math.nan), found)

    return x(x), generate


def _bits_of(value: float, bits: int) -> int:
    """A number's bits in a float format, as an integer."""
    kinds = {32: ("f", "i"), 64: ("d", "q")}[bits]
    (found,) = struct.unpack(kinds[1], struct.pack(kinds[0], value))
    return int(found)
