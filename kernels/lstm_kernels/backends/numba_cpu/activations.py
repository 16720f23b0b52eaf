"""sigmoid, tanh, exp and log on vectors: relative accuracy near 0, saturation far out.

e^y - 1 is made as Cody and Waite did: y = n ln 2 + r with |r| <= ln 2 / 2, e^r - 1 by its Taylor
series, n put into the exponent's bits. Keeping the 1 apart keeps tanh of a small number accurate to
that number's last bits. A NaN stays one. Source: Cody and Waite 1980, "Software Manual for the
Elementary Functions".
"""

import math
import struct
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from lstm_kernels.backends.numba_cpu.simd import add, constant, inlined, intrinsic, multiply


@dataclass(frozen=True)
class Format:
    """What the exponential needs to know of a float format.

    `degree` is where the Taylor series ends: the next term is below half a unit in the last place
    at |r| = ln 2 / 2. `low` and `high` bound y, so that 2^n is a normal number. `ln2_high` has so
    few bits that n times it is exact. Adding `round_to_int` leaves a number's nearest whole number
    in the lowest bits. `log_degree` is the last power of the logarithm's series, for |s| < 0.172.
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
    32: Format(7, -87.0, 88.0, 0.693359375, 1.5 * 2**23, 23, 127, 11),
    64: Format(13, -708.0, 709.0, 6.93145751953125e-1, 1.5 * 2**52, 52, 1023, 23),
}
# ln 2 minus each ln2_high, which floats cannot subtract that exactly.
LN2_LOW = {32: -2.121944400546905827679e-4, 64: 1.42860682030941723212e-6}


@intrinsic
def expm1(typing: Any, y: Any) -> Any:
    """e^y - 1 of each element; y is cut where e^y would leave the format."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, _, power_of_two, series = _exponential(builder, y, args[0])
        rest = builder.fsub(power_of_two, constant(y, 1.0))
        return add(builder, multiply(builder, power_of_two, series), rest)

    return y(y), generate


@intrinsic
def exp(typing: Any, y: Any) -> Any:
    """e^y of each element; what is not a normal number is 0, or infinite."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        above, below, power_of_two, series = _exponential(builder, y, args[0])
        found = add(builder, multiply(builder, power_of_two, series), power_of_two)
        found = builder.select(below, constant(y, 0.0), found)
        return builder.select(above, constant(y, math.inf), found)

    return y(y), generate


def _exponential(builder: Any, y: Any, value: Any) -> tuple[Any, Any, Any, Any]:
    """Whether e^y is above and below what the format has; else 2^n and e^r - 1."""
    bits = y.scalar.bitwidth
    number_format = FORMATS[bits]

    def number(value: float) -> Any:
        return constant(y, value)

    # Comparisons with a NaN are false: it stays.
    above = builder.fcmp_ordered(">", value, number(number_format.high))
    value = builder.select(above, number(number_format.high), value)
    below = builder.fcmp_ordered("<", value, number(number_format.low))
    value = builder.select(below, number(number_format.low), value)

    shifted = builder.fadd(
        multiply(builder, value, number(1 / math.log(2))), number(number_format.round_to_int)
    )
    n = builder.fsub(shifted, number(number_format.round_to_int))
    r = add(builder, multiply(builder, n, number(-number_format.ln2_high)), value)
    r = add(builder, multiply(builder, n, number(-LN2_LOW[bits])), r)
    series = number(1 / math.factorial(number_format.degree))
    for power in range(number_format.degree - 1, 1, -1):
        series = add(builder, multiply(builder, series, r), number(1 / math.factorial(power)))
    series = add(builder, multiply(builder, multiply(builder, r, r), series), r)

    words = ir.VectorType(y.ir_bits, y.lanes)

    def word(value: int) -> Any:
        return ir.Constant(words, [value] * y.lanes)

    exponent = builder.shl(builder.bitcast(shifted, words), word(number_format.mantissa_bits))
    biased = builder.add(exponent, word(number_format.exponent_bias << number_format.mantissa_bits))
    return above, below, builder.bitcast(biased, y.ir), series


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

        # What is below the normal numbers is made one first.
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
        # Neither a NaN nor what is below 0 has one.
        is_none = builder.fcmp_unordered("<", args[0], number(0.0))
        return builder.select(is_none, number(math.nan), found)

    return x(x), generate


def _bits_of(value: float, bits: int) -> int:
    """A number's bits in a float format, as an integer."""
    kinds = {32: ("f", "i"), 64: ("d", "q")}[bits]
    (found,) = struct.unpack(kinds[1], struct.pack(kinds[0], value))
    return int(found)


@inlined
def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x)."""
    return 1.0 / (expm1(x * -1.0) + 2.0)


@inlined
def tanh(x: Any) -> Any:
    """(e^2x - 1) / (e^2x + 1)."""
    e = expm1(x * 2.0)
    return e / (e + 2.0)
