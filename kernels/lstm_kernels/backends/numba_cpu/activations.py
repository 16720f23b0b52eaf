"""sigmoid and tanh on vectors, from one exponential: relative accuracy near 0, saturation far out.

e^y - 1 is made as Cody and Waite did: y = n ln 2 + r with |r| <= ln 2 / 2, e^r - 1 by its Taylor
series, n put into the exponent's bits. Keeping the 1 apart keeps tanh of a small number accurate to
that number's last bits. A NaN stays one. Source: Cody and Waite 1980, "Software Manual for the
Elementary Functions".
"""

import math
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
    in the lowest bits.
    """

    degree: int
    low: float
    high: float
    ln2_high: float
    round_to_int: float
    mantissa_bits: int
    exponent_bias: int


FORMATS = {
    32: Format(7, -87.0, 88.0, 0.693359375, 1.5 * 2**23, 23, 127),
    64: Format(13, -708.0, 709.0, 6.93145751953125e-1, 1.5 * 2**52, 52, 1023),
}
# ln 2 minus each ln2_high, which floats cannot subtract that exactly.
LN2_LOW = {32: -2.121944400546905827679e-4, 64: 1.42860682030941723212e-6}


@intrinsic
def expm1(typing: Any, y: Any) -> Any:
    """e^y - 1 of each element; y is cut where e^y would leave the format."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = y.scalar.bitwidth
        number_format = FORMATS[bits]

        def number(value: float) -> Any:
            return constant(y, value)

        # Comparisons with a NaN are false: it stays.
        value = args[0]
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
        biased = builder.add(
            exponent, word(number_format.exponent_bias << number_format.mantissa_bits)
        )
        power_of_two = builder.bitcast(biased, y.ir)
        rest = builder.fsub(power_of_two, number(1.0))
        return add(builder, multiply(builder, power_of_two, series), rest)

    return y(y), generate


@inlined
def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x)."""
    return 1.0 / (expm1(x * -1.0) + 2.0)


@inlined
def tanh(x: Any) -> Any:
    """(e^2x - 1) / (e^2x + 1)."""
    e = expm1(x * 2.0)
    return e / (e + 2.0)
