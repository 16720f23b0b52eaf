"""Which regime runs a layer and with which launch parameters: a table, and rules for the rest.

Measured choices for a device take precedence over the table: `tuning.py` looks there first.

The regime follows from sizes and the device: `alone` if the cell has no recurrent product; else
`own` if one SM holds all recurrent weights, `held` if the SMs together do, or `streamed`. The
parameters are keyed on what changes code:
pass, cell, H, dtype and tile. T never matters; of B only the tile does, one of `TILES`.

None of it was measured on a GPU. The values compile with Triton 3.7.1 for sm_80 and sm_90 with no
spill and no stack (docs/triton-machine-code.md); of those that do, ones with few barriers, matrix
and shared-memory instructions a step were taken.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from lstm_kernels.gpu.fused_gates import product_width
from lstm_kernels.gpu.machine_code import Architecture, predict_occupancy
from lstm_kernels.problem import Problem

TILES = (16, 32)

# The smallest k of a product.
SMALLEST_CHUNK = 16

# Without matrix units one SM takes longer for a step's product than several take to meet; a guess
# from rates, not measured.
MOST_UNITS_WITHOUT_MATRIX_UNITS = 32

# The sums and operands of 64 units in float64 are more than registers hold: LSTM spilled 740 to
# 3320 bytes (sm_90, four warps, Triton 3.7.1).
MOST_UNITS_IN_FLOAT64 = 32

# A program without a product: few units, so that there are many programs; a guess, not measured.
UNITS_ALONE = 32

# Where a unit has several states of its own or parameters, their sums and gradients take registers
# too. With 128 units sLSTM's backward spilled 8 to 88 bytes, and with 64 and four warps that of
# LSTM with peepholes 24 (float16, sm_90, Triton 3.7.1).
MOST_UNITS_THAT_KEEP_MORE = 64

# How much longer than H the chunks of k together may be; their lengths are powers of two.
MOST_PADDING = 1.25

# A CUDA grid's limit along its second dimension.
MOST_TILES = 65535

# A batch of more tiles than fit runs in turns. Beyond this many, a step's product is large enough
# that a kernel a step costs less; a guess, not measured.
MOST_TURNS = 2

# Programs of `held` that share an SM in 16-bit formats: while one waits for its tile, the other
# multiplies. In wider ones products take most of a step, and registers are short.
MOST_RESIDENT = 2
# With more units on four warps, the forward of RNN spilled 180 bytes (64 units, tile 32, H=512,
# float16, sm_90, Triton 3.7.1).
MOST_UNITS_OF_SHARED = 16

# A thread may have 255 registers, the most that an instruction can name. Eight warps with these use
# all of an SM's. With 128, so that two programs of eight warps fit, a forward of tile 32 spilled
# 312 bytes (H=512, float16, sm_90, Triton 3.7.1).
MOST_REGISTERS = 255
MOST_WARPS = 8


@dataclass(frozen=True)
class Parameters:
    """How a kernel is launched for a layer.

    `tile` sequences and `units` hidden units a program; `chunk` of k a product, shared by `split`
    warps, `ahead` chunks on their way (where streamed: stages of the pipeline); `warps` a program.
    Where programs wait for each other, an SM holds `resident` of them.
    """

    regime: str
    tile: int
    units: int
    chunk: int
    split: int
    ahead: int
    warps: int
    resident: int

    def groups(self, problem: Problem) -> int:
        """Programs that share the hidden units."""
        return math.ceil(problem.hidden_size / self.units)

    def tiles(self, batch: int) -> int:
        """Programs that share the batch."""
        return math.ceil(batch / self.tile)

    def turns(self, problem: Problem, sm_count: int) -> float:
        """Launches a batch takes, one after another; without end where no tile is resident."""
        at_once = self.tiles_at_once(problem, sm_count)
        return math.ceil(self.tiles(problem.batch) / at_once) if at_once else math.inf

    def tiles_at_once(self, problem: Problem, sm_count: int) -> int:
        """Batch tiles whose programs are all resident; all where nobody waits."""
        if self.regime != "held":
            return min(self.tiles(problem.batch), MOST_TILES)
        return self.resident * sm_count // (self.groups(problem) * problem.directions)


@dataclass(frozen=True)
class Row:
    """What the table says about a kernel: for a chunk its bytes, so that dtypes share rows."""

    chunk_bytes: int
    split: int
    ahead: int
    warps: int


# Weights held over SMs: by pass and tile, then by the columns of a program's product: all gates of
# its units forward, its units backward. A backward gathers all gates of all units into every
# program, and so has more units a program. Where fewer warps share k than there are, Triton has the
# others multiply the same once more (H=1024, tile 32: 256 HMMA a warp, and 128 with all eight).
# Rows after the first are for where that one does not fit.
HELD: dict[tuple[str, int], dict[int, tuple[Row, ...]]] = {
    ("forward", 16): {
        16: (Row(chunk_bytes=512, split=4, ahead=4, warps=4),),
        32: (Row(chunk_bytes=512, split=4, ahead=4, warps=4),),
        64: (Row(chunk_bytes=512, split=8, ahead=4, warps=8),),
    },
    ("forward", 32): {
        32: (
            Row(chunk_bytes=256, split=8, ahead=2, warps=8),
            Row(chunk_bytes=512, split=4, ahead=1, warps=8),
        ),
        64: (
            Row(chunk_bytes=512, split=8, ahead=2, warps=8),
            Row(chunk_bytes=256, split=4, ahead=2, warps=8),
        ),
    },
    ("backward", 16): {16: (Row(chunk_bytes=512, split=8, ahead=4, warps=8),)},
    ("backward", 32): {
        16: (
            Row(chunk_bytes=256, split=8, ahead=2, warps=8),
            Row(chunk_bytes=256, split=8, ahead=1, warps=8),
            Row(chunk_bytes=256, split=4, ahead=2, warps=8),
        ),
    },
}

# Fewer units a program would have more programs gather the state than the work is worth.
LEAST_UNITS = 8

# A kernel a step: by pass, tile and whether float32 products are exact; `ahead` is the pipeline's
# depth.
STREAMED = {
    ("forward", 16, False): Row(chunk_bytes=256, split=4, ahead=3, warps=4),
    ("forward", 16, True): Row(chunk_bytes=128, split=1, ahead=3, warps=4),
    ("forward", 32, False): Row(chunk_bytes=256, split=8, ahead=3, warps=8),
    ("forward", 32, True): Row(chunk_bytes=128, split=1, ahead=3, warps=8),
    ("backward", 16, False): Row(chunk_bytes=512, split=4, ahead=3, warps=4),
    ("backward", 16, True): Row(chunk_bytes=128, split=1, ahead=3, warps=4),
    ("backward", 32, False): Row(chunk_bytes=256, split=8, ahead=3, warps=8),
    ("backward", 32, True): Row(chunk_bytes=128, split=1, ahead=3, warps=8),
}
STREAMED_UNITS = {
    ("forward", 16): 16,
    ("forward", 32): 16,
    ("backward", 16): 16,
    ("backward", 32): 32,
}

# The same in float64, whose sums take twice the registers: with the rows above kernels of LSTM and
# GRU spilled 8 to 528 bytes (H=2048, sm_80 and sm_90, Triton 3.7.1), with these none.
STREAMED_IN_FLOAT64 = {
    ("forward", 16): Row(chunk_bytes=512, split=4, ahead=3, warps=8),
    ("forward", 32): Row(chunk_bytes=256, split=1, ahead=3, warps=8),
    ("backward", 16): Row(chunk_bytes=512, split=4, ahead=3, warps=4),
    ("backward", 32): Row(chunk_bytes=512, split=4, ahead=3, warps=8),
}
# Half as many in a forward whose units keep more: sLSTM's spilled 8 bytes (sm_80).
STREAMED_UNITS_IN_FLOAT64 = 16


def multiplies_exactly(problem: Problem) -> bool:
    """Whether products are float32's own, which matrix units do not make."""
    return problem.dtype == "float32" and problem.precision == "ieee"


