"""Which regime runs a layer and with which launch parameters, from its sizes and the device.

`held` if the SMs together hold all recurrent weights in registers and shared memory, else
`streamed`, where cuBLAS reads them each step, or where there are none to read. Of the parameters
only `registers` changes code: T, B, H and everything else are arguments of the launch.

None of it was measured on a GPU. The values compile for sm_80 and sm_90 with no spill and no stack
(`lstm-bench inspect numba_cuda`); what is on chip follows from them by arithmetic.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from lstm_kernels.backends.fused_numba_cuda.cells import values_beside_weights
from lstm_kernels.backends.fused_numba_cuda.device_code import (
    BYTES_OF_FOUR_BASES,
    VECTOR_PADDING,
)
from lstm_kernels.gpu.machine_code import ARCHITECTURES, Architecture
from lstm_kernels.problem import Problem
from lstm_kernels.registry import TORCH_CELLS


@dataclass(frozen=True)
class Choices:
    """The blocks to choose from.

    `threads` are those that kernels are compiled for; `lanes` the columns of a block's product, of
    which gates times units are used, fewest first; `registers` how many weights a thread may hold
    in registers, a kernel each, and `beside_shared` how many if shared memory holds the rest.
    They are for PyTorch's cells, whose kernels were all inspected. Any other may have `spare` more
    values of a unit than an LSTM, or must have that many fewer, to have the same choice.
    """

    threads: int
    lanes: tuple[int, ...]
    registers: tuple[int, ...]
    beside_shared: int
    spare: int

    def beside(self, more: int) -> "Choices":
        """The choices for a cell with this many more values than an LSTM; none without registers.

        A value takes the place of two weights: itself, and something that it is made from.
        """
        less = 2 * max(0, more - self.spare)
        able = [count for count in self.registers if count <= self.registers[-1] - less]
        most = [count for count in able if count <= self.beside_shared - less]
        return replace(
            self, registers=tuple(able) if most else (), beside_shared=max(most, default=0)
        )


# 256 threads may have 255 registers each, an SM's all; with 160 weights in them they spill. The
# fewer lanes, the more blocks share the work; they are whole warps or half ones.
#
# A float64 takes two of them. Weights of shared memory pass through registers too: with 64 more
# in registers kernels spill. So do those of sLSTM with 128 in float32, whose backward has five
# values more than an LSTM's; in float64 those of ugrnn, which has fewer, with 48 if they overflow.
ON_CUDA = {
    "float32": Choices(256, (32, 48, 64), (32, 64, 96, 128), 128, spare=4),
    "float64": Choices(256, (32, 48, 64), (16, 32, 48, 56, 64), 56, spare=-5),
}

# The simulator takes 0.1 ms a thread: small blocks of the same code, on few SMs.
SIMULATED = Choices(threads=16, lanes=(8,), registers=(4,), beside_shared=4, spare=99)
SIMULATOR = replace(ARCHITECTURES["sm_90"], name="simulator", sm_count=32)

# Sequences of a tile: each costs a block another pass over its weights in registers, and shared
# memory for its state. Beyond, and beyond this many turns of tiles that do not fit together, a
# step's product is large enough that one launch for each step costs less; guesses, not measured.
MOST_SEQUENCES = 16
MOST_TURNS = 2


@dataclass(frozen=True)
class Parameters:
    """How a kernel is launched for a layer.

    `tile` sequences and `units` hidden units a block; `lanes` times `parts` threads, each with
    `registers` weights in registers and `in_shared` in shared memory. `directions` at once.
    """

    regime: str
    tile: int = 0
    units: int = 0
    lanes: int = 0
    parts: int = 0
    registers: int = 0
    in_shared: int = 0
    directions: int = 0

    @property
    def threads(self) -> int:
        """Of a block."""
        return self.lanes * self.parts

    def groups(self, problem: Problem) -> int:
        """Blocks that share the hidden units."""
        return math.ceil(problem.hidden_size / self.units)

    def tiles(self, batch: int) -> int:
        """Blocks that share the batch."""
        return math.ceil(batch / self.tile)

    def tiles_at_once(self, problem: Problem, sm_count: int) -> int:
        """Batch tiles whose blocks are all resident, one for each SM."""
        return sm_count // (self.groups(problem) * self.directions)

    def turns(self, problem: Problem, sm_count: int) -> int:
        """Launches, one after another, that a layer takes."""
        at_once = self.tiles_at_once(problem, sm_count)
        one_after_another = problem.directions // self.directions
        return one_after_another * math.ceil(self.tiles(problem.batch) / at_once)

    def product_clocks(self) -> float:
        """About how long a step's products take on an SM, by the rates of its units: not measured.

        A warp's multiplication takes a quarter of a clock; its weights from shared memory, which
        each sequence reads again, a clock each.
        """
        warps = self.threads / 32
        return self.tile * warps * (self.registers / 4 + self.in_shared * 1.25)

    def shared_bytes(self, problem: Problem, pass_name: str) -> int:
        """Dynamic shared memory of a block: where vectors lie, they, the parts' sums, weights."""
        vectors = self.tile * (problem.h_gates if pass_name == "backward" else 1)
        stride = self.parts * (self.registers + self.in_shared) + VECTOR_PADDING
        sums = self.tile * self.threads
        where = BYTES_OF_FOUR_BASES * math.ceil(vectors / 4)
        elements = vectors * stride + sums + self.in_shared * self.threads
        return where + problem.element_bytes * elements


