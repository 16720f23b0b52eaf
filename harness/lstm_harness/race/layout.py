"""Where memory lies, drawn anew for each block and side.

Two builds of one source can differ in time by that alone. Mytkowicz et al. 2009, "Producing wrong
data without doing anything obviously wrong!", changed the size of the environment, and with it
where the stack lies. Here the environment of every worker has a variable whose length is drawn from
the run's seed, the block and the side.

A worker that is a program of its own has its stack moved by it, and its heap. A worker that is
forked (race.nursery) has its heap moved: the variable is an allocation that it holds as long as it
lives, and the larger ones that follow lie behind it. Its stack and libraries are where the system
put those of the nursery, of which each block has a fresh one.
"""

import random

VARIABLE = "LSTM_BENCH_LAYOUT"
# More than the gaps that imports leave in the heap: less would fill one, and move nothing.
LEAST_BYTES = 16 * 1024
# A cache line, to which PyTorch aligns a CPU's tensors; so many of them are four pages.
STEP_BYTES = 64
STEPS = 256


def drawn(seed: int, block: int, side: int) -> int:
    """How many bytes the variable of a block's workers has; the two sides draw apart."""
    chance = random.Random(f"layout of seed {seed}, block {block}, side {side}")
    return LEAST_BYTES + STEP_BYTES * chance.randrange(STEPS)


def padding(size: int) -> dict[str, str]:
    """A part of an environment: the variable of so many bytes, or nothing where that is none."""
    return {VARIABLE: "x" * size} if size else {}
