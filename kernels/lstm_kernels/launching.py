"""One launch of a Triton kernel, as data: run it, or compile the same thing with no GPU at hand.

A backend whose module has `launches_for(problem, arch) -> list[Launch]` can be inspected: every
launch it would make for the problem on that architecture (a name in `machine_code.ARCHITECTURES`),
with meta tensors, for inference, for a forward that saves and for a backward. It raises
`stack.Unsupported` with the reason where it would refuse.

Weights are loaded from global memory in functions whose names start with `load_weights`, and
nothing else is: by that name the loads are found again in the machine code.
"""

import ast
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from lstm_kernels.machine_code import KernelImage, architecture

WEIGHT_FUNCTIONS = "load_weights"


@dataclass(frozen=True)
class Launch:
    """A kernel, its grid and every argument by name.

    `kernel` is a `triton.jit` function. `arguments` holds tensors, numbers, the constexprs, and
    None for a tensor that is not there. `options` are Triton's: num_warps, num_stages,
    launch_cooperative_grid, debug. `regime` and `parameters` name the choice that was made, for
    showing alone.
    """

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    regime: str = ""
    parameters: dict[str, int] = field(default_factory=dict)

    def run(self) -> None:
        """Launch it on the current device and stream."""
        self.kernel[self.grid](**self.arguments, **self.options)

    def constants(self) -> dict[str, Any]:
        """The kernel's constexprs as far as they are numbers and texts, and which tensors are None.

        With the tensors' dtypes, they are what makes two launches need two compiled kernels.
        """
        constexprs = {each.name for each in self.kernel.params if each.is_constexpr}
        return {
            name: value
            for name, value in self.arguments.items()
            if value is None or (name in constexprs and isinstance(value, int | float | str))
        }


def launch_key(launch: Launch, arch: str) -> str:
    """What is the same for two launches exactly where they need the same compiled kernel."""
    source, _, options = _as_the_jit_would(launch, arch)
    return f"{arch} {source.hash()} {options.hash()}"


def compile_launch(launch: Launch, arch: str) -> KernelImage:
    """Compile what running a launch on a GPU would compile there, with no GPU.

    Triton's cache serves both: what is compiled here is found there, and the other way round.

    Args:
        launch: its tensors may be on the meta device; their addresses count as multiples of 16.
        arch: a name in `machine_code.ARCHITECTURES`.
    Raises:
        ValueError: an unknown architecture, or a kernel that Triton's interpreter holds.
        Exception: whatever Triton raises where a kernel does not compile.
    """
    import triton

    source, target, options = _as_the_jit_would(launch, arch)
    with _compilations() as told:
        kernel = triton.compile(source, target=target, options=options.__dict__)
        if told[-1]["cache_hit"] and not _from_files_of(launch.kernel, kernel.asm["ptx"]):
            with _without_cache():
                kernel = triton.compile(source, target=target, options=options.__dict__)
    ptx = kernel.asm["ptx"]
    return KernelImage(
        kernel=kernel.metadata.name,
        arch=arch,
        cubin=kernel.asm["cubin"],
        ptx=ptx,
        shared_bytes=kernel.metadata.shared,
        threads=kernel.metadata.num_warps * kernel.metadata.warp_size,
        compile_ms=told[-1]["times"].total / 1e3,
        cached=told[-1]["cache_hit"],
        weight_lines=_weight_lines(ptx),
        tensor_memory_columns=getattr(kernel.metadata, "tmem_size", None) or 0,
    )


def _as_the_jit_would(launch: Launch, arch: str) -> tuple[Any, Any, Any]:
    """The source, target and options that `JITFunction.run` would hand to `triton.compile`.

    Its own two helpers make them, `create_function_from_signature` and `_pack_args`, which are the
    same from Triton 3.6 to 3.9; a test compares with what `run` itself compiles.
    """
    from triton import knobs
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, make_backend
    from triton.runtime.jit import JITFunction, create_function_from_signature

    kernel = launch.kernel
    if not isinstance(kernel, JITFunction):
        kind = type(kernel).__name__
        raise ValueError(
            f"a {kind} cannot be compiled; give a triton.jit function, "
            "made with TRITON_INTERPRET unset"
        )
    target = GPUTarget("cuda", architecture(arch).capability, 32)
    backend = make_backend(target)
    given = launch.arguments | launch.options
    given["debug"] = given.get("debug", kernel.debug) or knobs.runtime.debug
    for name in ("instrumentation_mode", "fpsan_homomorphic_casts"):
        if hasattr(knobs.compilation, name):
            given[name] = getattr(knobs.compilation, name)
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)
    bound, specialization, rest = bind(**given)
    options, signature, constants, attributes = kernel._pack_args(
        backend, given, bound, specialization, rest
    )
    return ASTSource(kernel, signature, constants, attributes), target, options


