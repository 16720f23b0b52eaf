"""Time stamps in kernels: each adds what a thread spent since its last one to a phase.

Only kernels whose record has the field `stamps` have any (`compiling.KERNELS`). In the others a
stamp becomes no instruction, so their machine code is as if the source had none.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from lstm_kernels.backends.numba_cpu import target
from lstm_kernels.backends.numba_cpu.arguments import STAMPS, Arguments, load_field
from lstm_kernels.backends.numba_cpu.simd import INT32, INT64, intrinsic, load_at, store_at
from lstm_kernels.backends.numba_cpu.stamp_lines import (
    BEGAN_AT,
    HOST_AT,
    LAST_AT,
    LINE_BYTES,
    SUMS_AT,
)

# By family, what lets everything before it finish, and its operands; Arm's 15 is the whole system.
_FENCES: dict[str, tuple[Any, ...]] = {
    "x86_64": ("llvm.x86.sse2.lfence",),
    "aarch64": ("llvm.aarch64.isb", INT32(15)),
}


@intrinsic
def clock_starts(typing: Any, a: Any, thread: Any) -> Any:
    """A thread begins: what it does from here on is counted."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if _has_stamps(a):
            line = _line_of(builder, a, args[0], args[1])
            now = _ticks(builder)
            for offset in (BEGAN_AT, LAST_AT):
                store_at(builder, now, _at(builder, line, offset), 8)
            # Behind the counter: where another program comes between, a tick is taken for
            # shorter, and no phase for longer than it was.
            store_at(builder, _host_ns(builder), _at(builder, line, HOST_AT), 8)
        return context.get_dummy_value()

    return types.void(a, types.int64), generate


@intrinsic
def stamp(typing: Any, a: Any, thread: Any, phase: Any) -> Any:
    """What a thread did since its last stamp was a phase, by its number in `stamp_lines`."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if _has_stamps(a):
            line = _line_of(builder, a, args[0], args[1])
            now, last = _ticks(builder), _at(builder, line, LAST_AT)
            place = _at(builder, builder.add(line, builder.mul(args[2], INT64(8))), SUMS_AT)
            spent = builder.sub(now, load_at(builder, INT64, last, 8))
            store_at(builder, builder.add(load_at(builder, INT64, place, 8), spent), place, 8)
            store_at(builder, now, last, 8)
        return context.get_dummy_value()

    return types.void(a, types.int64, types.int64), generate


def _has_stamps(a: Arguments) -> bool:
    return STAMPS in a.fields


def _line_of(builder: Any, a: Arguments, record: Any, thread: Any) -> Any:
    """The IR of where a thread's line begins."""
    lines = load_field(builder, a, record, STAMPS)
    return builder.add(lines, builder.mul(thread, INT64(LINE_BYTES)))


def _at(builder: Any, line: Any, offset: int) -> Any:
    return builder.add(line, INT64(offset))


def _host_ns(builder: Any) -> Any:
    """The IR of the time on the host's clock in ns."""
    seconds = _call(builder, "omp_get_wtime", ir.DoubleType())
    return builder.fptosi(builder.fmul(seconds, ir.DoubleType()(1e9)), INT64)


def _ticks(builder: Any) -> Any:
    """The IR of a counter once everything before it is done: the CPU's, or the host's clock."""
    if target.machine() not in _FENCES:
        return _host_ns(builder)
    fence, *operands = _FENCES[target.machine()]
    _call(builder, fence, ir.VoidType(), *operands)
    if target.machine() == "x86_64":
        return _call(builder, "llvm.readcyclecounter", INT64)
    # LLVM's cycle counter of an Arm is one that a program may not read.
    register = builder.module.add_metadata(["CNTVCT_EL0"])
    return _call(builder, "llvm.read_volatile_register.i64", INT64, register)


def _call(builder: Any, name: str, result: Any, *operands: Any) -> Any:
    """The IR of a call of a C function or an intrinsic of LLVM's."""
    kind = ir.FunctionType(result, [operand.type for operand in operands])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), operands)
