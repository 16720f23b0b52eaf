"""How Numba compiles a kernel's functions: each is lowered once, and the kernel is optimised once.

By itself Numba optimises every function with all that it calls, and makes machine code of it, even
if kernels alone call it. Functions that call each other five deep are optimised five times. Here a
part of a kernel is IR, no more. The kernel is linked from its parts, and LLVM sees them once. Of
Numba's passes in Python only those run that a part can need. Source: Numba's documentation,
"Customizing the compiler".
"""

from collections.abc import Callable
from inspect import signature
from typing import Any
from uuid import uuid4

import llvmlite.binding as llvm
import numba
from numba.core.registry import cpu_target

from lstm_kernels.stack import Unsupported


def _not_this_numba(what: str) -> Unsupported:
    told = f"numba {numba.__version__} is not one that kernels can be compiled with"
    return Unsupported(f"{told}: {what}; install an earlier numba")


# Little of it is public, and any release of Numba may change it.
try:
    from numba._dynfunc import make_function
    from numba.core.cgutils import normalize_ir_text
    from numba.core.codegen import CodeLibrary
    from numba.core.compiler import CompilerBase, _LowerResult
    from numba.core.compiler_machinery import LoweringPass, PassManager, register_pass
    from numba.core.funcdesc import PythonFunctionDescriptor
    from numba.core.lowering import Lower
    from numba.core.typed_passes import (
        IRLegalization,
        NativeLowering,
        NoPythonBackend,
        NopythonTypeInference,
        PreLowerStripPhis,
    )
    from numba.core.untyped_passes import (
        DeadBranchPrune,
        FixupArgs,
        GenericRewrites,
        IRProcessing,
        ReconstructSSA,
        TranslateByteCode,
    )
except ImportError as error:
    raise _not_this_numba(str(error).partition(" (")[0]) from None

# Those before the code generator: a part has no closures, generators, arrays or exceptions.
_FRONT = (
    TranslateByteCode,
    FixupArgs,
    IRProcessing,
    DeadBranchPrune,
    GenericRewrites,
    ReconstructSSA,
    NopythonTypeInference,
    PreLowerStripPhis,
    IRLegalization,
)


class _Library(CodeLibrary):  # type: ignore[misc]  # numba ships no types
    """A part's IR, and the libraries of what it calls."""

    def __init__(self, codegen: Any, name: str) -> None:
        super().__init__(codegen, name)
        self.called: dict[Any, None] = {}
        self._module: Any = None

    def add_linking_library(self, library: Any) -> None:
        self.called[library] = None

    def add_ir_module(self, ir_module: Any) -> None:
        self._module = llvm.parse_assembly(normalize_ir_text(str(ir_module)))
        for function in self._module.functions:
            if not function.is_declaration:
                # One of several kernels' parts, each of which has it to itself.
                function.linkage = "linkonce_odr"

    def finalize(self) -> None:
        self._finalized = True

    def _get_module_for_linking(self) -> Any:
        return self._module

    def get_function(self, name: str) -> Any:
        return self._module.get_function(name)

    def get_llvm_str(self) -> str:
        return str(self._module)

    def get_asm_str(self) -> str:
        raise NotImplementedError("a part of a kernel has no machine code of its own")


def changed() -> list[str]:
    """What this Numba has otherwise than it is used here: none, or no kernel can be compiled."""
    described = PythonFunctionDescriptor.from_specialized_function
    calls: dict[str, tuple[Callable[..., Any], int, tuple[str, ...]]] = {
        "from_specialized_function": (described, 4, ("mangler", "inline", "noalias", "abi_tags")),
        "Lower": (Lower, 5, ()),
        "_LowerResult": (_LowerResult, 4, ()),
    }
    found = []
    for name, (function, positional, named) in calls.items():
        try:
            signature(function).bind(*range(positional), **dict.fromkeys(named))
        except TypeError as reason:
            found.append(f"{name} takes other arguments, {reason}")
    found += [f"a CodeLibrary needs {name}" for name in sorted(_Library.__abstractmethods__)]
    if not hasattr(cpu_target.target_context.codegen().create_library(""), "_linking_libraries"):
        found.append("a library has no _linking_libraries")
    return found


if _otherwise := changed():
    raise _not_this_numba("; ".join(_otherwise))


@register_pass(mutates_CFG=True, analysis_only=False)
class _PartLowering(LoweringPass):  # type: ignore[misc]  # numba ships no types
    """Writes a part's IR."""

    _name = "part_lowering"

    def __init__(self) -> None:
        LoweringPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        context, flags = state.targetctx, state.flags
        state.library = library = _Library(context.codegen(), state.func_id.func_qualname)
        described = PythonFunctionDescriptor.from_specialized_function(
            state.func_ir,
            state.typemap,
            state.return_type,
            state.calltypes,
            mangler=_named,
            inline=flags.forceinline,
            noalias=flags.noalias,
            abi_tags=(),
        )
        with context.push_code_library(library):
            lower = Lower(context, library, described, state.func_ir, state.metadata)
            lower.lower()
        # What Python would call, by which Numba finds the function; nothing calls it.
        module, name = described.lookup_module(), described.qualname
        entry = make_function(module, name, "", 0, lower.env, (library,))
        context.insert_user_function(entry, described, [library])
        state.cr = _LowerResult(described, lower.call_helper, entry, lower.env)
        return True


def _named(name: str, argtypes: Any, *, abi_tags: Any = (), uid: int | None = None) -> str:
    """A symbol for a function; Numba's own has all its types in it, a kilobyte of text.

    No other process's function may have it: LLVM takes two of one name for the same function, and
    Numba's cache brings those of earlier processes.
    """
    return f"{name}.{uuid4().hex}"


@register_pass(mutates_CFG=True, analysis_only=False)
class _KernelLinking(LoweringPass):  # type: ignore[misc]  # numba ships no types
    """Adds to a kernel's library what the functions that it calls call themselves."""

    _name = "kernel_linking"

    def __init__(self) -> None:
        LoweringPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        libraries = state.library._linking_libraries
        waiting = list(libraries)
        while waiting:
            library = waiting.pop()
            # Numba's own functions have what they call in theirs.
            for called in library.called if isinstance(library, _Library) else ():
                if called not in libraries:
                    state.library.add_linking_library(called)
                    waiting.append(called)
        return True


def _pipeline(name: str, *behind: Any) -> Any:
    passes = PassManager(name)
    for each in (*_FRONT, *behind, NoPythonBackend):
        passes.add_pass(each, each.name())
    passes.finalize()
    return passes


class PartCompiler(CompilerBase):  # type: ignore[misc]  # numba ships no types
    """Of functions that kernels call."""

    def define_pipelines(self) -> list[Any]:
        """Numba's passes, in their order."""
        return [_pipeline("part", _PartLowering)]


class KernelCompiler(CompilerBase):  # type: ignore[misc]  # numba ships no types
    """Of a kernel."""

    def define_pipelines(self) -> list[Any]:
        """Numba's passes, in their order."""
        return [_pipeline("kernel", NativeLowering, _KernelLinking)]
