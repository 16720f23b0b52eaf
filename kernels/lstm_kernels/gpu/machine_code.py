"""What a compiled kernel consists of, read from its machine code; no GPU is needed.

`ARCHITECTURES` are the limits of the GPUs that kernels are planned for, `facts` what a kernel
uses of them. Importing this needs neither torch nor triton; `facts` runs `cuobjdump` and
`nvdisasm`, which Triton's wheel carries.
"""

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lstm_kernels.names import check_name


@dataclass(frozen=True)
class Architecture:
    """The limits of one kind of GPU; sizes in bytes, registers of 32 bits.

    `shared_per_block` is the most that a block may request, `shared_reserved` what the system takes
    in addition for every block. Registers are given to a warp `register_unit` at a time,
    shared memory `shared_unit` bytes at a time.

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


# Opcodes that read global memory, asynchronous copies to shared memory among them.
GLOBAL_LOADS = ("LDG", "LD", "LDGSTS", "UBLKCP", "UTMALDG", "UTMAPF")
# The instructions of a step that an author looks at; the rest is in `total`.
COUNTED = (
    *("LDS", "LDSM", "STS", "LDG", "LDGSTS", "STG", "LDL", "STL", "LDTM", "STTM"),
    *("BAR", "SYNCS", "MEMBAR", "ERRBAR", "CCTL", "RED", "REDG", "ATOM", "ATOMG"),
    *("SHFL", "MUFU", "FFMA", "DFMA", "HFMA2"),
)

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
    `compile_ms` what compiling took, or reading it from a cache where `cached`.
    `weight_lines` are the lines of `ptx` that `load_weights*` functions became (see
    `weight_lines`).
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


def facts(image: KernelImage) -> dict[str, Any]:
    """The facts in the machine code of a kernel.

    Returns:
        registers: of a thread. stack_bytes: of a thread, spills among them. local_bytes: local
        memory of a thread in addition to its stack. spill_bytes: what the kernel's spill
        instructions (LDL and STL) load and store when each runs once, which is what ptxas reports;
        those that the PTX itself asks for are left out. shared_bytes: of a block, static and
        dynamic.
        matrix_instructions: HMMA, HGMMA, UTCHMMA and their like, to their number in the code.
        loops: targets of backward branches. weight_loads and weight_loads_in_loop: loads from
        global memory that `load_weights*` functions became, and those of them that some loop
        repeats; weight_loads_in_step_loop: those that the loop repeats that is meant by
        instructions: numbers in the step loop, which is taken to be the loop, with all
        it holds, of the most instructions; the whole kernel's where it has no loop; those of them
        that the memory model knows of (polls, `st.relaxed`) as LDG.STRONG and so on too. threads;
        then blocks_per_sm, occupancy (resident threads as a share of the most an SM holds) and
        occupancy_limit, as `predict_occupancy` has them.
    Raises:
        RuntimeError: the tools are not installed, or the cubin has no line numbers.
    """
    usage = _resource_usage(image)
    code = _parse(_run_tool("nvdisasm", ("-c", "-gp"), image))
    if not any(each.ptx_line for each in code):
        raise RuntimeError(f"{image.kernel} has no line numbers; unset TRITON_DISABLE_LINE_INFO")
    loops = _find_loops(code, image.kernel)
    weights = [
        number
        for number, each in enumerate(code)
        if each.family in GLOBAL_LOADS and each.ptx_line in image.weight_lines
    ]
    shared_bytes = image.shared_bytes + usage["SHARED"]
    arch = architecture(image.arch)
    return {
        "registers": usage["REG"],
        "stack_bytes": usage["STACK"],
        "local_bytes": usage["LOCAL"],
        "spill_bytes": max(0, sum(map(_local_bytes, code)) - _local_bytes_of_ptx(image.ptx)),
        "shared_bytes": shared_bytes,
        "matrix_instructions": dict(Counter(e.family for e in code if _is_matrix(e.family))),
        "loops": loops.count,
        "weight_loads": len(weights),
        "weight_loads_in_loop": sum(number in loops.repeated for number in weights),
        "weight_loads_in_step_loop": sum(number in loops.largest for number in weights),
        "instructions": _count(_of(code, loops.largest) or code),
        "threads": image.threads,
        **predict_occupancy(
            arch, image.threads, usage["REG"], shared_bytes, image.tensor_memory_columns
        ),
    }


def predict_occupancy(
    arch: Architecture,
    threads: int,
    registers: int,
    shared_bytes: int,
    tensor_memory_columns: int = 0,
) -> dict[str, Any]:
    """How many blocks an SM holds together, and what limits them.

    Args:
        threads: of a block. registers: of a thread. shared_bytes, tensor_memory_columns: of a
            block.
    Returns:
        blocks_per_sm, 0 if not even one fits; occupancy, the resident threads as a share of
        the most an SM holds; occupancy_limit, what ends first.
    Source: NVIDIA's occupancy calculator (cuda_occupancy.h): an SM's four parts each have a
        quarter of the registers, and a warp's come from one of them.
    """
    warps = -(-threads // 32)
    registers_per_warp = _rounded(registers * 32, arch.register_unit)
    quarter = arch.registers_per_sm // 4
    shared = _rounded(shared_bytes + arch.shared_reserved, arch.shared_unit)
    limits = {
        "warps": arch.warps_per_sm // warps,
        "blocks": arch.blocks_per_sm,
        "registers": 4 * (quarter // registers_per_warp) // warps,
        "shared memory": arch.shared_per_sm // shared,
    }
    if tensor_memory_columns:
        limits["tensor memory"] = arch.tensor_memory_columns // tensor_memory_columns
    if shared_bytes > arch.shared_per_block:
        limits["shared memory"] = 0
    if registers_per_warp * _rounded(warps, 4) > arch.registers_per_sm:
        limits["registers"] = 0
    limit = min(limits, key=lambda name: limits[name])
    return {
        "blocks_per_sm": limits[limit],
        "occupancy": limits[limit] * warps / arch.warps_per_sm,
        "occupancy_limit": limit,
    }


def _rounded(amount: int, unit: int) -> int:
    return -(-amount // unit) * unit


def _run_tool(name: str, options: tuple[str, ...], image: KernelImage) -> str:
    """The output of one of the tools in Triton's wheel for a cubin."""
    from triton import knobs

    tool = getattr(knobs.nvidia, name).path
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(image.cubin)
        file.flush()
        done = subprocess.run([tool, *options, file.name], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} cannot read {image.kernel}: {done.stderr.strip()}")
    return done.stdout


