"""Has Numba compile for a machine that this process does not run on, such as an AArch64.

Everything up to the object file is as on such a machine: what `target` is told, the passes, the
code generator. Only what would load the object is left out.
"""

from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numba
from numba.core.codegen import CPUCodegen, CPUCodeLibrary
from numba.core.registry import cpu_target

AARCH64, X86_64 = "aarch64-unknown-linux-gnu", "x86_64-unknown-linux-gnu"


class _Library(CPUCodeLibrary):  # type: ignore[misc]  # numba ships no types
    """Code that is not loaded."""

    def _finalize_specific(self) -> None:
        pass

    def get_pointer_to_function(self, name: str) -> int:
        self._ensure_finalized()
        return 0


class _Codegen(CPUCodegen):  # type: ignore[misc]  # numba ships no types
    """Numba's own, but for whose machine it is."""

    _library_class = _Library

    def __init__(self, triple: str, cpu: str, features: str) -> None:
        self._compiled_for = triple, cpu, features
        super().__init__("compiled_elsewhere")

    def _init(self, llvm_module: Any) -> None:
        triple, cpu, features = self._compiled_for
        self._tm = llvm.Target.from_triple(triple).create_target_machine(
            cpu=cpu, features=features, opt=3, reloc="pic", codemodel="default"
        )
        self._target_data = self._tm.target_data
        self._data_layout = str(self._target_data)
        # As Numba's own has them.
        self._loopvect, self._opt_level = False, 0

    def _create_empty_module(self, name: str) -> Any:
        module = super()._create_empty_module(name)
        module.triple = self._compiled_for[0]
        return module

    def _add_module(self, module: Any) -> None:
        pass

    def set_env(self, env_name: str, env: Any) -> None:
        pass

    def magic_tuple(self) -> tuple[str, str, str]:
        return self._compiled_for


def compile_for(triple: str, cpu: str, features: str = "") -> None:
    """From now on Numba compiles for that CPU of LLVM's; before any kernel is imported."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    cpu_target.target_context._internal_codegen = _Codegen(triple, cpu, features)


@cache
def kernel(
    pass_name: str, dtype: str, cell: str, product: str = "fma", by_head: bool = False
) -> tuple[Any, str]:
    """A kernel's library and the name of its C function.

    Args:
        product: how matrices are multiplied, "fma", "dot" or "amx".
        by_head: whether W_hh has several heads.
    """
    from lstm_kernels.backends.numba_cpu.arguments import signature_of
    from lstm_kernels.backends.numba_cpu.cell_code import type_of
    from lstm_kernels.backends.numba_cpu.compiling import KERNELS
    from lstm_kernels.backends.numba_cpu.parts import KernelCompiler
    from lstm_kernels.cells import CELLS

    function, fields = KERNELS[pass_name]
    signature = signature_of(fields, dtype, product, type_of(CELLS[cell], by_head))
    build = numba.cfunc(signature, error_model="numpy", pipeline_class=KernelCompiler)
    made = build(function)
    return made._library, made.native_name


def assembly_of(library: Any) -> str:
    """What LLVM makes of it, as text."""
    return str(library._codegen._tm.emit_assembly(library._final_module))


def object_of(library: Any) -> bytes:
    """The object file."""
    made: bytes = library._codegen._tm.emit_object(library._final_module)
    return made
