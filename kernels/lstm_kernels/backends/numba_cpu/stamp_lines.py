"""What kernels with time stamps write for the host to read: a line of memory for each thread.

A line is [the host's clock in ns, the CPU's counter at that time, the counter at the last stamp, a
sum for each phase], int64. Sums are in ticks of that counter: it takes less time to read.
"""

# Numbers of phases; the backward's packing also copies what the weights' gradients are made from.
PACKING, FROM_X, PRODUCTS, GATES, MEETING, D_X, D_W = range(7)
NAMES = ("packing", "x W_ih^T", "steps: products", "steps: gates", "meeting", "dx", "dW, db")

HOST_AT, BEGAN_AT, LAST_AT, SUMS_AT = 0, 8, 16, 24
# Whole cache lines, so that no two threads write the same one.
LINE_WORDS = 16
LINE_BYTES = 8 * LINE_WORDS