def _resource_usage(image: KernelImage) -> dict[str, int]:
    """REG, STACK, LOCAL and SHARED from cuobjdump, SHARED without the system's part."""
    text = _run_tool("cuobjdump", ("-res-usage",), image)
    usage_line = re.search(rf"Function {re.escape(image.kernel)}:\s*(REG:.*)", text)
    if usage_line is None:
        raise RuntimeError(f"cuobjdump printed nothing about {image.kernel}: {text.strip()}")
    usage = {name: int(value) for name, value in re.findall(r"([A-Z]+):(\d+)", usage_line[1])}
    arch = architecture(image.arch)
    # From sm_90 on the kilobyte that the system takes is in the kernel's own section.
    reserved = arch.shared_reserved if arch.capability >= 90 else 0
    return usage | {"SHARED": max(0, usage["SHARED"] - reserved)}


@dataclass(frozen=True)
class _Instruction:
    """One line of SASS; `family` is the opcode's first word, `target` the label it names."""

    opcode: str
    predicated: bool
    target: str | None
    labels: tuple[str, ...]
    ptx_line: int

    @property
    def family(self) -> str:
        return self.opcode.partition(".")[0]

    @property
    def jumps_to(self) -> str | None:
        """The label where it may continue; the name in a return is the function it leaves."""
        return None if self.family == "RET" else self.target

    @property
    def ends_path(self) -> bool:
        """Whether the next instruction is never reached from this one."""
        return not self.predicated and self.family in ("BRA", "JMP", "BRX", "JMX", "EXIT", "RET")


