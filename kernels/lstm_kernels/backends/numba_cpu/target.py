"""The target of kernels: the same as Numba's, according to LLVM itself.

It is this machine's CPU, unless NUMBA_CPU_NAME and NUMBA_CPU_FEATURES name another. Numba takes the
first as LLVM's name and the second as changes to it, "+avx2,-avx512f". A name alone changes
no features: those stay the CPU's own until NUMBA_CPU_FEATURES is set, even to an empty text.
"""

from collections.abc import Iterable
from functools import cache

import llvmlite.binding as llvm
import numba
from numba.core.registry import cpu_target

# What LLVM looks for on an AArch64 under Linux; it does not tell which of them it did not find.
_LOOKED_FOR = {"aarch64": ("crc", "lse", "sve", "sve2")}
# Features whose instructions LLVM makes only of calls that name them, which no kernel has. LLVM's
# names of CPUs have many that a virtual machine hides.
_BY_NAME_ALONE = """
    aes cldemote clflushopt clwb clzero crc32 enqcmd fsgsbase fxsr hreset invpcid kl lwp movdir64b
    movdiri mwaitx pclmul pconfig pku prefetchi ptwrite rdpid rdpru rdrnd rdseed rtm serialize sgx
    sha sha512 shstk sm3 sm4 tsxldtrk uintr usermsr vaes vpclmulqdq waitpkg wbnoinvd widekl xsave
    xsavec xsaveopt xsaves
"""


def compiled_for() -> tuple[str, str, str]:
    """LLVM's triple, its name of a CPU, and changes to that CPU's features."""
    triple, cpu, features = cpu_target.target_context.codegen().magic_tuple()
    return triple, cpu, features


def machine() -> str:
    """The instruction set's family, "x86_64" or "aarch64"."""
    return compiled_for()[0].partition("-")[0]


@cache
def has(feature: str) -> bool:
    """Whether kernels may use a feature's instructions, by LLVM's name: "avx512f", "neon".

    Raises:
        ValueError: LLVM knows no such feature of this family.
    """
    added = f"+{feature}"
    # Adding it changes nothing if it was already there, or if it is not a feature.
    if not _covers(added, with_changes=""):
        return False
    if _covers(added, with_changes=f"-{feature}"):
        raise ValueError(
            f"unknown feature {feature!r}; expected one that LLVM has for {machine()}, like avx2"
        )
    return True


@cache
def reason_against() -> str | None:
    """Why this CPU cannot run what is compiled, or None."""
    given = {"NUMBA_CPU_NAME": numba.config.CPU_NAME}
    given["NUMBA_CPU_FEATURES"] = numba.config.CPU_FEATURES
    asked = [f"{variable}={value!r}" for variable, value in given.items() if value is not None]
    lacked = _lacked() if asked else []
    if not lacked:
        return None
    return (
        f"{' with '.join(asked)} asks for {', '.join(lacked)}, which this CPU does not have; "
        f"unset {' and '.join(v for v in given if given[v] is not None)}, "
        f"or add {_taken_away(lacked)} to NUMBA_CPU_FEATURES"
    )


def _lacked() -> list[str]:
    """The features that kernels are compiled with and that this CPU does not have."""
    host = llvm.get_host_cpu_features()
    absent = {name for name, there in host.items() if not there} - set(_BY_NAME_ALONE.split())
    absent |= {name for name in _LOOKED_FOR.get(machine(), ()) if name not in host}
    if not absent or _covers("", with_changes=_taken_away(absent)):
        return []
    return sorted(name for name in absent if not _covers("", with_changes=f"-{name}"))


def _taken_away(features: Iterable[str]) -> str:
    return ",".join(f"-{name}" for name in sorted(features))


def _covers(changes: str, *, with_changes: str) -> bool:
    """Whether the CPU with the second changes has all that it has with the first.

    LLVM inlines a function into its caller only if the caller's CPU has all its features.
    """
    triple, cpu, features = compiled_for()

    def attributes(changes: str) -> str:
        told = ",".join(part for part in (features, changes) if part)
        return f'"target-cpu"="{cpu}" "target-features"="{told}"'

    module = llvm.parse_assembly(f"""
        target triple = "{triple}"
        declare void @effect()
        define internal void @called() {attributes(changes)} {{ call void @effect() ret void }}
        define void @caller() {attributes(with_changes)} {{ call void @called() ret void }}
    """)
    compiler = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features)
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    builder = llvm.create_pass_builder(compiler, options)
    builder.getModulePassManager().run(module, builder)
    return "called" not in {function.name for function in module.functions}
