"""As many multiply-adds as a thread's vector units do, nothing read and nothing written.

No library's product reaches this rate, but a hand-written kernel may come near: so this, not the
best library, is the bound that no product can beat.
"""

# Numba's decorators and llvmlite have no types.
# mypy: disable-error-code="untyped-decorator"

from typing import Any

import llvmlite.binding as llvm
import numba
import numba.extending
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

_FEATURES = llvm.get_host_cpu_features()
VECTOR_BYTES = 64 if _FEATURES.get("avx512f") else 32 if _FEATURES.get("avx") else 16
# Sums that do not wait for each other: enough to hide a multiply-add's latency, few enough for the
# registers, of which two hold the factor and the summand.
SUMS = 24 if _FEATURES.get("avx512f") else 12

BYTES = {"float32": 4, "float64": 8}


@numba.extending.intrinsic
def _sums(typing: Any, start: Any, repeats: Any) -> Any:
    """Sums of this many multiply-adds, added up; `start` is a number of the type to add."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        scalar = context.get_value_type(start)
        lanes = VECTOR_BYTES // (start.bitwidth // 8)
        vector = ir.VectorType(scalar, lanes)
        given = ir.Constant(vector, ir.Undefined)
        for lane in range(lanes):
            given = builder.insert_element(given, arguments[0], ir.IntType(32)(lane))
        kind = ir.FunctionType(vector, [vector] * 3)
        name = f"llvm.fma.v{lanes}f{start.bitwidth}"
        multiply_add = cgutils.get_or_insert_function(builder.module, kind, name)
        sums = [cgutils.alloca_once_value(builder, given) for _ in range(SUMS)]
        with cgutils.for_range(builder, arguments[1]):
            for each in sums:
                made = builder.call(multiply_add, [builder.load(each), given, given])
                builder.store(made, each)
        total = builder.load(sums[0])
        for each in sums[1:]:
            total = builder.fadd(total, builder.load(each))
        return builder.extract_element(total, ir.IntType(32)(0))

    return start(start, types.int64), generate


@numba.njit(nogil=True)
def _run(start: Any, repeats: int) -> Any:
    return _sums(start, repeats)


def multiply_adds(dtype: str, repeats: int) -> int:
    """Do this many rounds of multiply-adds on this thread; return how many operations they were.

    Args:
        dtype: a key of `BYTES`.
    """
    # With x * 0.5 + 0.5 sums stay between 0 and 1: nothing overflows or becomes subnormal.
    start = np.dtype(dtype).type(0.5)
    _run(start, repeats)
    return 2 * SUMS * (VECTOR_BYTES // BYTES[dtype]) * repeats