def most_resident(problem: Problem) -> int:
    """How many programs of `held` share an SM at most."""
    is_alone = problem.element_bytes > 2 or keeps_more(problem)
    return 1 if is_alone else MOST_RESIDENT


@lru_cache(maxsize=1024)
def choose(problem: Problem, pass_name: str, architecture: Architecture) -> Parameters:
    """The regime and parameters of one layer's kernel.

    Args:
        pass_name: "forward" or "backward".
    """
    if not problem.h_gates:
        return _alone()
    return (
        _own(problem, pass_name, architecture)
        or _held(problem, pass_name, architecture)
        or _streamed(problem, pass_name)
    )


def every_regime(problem: Problem, pass_name: str, architecture: Architecture) -> list[Parameters]:
    """What each regime that can run a layer would take, in the order of `choose`."""
    if not problem.h_gates:
        return [_alone()]
    possible = (
        _own(problem, pass_name, architecture),
        _held(problem, pass_name, architecture),
        _streamed(problem, pass_name),
    )
    return [found for found in possible if found]


def _alone() -> Parameters:
    """No product: its parameters have the least possible values."""
    return Parameters("alone", TILES[0], UNITS_ALONE, SMALLEST_CHUNK, 1, 0, 4, 1)


def _own(problem: Problem, pass_name: str, architecture: Architecture) -> Parameters | None:
    """All weights on one SM, where they fit; the smallest tile that leaves no SM two programs."""
    units = _power_of_two(problem.hidden_size, least=2 * SMALLEST_CHUNK)
    if multiplies_exactly(problem) and units > MOST_UNITS_WITHOUT_MATRIX_UNITS:
        return None
    if problem.dtype == "float64" and units > MOST_UNITS_IN_FLOAT64:
        return None
    if keeps_more(problem) and units > MOST_UNITS_THAT_KEEP_MORE:
        return None
    for tile in TILES:
        if own_bytes(problem, tile, units) > architecture.shared_per_block:
            return None
        warps = _own_warps(problem, units)
        # A backward's product is summed over warps, so that what follows lies apart in them.
        split = min(warps, units // SMALLEST_CHUNK) if pass_name == "backward" else 1
        found = Parameters("own", tile, units, units, split, 0, warps, 1)
        if found.tiles(problem.batch) * problem.directions <= architecture.sm_count:
            break
    return found


def keeps_more(problem: Problem) -> bool:
    """Whether a unit keeps more than an LSTM's: states or parameters other than h and c."""
    return problem.definition.own_states > 1 or bool(problem.definition.per_unit)


def _own_warps(problem: Problem, units: int) -> int:
    """Enough that a program's sums stay in registers; exact float32 products hold operands too."""
    if multiplies_exactly(problem) or problem.dtype == "float64":
        return 8
    if keeps_more(problem):
        return 8
    return min(8, max(4, units // SMALLEST_CHUNK))


def _held(problem: Problem, pass_name: str, architecture: Architecture) -> Parameters | None:
    """Weights over SMs: the fewest turns, then programs an SM, then units a program.

    Two turns, one after the other, take twice as long. Two programs on an SM should take less than
    that, since one multiplies while the other waits; not measured.
    """
    return min(
        held_choices(problem, pass_name, architecture),
        key=lambda each: (
            each.turns(problem, architecture.sm_count),
            each.resident,
            each.units * each.tile,
            each.tile,
        ),
        default=None,
    )


def held_choices(
    problem: Problem, pass_name: str, architecture: Architecture
) -> Iterator[Parameters]:
    """What the table has for weights over SMs that fits, in few turns or on shared SMs."""
    sm_count = architecture.sm_count
    for resident in range(1, most_resident(problem) + 1):
        for found in _held_rows(problem, pass_name, resident):
            # A second program on an SM takes the place of a second turn.
            is_needed = resident == 1 or replace(found, resident=1).turns(problem, sm_count) > 1
            few = found.turns(problem, sm_count) * resident <= MOST_TURNS
            fits = programs_an_sm(problem, pass_name, found, architecture) >= resident
            small = resident == 1 or found.units <= MOST_UNITS_OF_SHARED
            if is_needed and few and fits and small:
                yield found


def _held_rows(problem: Problem, pass_name: str, resident: int) -> list[Parameters]:
    """What the table has for weights over SMs, whether they fit or not; an SM's warps shared."""
    warps = MOST_WARPS // resident
    found = []
    for tile in TILES:
        for columns, rows in HELD[pass_name, tile].items():
            units = columns // width_of(problem) if pass_name == "forward" else columns
            if units >= LEAST_UNITS:
                shared = [
                    replace(row, warps=min(row.warps, warps), split=min(row.split, warps))
                    for row in rows
                ]
                found += [_with_row("held", problem, tile, units, row) for row in shared]
    return [replace(each, resident=resident) for each in found]


def _streamed(problem: Problem, pass_name: str) -> Parameters:
    tile = next((tile for tile in TILES if tile >= problem.batch), TILES[-1])
    if problem.dtype == "float64":
        row = STREAMED_IN_FLOAT64[pass_name, tile]
        units = STREAMED_UNITS_IN_FLOAT64
        if pass_name == "forward" and keeps_more(problem):
            units //= 2
        return _with_row("streamed", problem, tile, units, row)
    row = STREAMED[pass_name, tile, multiplies_exactly(problem)]
    return _with_row("streamed", problem, tile, STREAMED_UNITS[pass_name, tile], row)


def _with_row(regime: str, problem: Problem, tile: int, units: int, row: Row) -> Parameters:
    H = problem.hidden_size
    most = row.chunk_bytes // problem.element_bytes
    # Each of the warps that share a chunk needs a product's smallest k.
    least = SMALLEST_CHUNK * row.split
    chunks = [1 << power for power in range(least.bit_length() - 1, max(least, most).bit_length())]
    chunk = next((c for c in reversed(chunks) if math.ceil(H / c) * c <= MOST_PADDING * H), least)
    return Parameters(regime, tile, units, chunk, row.split, row.ahead, row.warps, 1)


def own_bytes(problem: Problem, tile: int, units: int) -> int:
    """Shared memory of a program that holds all weights, at most."""
    weights = width_of(problem) * units * units * problem.element_bytes
    # Pre-activations change layout through shared memory, two gates at a time.
    return weights + 2 * tile * units * sum_bytes(problem)


def held_bytes(problem: Problem, pass_name: str, candidate: Parameters) -> int:
    """Shared memory of a program, at most: weights, and chunks on their way or a sum's operands."""
    backward = pass_name == "backward"
    columns = candidate.units * (1 if backward else width_of(problem))
    count = (problem.h_gates if backward else 1) * math.ceil(problem.hidden_size / candidate.chunk)
    chunk_bytes = candidate.chunk * problem.element_bytes
    staged = min(candidate.ahead + 1, count) * candidate.tile * chunk_bytes
    summed = candidate.split * candidate.tile * columns * sum_bytes(problem)
    return count * chunk_bytes * columns + max(staged, summed)


def programs_an_sm(
    problem: Problem, pass_name: str, given: Parameters, architecture: Architecture
) -> int:
    """How many programs of `held` an SM holds, each with all registers that it may have."""
    held = predict_occupancy(
        architecture,
        given.warps * 32,
        MOST_REGISTERS,
        held_bytes(problem, pass_name, given),
    )
    return int(held["blocks_per_sm"])


def width_of(problem: Problem) -> int:
    """Columns a unit has of a forward's product."""
    return product_width(problem.definition)


def sum_bytes(problem: Problem) -> int:
    """Bytes of an element of what is added up: float32, or float64 where the tensors are."""
    return max(4, problem.element_bytes)


def _power_of_two(size: int, least: int) -> int:
    return max(least, 1 << (size - 1).bit_length())