@lru_cache(maxsize=1024)
def choose(problem: Problem, pass_name: str, architecture: Architecture) -> Parameters:
    """The regime and parameters of one layer's kernel.

    Args:
        pass_name: "forward" or "backward".
    """
    return _held(problem, pass_name, architecture) or Parameters("streamed")


def choices_on(architecture: Architecture, dtype: str) -> Choices:
    """The blocks to choose from on that device, for kernels of that dtype."""
    return SIMULATED if architecture.name == SIMULATOR.name else ON_CUDA[dtype]


def choices_for(problem: Problem, pass_name: str, architecture: Architecture) -> Choices:
    """Those of them that are possible for a problem's kernel of a pass."""
    choices = choices_on(architecture, problem.dtype)
    if problem.cell in TORCH_CELLS:
        return choices
    values, of_lstm = (values_beside_weights(c, pass_name) for c in (problem.cell, "lstm"))
    return choices.beside(max(0, values - of_lstm))


def _held(problem: Problem, pass_name: str, architecture: Architecture) -> Parameters | None:
    """The fewest turns, then the fewest clocks for products, then the smallest tile."""
    found = [
        (each.turns(problem, architecture.sm_count), each.product_clocks(), each.tile, each)
        for each in every_block(problem, pass_name, architecture)
        if each.shared_bytes(problem, pass_name) <= architecture.shared_per_block
    ]
    few = [each for each in found if each[0] <= MOST_TURNS * problem.directions]
    return min(few, key=lambda each: each[:3])[-1] if few else None


def every_block(
    problem: Problem, pass_name: str, architecture: Architecture
) -> Iterator[Parameters]:
    """All blocks whose groups are resident at once, their shared memory not looked at."""
    choices = choices_for(problem, pass_name, architecture)
    # Without a product with h there is nothing to hold; with too many gates no lane for each.
    able = [lanes for lanes in choices.lanes if 1 <= problem.h_gates <= lanes]
    for lanes in able if choices.registers else ():
        units = lanes // problem.h_gates
        parts = choices.threads // lanes
        registers, in_shared = _places(problem.hidden_size, parts, choices)
        for directions in {1, problem.directions}:
            one = Parameters("held", 1, units, lanes, parts, registers, in_shared, directions)
            at_once = one.tiles_at_once(problem, architecture.sm_count)
            if at_once:
                # A thread is one unit of one sequence too.
                most = min(MOST_SEQUENCES, one.threads // units)
                yield replace(one, tile=min(math.ceil(problem.batch / at_once), most))


def _places(hidden_size: int, parts: int, choices: Choices) -> tuple[int, int]:
    """A thread's weights in registers and in shared memory; together the parts cover H."""
    needed = 4 * math.ceil(hidden_size / (4 * parts))
    registers = next((count for count in choices.registers if count >= needed), None)
    if registers is None:
        registers = choices.beside_shared
    return registers, max(0, needed - registers)
