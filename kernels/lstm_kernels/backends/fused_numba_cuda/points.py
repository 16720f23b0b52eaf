"""What both regimes do for one unit of one sequence at a step: where it lies, reads and writes.

Tensors are flat, contiguous and indexed in 64 bits. `gates` is the cell's number of gate blocks, a
constant wherever these are called.
"""

# Device code is not Python: Numba types these functions itself.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from lstm_kernels.gpu.numba_launching import device_function


@device_function
def length_of(lengths, ragged, sequence, T):
    """Steps of a sequence; `lengths` is read where the batch is ragged."""
    if ragged:
        return lengths[sequence]
    return T


@device_function
def position(step, length, direction):
    """The place in its sequence of a step, which counts in the order of computing."""
    if direction == 1:
        return length - 1 - step
    return step


@device_function
def load_blocks(array, at, H, gates):
    """A unit's element of each gate's block of H; the first one for blocks that are not there."""
    first = array[at]
    second = array[at + H] if gates > 1 else first
    third = array[at + 2 * H] if gates > 1 else first
    fourth = array[at + 3 * H] if gates > 3 else first
    return first, second, third, fourth


@device_function
def store_blocks(array, at, H, blocks, a, b, c, d):
    """Store a unit's element of each of `blocks` (1 or 4) blocks of H."""
    array[at] = a
    if blocks > 1:
        array[at + H] = b
        array[at + 2 * H] = c
        array[at + 3 * H] = d


@device_function
def preactivations(x_0, x_1, x_2, x_3, h_0, h_1, h_2, h_3, gates):
    """p0 to p3 of `lstm_kernels.gpu.fused_gates`, from the parts that come from x and from h."""
    if gates == 3:
        return x_0 + h_0, x_1 + h_1, x_2, h_2
    return x_0 + h_0, x_1 + h_1, x_2 + h_2, x_3 + h_3


@device_function
def with_products(p_0, p_1, p_2, p_3, h_0, h_1, h_2, h_3, gates):
    """p0 to p3, given without the product of h, with it."""
    if gates == 3:
        return p_0 + h_0, p_1 + h_1, p_2, p_3 + h_2
    return p_0 + h_0, p_1 + h_1, p_2 + h_2, p_3 + h_3