_LABEL = re.compile(r"([.$\w]+):\s*$")
_PTX_LINE = re.compile(r'\s*//## File "\.nv_debug_ptx_txt[^"]*", line (\d+)')
_SASS = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+\{?\s*(@!?\w+ )?\s*([A-Z][\w.]*)\s*([^;]*);")
_TARGET = re.compile(r"`\(([^)]+)\)")


def _parse(text: str) -> list[_Instruction]:
    """The instructions of `nvdisasm -c -gp` that can ever run, in order of address."""
    code: list[_Instruction] = []
    labels: list[str] = []
    ptx_line = 0
    for line in text.splitlines():
        if match := _PTX_LINE.match(line):
            ptx_line = int(match[1])
        elif match := _LABEL.match(line):
            labels.append(match[1])
        elif (match := _SASS.match(line)) and match[1] != "@!PT ":
            target = _TARGET.search(match[3])
            # `BRA P0, label`, `BRA.U !UP1, label` and `BRA.DIV UR4, label` are conditional too.
            before = match[3][: target.start()].strip() if target else ""
            predicated = bool(match[1] or (before and match[2].startswith("BRA")))
            name = target[1] if target else None
            code.append(_Instruction(match[2], predicated, name, tuple(labels), ptx_line))
            labels = []
    return code


@dataclass(frozen=True)
class _Loops:
    """Places in the code: all that some loop repeats, and those of the largest loop."""

    count: int
    repeated: frozenset[int]
    largest: tuple[int, ...]


def _find_loops(code: list[_Instruction], entry: str) -> _Loops:
    """Follow every path from the entry on: a block that reaches itself is in a loop.

    A backward jump proves nothing: rare paths are placed behind the rest and jump back, and
    the padding after the end jumps to itself.
    """
    blocks = _blocks(code)
    place = {label: n for n, block in enumerate(blocks) for label in code[block[0]].labels}
    onward = [_successors(code, n, blocks, place) for n in range(len(blocks))]
    reach = _reachable(onward)
    first = place.get(entry, 0)
    looping = [n for n in range(len(blocks)) if reach[n] & reach[first] & (1 << n)]
    bodies = {tuple(m for m in looping if reach[n] >> m & reach[m] >> n & 1) for n in looping}
    heads = {m for body in bodies for n in body for m in onward[n] if m <= n and m in body}
    # What a loop calls is repeated too; a path into a subroutine ends at its return.
    calls = (each for n in looping for each in _of(code, blocks[n]) if each.family == "CALL")
    called = {place[each.target] for each in calls if each.target in place}
    repeated = {n for n in range(len(blocks)) if any(n == c or reach[c] >> n & 1 for c in called)}
    places = [tuple(number for n in body for number in blocks[n]) for body in bodies]
    return _Loops(
        len(heads),
        frozenset(number for n in repeated.union(looping) for number in blocks[n]),
        max(places, key=len, default=()),
    )


def _blocks(code: list[_Instruction]) -> list[range]:
    """Runs of instructions with one way in, at the first, and no jump before the last."""
    starts = [0]
    for number in range(1, len(code)):
        before = code[number - 1]
        if code[number].labels or before.target or before.ends_path:
            starts.append(number)
    return [range(*ends) for ends in zip(starts, [*starts[1:], len(code)], strict=True)]


def _successors(
    code: list[_Instruction], n: int, blocks: list[range], place: dict[str, int]
) -> list[int]:
    last = code[blocks[n][-1]]
    successors = [place[last.jumps_to]] if last.jumps_to in place else []
    if not last.ends_path and n + 1 < len(blocks):
        successors.append(n + 1)
    return successors


def _reachable(onward: list[list[int]]) -> list[int]:
    """For each block the set of blocks that follow it by one step or more, as bits."""
    reach = [0] * len(onward)
    changed = True
    while changed:
        changed = False
        for n in reversed(range(len(onward))):
            bits = reach[n]
            for m in onward[n]:
                bits |= reach[m] | 1 << m
            changed |= bits != reach[n]
            reach[n] = bits
    return reach


def _of(code: list[_Instruction], numbers: Iterable[int]) -> list[_Instruction]:
    return [code[number] for number in numbers]


def _is_matrix(family: str) -> bool:
    """HMMA, IMMA, DMMA, QMMA and OMMA, their warp-group (HGMMA) and tensor-memory (UTCHMMA) kin."""
    return family.endswith("MMA")


def _count(code: list[_Instruction]) -> dict[str, int]:
    found = Counter(each.family for each in code)
    strong = Counter(f"{each.family}.STRONG" for each in code if ".STRONG" in each.opcode)
    return {"total": len(code)} | {name: found[name] for name in COUNTED if found[name]} | strong


def _local_bytes(each: _Instruction) -> int:
    """Bytes of local memory that one SASS instruction loads or stores."""
    if each.family not in ("LDL", "STL"):
        return 0
    width = re.search(r"\.[US]?(8|16|64|128)\b", each.opcode)
    bits = int(width[1]) if width else 32
    return bits // 8


_PTX_LOCAL = re.compile(r"\b(?:ld|st)(?:\.volatile)?\.local(?:\.v([24]))?\.[a-z](\d+)")


def _local_bytes_of_ptx(ptx: str) -> int:
    """Bytes that the PTX itself loads from local memory and stores there, such as for a printf."""
    found = _PTX_LOCAL.findall(ptx)
    return sum(int(count or 1) * int(bits) // 8 for count, bits in found)
