"""Where memory lies: each block and side draws another layout.

Two builds of one source can differ in time by that alone. Mytkowicz et al. 2009, "Producing wrong
data without doing anything obviously wrong!", changed the size of the environment, and with it
where the stack lies. Here the environment of every worker has a variable whose length is drawn from
the run's seed, the block and the side.

For a worker that is a program of its own this moves the stack and the heap. For a worker that is
forked (race.nursery) it moves the heap: the worker holds the variable as long as it lives, and
larger allocations come to lie behind it. Its stack and libraries are where the system put those of
the nursery, and each block has a fresh nursery.
"""

import random

VARIABLE = "LSTM_BENCH_LAYOUT"
# More than the gaps that imports leave in the heap: less would fill one, and move nothing.
LEAST_BYTES = 16 * 1024
# A cache line, to which PyTorch aligns tensors on a CPU. This many steps are four pages.
STEP_BYTES = 64
STEPS = 256


def drawn(seed: int, block: int, side: int) -> int:
    """The length of the variable, in bytes, for the workers of a side in a block."""
    chance = random.Random(f"layout of seed {seed}, block {block}, side {side}")
    return LEAST_BYTES + STEP_BYTES * chance.randrange(STEPS)


def padding(size: int) -> dict[str, str]:
    """The part of an environment that holds a variable of this length; empty for a length of 0."""
    return {VARIABLE: "x" * size} if size else {}
