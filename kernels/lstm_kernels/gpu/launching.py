"""One launch of a Triton kernel, as data: run it, or compile it without a GPU.

A backend can be inspected if its module has `launches_for(problem, arch) -> list[Launch]`: every
launch it would make for the problem on that architecture (a name in `machine_code.ARCHITECTURES`),
with meta tensors, for inference, for a forward that saves and for a backward. It raises
`stack.Unsupported` with the reason if it would refuse. Any `Inspectable` launch works:
`numba_launching` has Numba's.

Weights are loaded from global memory only in functions whose names start with `load_weights`, and
nothing else is loaded there: by that name the loads are found in the machine code.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lstm_kernels.gpu.machine_code import KernelImage, architecture
from lstm_kernels.gpu.weight_lines import source_files, weight_lines


class Inspectable(Protocol):
    """What `lstm-bench inspect` needs from a launch of any kind; as in `Launch`."""

    @property
    def name(self) -> str: ...  # noqa: D102 - `Launch` says what these are
    @property
    def grid(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def regime(self) -> str: ...  # noqa: D102
    @property
    def parameters(self) -> dict[str, int]: ...  # noqa: D102
    def constants(self) -> dict[str, Any]: ...  # noqa: D102
    def key(self, arch: str) -> str: ...  # noqa: D102
    def compile(self, arch: str) -> KernelImage: ...  # noqa: D102


@dataclass(frozen=True)
class Launch:
    """A kernel, its grid and every argument by name.

    `kernel` is a `triton.jit` function. `arguments` holds tensors, numbers, the constexprs, and
    None for a tensor that is not there. `options` are Triton's: num_warps, num_stages,
    launch_cooperative_grid, debug. `regime` and `parameters` name the choice that was made, only
    for display.
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
        """The kernel's constexprs as numbers and texts, and which tensors are None.

        With the tensors' dtypes, they decide whether two launches need two compiled kernels.
        """
        constexprs = {each.name for each in self.kernel.params if each.is_constexpr}
        return {
            name: value if value is None or isinstance(value, int | float) else str(value)
            for name, value in self.arguments.items()
            if value is None or name in constexprs
        }

    @property
    def name(self) -> str:
        """The kernel's own name."""
        return str(self.kernel.__name__)

    def key(self, arch: str) -> str:
        """A key that is the same for two launches with the same machine code.

        It is the same exactly if they need the same compiled kernel.
        """
        source, _, options = _as_the_jit_would(self, arch)
        return f"{arch} {source.hash()} {options.hash()}"

    def compile(self, arch: str) -> KernelImage:
        """Compile what a launch on a GPU would compile there, without a GPU.

        Triton's cache serves both: what is compiled here is found there, and the other way round.
        Tensors may be on the meta device; their addresses count as multiples of 16.

        Args:
            arch: a name in `machine_code.ARCHITECTURES`.
        Raises:
            ValueError: an unknown architecture, or a kernel in Triton's interpreter.
            Exception: anything that Triton raises if a kernel does not compile.
        """
        import triton

        source, target, options = _as_the_jit_would(self, arch)
        with _compilations() as told:
            kernel = triton.compile(source, target=target, options=options.__dict__)
            if told[-1]["cache_hit"] and not _from_files_of(self.kernel, kernel.asm["ptx"]):
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
            weight_lines=weight_lines(ptx),
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
    """What Triton reports about every kernel compiled meanwhile: `times`, and `cache_hit`."""
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

    The cache distinguishes sources by their text, not by their path.
    """
    # Code generated from a definition is in no file.
    files = [file for file in source_files(ptx).values() if not Path(file).name.startswith("<")]
    return kernel.fn.__code__.co_filename in files and all(Path(file).is_file() for file in files)
