"""How blocks on different SMs exchange a step's values: the data is the flag.

What a block computes for the others (h of its units in the forward, its gates' gradients in the
backward) it stores into y and d_gates, where the caller wants it anyway. Before a launch every
element that the launch will store holds NOT_YET, a NaN with special bits. A reader of an
element loads it until its bits change. There is no counter, no fence, and no barrier for it.

Why no reader mistakes anything else for the value:

- A slot belongs to one step. The place of an element in y or d_gates is its sequence, its step and
  its unit, so a launch stores each element once and resets none: there is no old value of a slot
  that could be taken for a new one, and nothing is overwritten that another still reads.
- It is reset at a safe time: `mark_not_yet` fills the tensor on the stream
  before the launch, so after all earlier work and before any block of it begins. Tiles and
  directions that take turns have elements of their own. In a ragged batch those past a sequence's
  end are neither stored nor read, and stay zero.
- NOT_YET is never stored: `tell` stores another NaN instead. Arithmetic, or a payload in the
  weights, the input or the states of the user, may make exactly these bits; NaN stays NaN.
- h0 was there before the launch and is not polled, so that it may have any bits.

The order that this relies on (PTX memory model): none between different elements. Each is one
relaxed access of 4 or 8 bytes, which is not torn; a vector load is several of them, in no order,
and each is checked separately. A load of an element sees NOT_YET or the one value that is stored
there. Every load of a poll is another instruction that L1 may not answer (`ld.relaxed.gpu`), so
that the value is seen eventually. Loaded values go through shared memory, where the block's own
barriers order it. A block's own elements come the same way. No other tensor is shared between
blocks.

A poll is bounded: a value that never comes leads to a trap, which CUDA reports as a launch failure,
and not to a hang. A cooperative launch guarantees that the block that stores it runs. The
simulator runs blocks one after another and polls nothing.
"""

# Device code is not Python: Numba types these functions itself.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import torch
from torch import Tensor

from lstm_kernels.backends.fused_numba_cuda.memory import (
    NOT_YET,
    other_than_not_yet,
    store_relaxed,
)
from lstm_kernels.common.unroll import alive_steps
from lstm_kernels.gpu.numba_launching import device_function

# Polls of an element before it gives up. At 0.3 to 0.7 us a poll (an L2 round trip) some 5 to 12
# seconds.
POLL_LIMIT = 1 << 24

# Its bits as PyTorch takes them: there is no fill for unsigned numbers on every device.
_SIGNED = NOT_YET - (1 << 32)


@device_function
def tell(array, at, value):
    """Store an element that other blocks wait for."""
    store_relaxed(array, at, other_than_not_yet(value))


def mark_not_yet(told: Tensor, lengths: Tensor) -> None:
    """Fill a tensor with NOT_YET wherever a kernel will store a value.

    Args:
        told: [.., T, B, n], contiguous, float32 or float64.
        lengths: [B] on its device, elements past their ends do not change; or empty.
    """
    words = told.view(torch.int32)
    if len(lengths):
        alive = alive_steps(lengths, told.shape[-3], told.device).unsqueeze(-1)
        words.masked_fill_(alive, _SIGNED)
    else:
        words.fill_(_SIGNED)
