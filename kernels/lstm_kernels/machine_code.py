"""What a compiled kernel is made of, read from its machine code; no GPU is needed.

`ARCHITECTURES` are the limits of the GPUs that kernels are planned for. Importing this needs
neither torch nor triton.
"""

from dataclasses import dataclass

from lstm_kernels.names import check_name


@dataclass(frozen=True)
class Architecture:
    """What one kind of GPU offers; sizes in bytes, registers of 32 bits.

    `shared_per_block` is the most a block may ask for, `shared_reserved` what the system takes
    beside it for every block. Registers are handed out `register_unit` at a time to a warp, warps
    four at a time, shared memory `shared_unit` bytes at a time.

    Source: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"; the
    units are those of NVIDIA's occupancy calculator (cuda_occupancy.h); SM counts are the data
    sheets' (A100 SXM, H100 SXM, B200).
    """

    name: str
    capability: int
    sm_count: int
    shared_per_block: int
    shared_per_sm: int
    registers_per_sm: int = 65536
    registers_per_thread: int = 255
    threads_per_block: int = 1024
    warps_per_sm: int = 64
    blocks_per_sm: int = 32
    shared_reserved: int = 1024
    shared_unit: int = 128
    register_unit: int = 256
    tensor_memory_columns: int = 0


_KB = 1024

ARCHITECTURES = {
    arch.name: arch
    for arch in (
        Architecture("sm_80", 80, 108, 163 * _KB, 164 * _KB),
        Architecture("sm_90", 90, 132, 227 * _KB, 228 * _KB),
        Architecture("sm_100", 100, 148, 227 * _KB, 228 * _KB, tensor_memory_columns=512),
    )
}


def architecture(name: str) -> Architecture:
    """The architecture of that name.

    Raises:
        ValueError: unknown, with the known ones.
    """
    return ARCHITECTURES[check_name("arch", name, ARCHITECTURES)]


@dataclass(frozen=True)
class KernelImage:
    """One kernel, compiled for one architecture.

    `shared_bytes` is the dynamic shared memory of a block, `threads` the size of a block,
    `compile_ms` what compiling took, or reading it from Triton's cache where `cached`.
    `weight_lines` are the lines of `ptx` that `load_weights*` functions became (see
    `launching.compile_launch`).
    """

    kernel: str
    arch: str
    cubin: bytes
    ptx: str
    shared_bytes: int
    threads: int
    compile_ms: float
    cached: bool
    weight_lines: frozenset[int]
    tensor_memory_columns: int = 0
