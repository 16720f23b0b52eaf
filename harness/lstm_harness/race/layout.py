"""The layout of memory, drawn for each worker: two builds of one source may differ only by it.

Mytkowicz et al. 2009, "Producing wrong data without doing anything obviously wrong!", moved the
stack by the size of the environment, and with it the times of programs by more than what was to be
measured. Here every worker has a variable of a length that is drawn from the run's seed, the block
and the side. Where a worker is a program of its own, that moves its stack. Where it is forked, as
on a CPU, the variable is an allocation that it holds as long as it lives, and moves what its heap
gives out afterwards; stack and libraries are moved by the kernel, with each block's fresh nursery.
"""

import random

VARIABLE = "LSTM_BENCH_LAYOUT"
# A page and more, in steps of a cache line: where in a page and where in a set things lie.
STEP_BYTES = 64
MOST_STEPS = 256


def drawn(seed: int, block: int, side: int) -> int:
    """How many bytes the variable of a block's workers has; the two sides draw apart."""
    chance = random.Random(f"layout of seed {seed}, block {block}, side {side}")
    return STEP_BYTES * chance.randint(1, MOST_STEPS)


def padding(size: int) -> dict[str, str]:
    """The variable of this many bytes, as a part of an environment; empty for 0."""
    return {VARIABLE: "x" * size} if size else {}