@contextmanager
def _compilations() -> Iterator[list[dict[str, Any]]]:
    """What Triton tells of every kernel compiled meanwhile: `times`, and `cache_hit`."""
    from triton import knobs

    told: list[dict[str, Any]] = []
    before = knobs.compilation.listener
    knobs.compilation.listener = lambda **facts: told.append(facts)
    try:
        yield told
    finally:
        knobs.compilation.listener = before


@contextmanager
def _without_cache() -> Iterator[None]:
    from triton import knobs

    with knobs.compilation.scope():
        knobs.compilation.always_compile = True
        yield


def _from_files_of(kernel: Any, ptx: str) -> bool:
    """Whether cached PTX names the files that are here, not those of another checkout.

    The cache tells sources apart by their text, not by where they lie.
    """
    files = _files(ptx).values()
    return kernel.fn.__code__.co_filename in files and all(Path(file).is_file() for file in files)


_FILE = re.compile(r'^\s*\.file\s+(\d+)\s+"([^"]*)"(?:\s+"([^"]*)")?', re.MULTILINE)
_LOCATION = re.compile(r"\s*\.loc\s+(\d+)\s+(\d+)\s+(\d+)")
_INLINED_AT = re.compile(r"inlined_at\s+(\d+)\s+(\d+)\s+(\d+)")
_CALLED_FROM = re.compile(r"@\[\s*([^\s:\[\]]+):(\d+):\d+")

Place = tuple[str, int]


def _files(ptx: str) -> dict[str, str]:
    """The source files of PTX by their number there."""
    return {
        number: str(Path(first, second)) if second else first
        for number, first, second in _FILE.findall(ptx)
    }


def _weight_lines(ptx: str) -> frozenset[int]:
    """The lines of PTX, from 1 on, that stand for code inside a `load_weights*` function.

    A location holds for all that follow. Inside inline assembly only the first counts: Triton 3.9
    counts up one source line for each line of assembly, and so leaves the function.
    """
    files = _files(ptx)
    call_sites: dict[tuple[str, ...], tuple[str, ...]] = {}
    inside = in_assembly = located = False
    found = []
    for number, line in enumerate(ptx.splitlines(), 1):
        text = line.strip()
        if text in ("// begin inline asm", "// end inline asm"):
            in_assembly, located = "begin" in text, False
        elif location := _LOCATION.match(line):
            if not in_assembly or not located:
                inside = any(map(_in_weight_function, _places(location, line, files, call_sites)))
            located = True
        elif inside and text and not text.startswith("//"):
            found.append(number)
    return frozenset(found)


def _places(
    location: re.Match[str],
    line: str,
    files: dict[str, str],
    call_sites: dict[tuple[str, ...], tuple[str, ...]],
) -> list[Place]:
    """A location and where the functions around it were called, innermost first.

    Triton 3.9 writes the caller as `inlined_at`, whose own caller an earlier line gave; 3.6 writes
    all of them in a comment, by their files' last names.
    """
    where = location.groups()
    inlined_at = _INLINED_AT.search(line)
    if inlined_at:
        call_sites[where] = inlined_at.groups()
    chain = [where]
    while chain[-1] in call_sites and call_sites[chain[-1]] not in chain:
        chain.append(call_sites[chain[-1]])
    named = {Path(file).name: file for file in files.values()}
    commented = [(named.get(name, name), int(row)) for name, row in _CALLED_FROM.findall(line)]
    return [(files.get(file, ""), int(row)) for file, row, _ in chain] + commented


def _in_weight_function(place: Place) -> bool:
    file, line = place
    return any(line in rows for rows in _weight_functions(file))


@lru_cache
def _weight_functions(file: str) -> tuple[range, ...]:
    """The lines of every `load_weights*` function of a source file; none where it is not there."""
    try:
        tree = ast.parse(Path(file).read_text())
    except (OSError, ValueError, SyntaxError):
        return ()
    return tuple(
        range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith(WEIGHT_FUNCTIONS)
    )
