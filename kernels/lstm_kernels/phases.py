"""Where a pass spends its time: what a backend may offer, so that `lstm-bench phases` can tell.

A backend offers its phases if its module has `in_phases(note)`, which returns an object with the
module's `layer` or `stack`. That object computes the same, and calls `note` when a phase ends. The
module's own `layer` notes nothing, so what a run times has no trace of this.

A phase is a name. What is noted twice is added up. `phases` shows what no phase has as `other`.
"""

from typing import Protocol

from torch import Tensor


class Note(Protocol):
    """How a backend reports its phases."""

    def __call__(self, phase: str, ns: float | None = None) -> None:
        """A phase ends here: all since the note before, or since the pass began, was this phase.

        On a GPU the time is that of the current stream, between two events.

        Args:
            ns: nanoseconds of the phase, from a backend with a clock of its own, like one inside a
                kernel. Then nothing ends here, and the next note without `ns` counts these no more.
        """


def note_backward(note: Note, phase: str, tensor: Tensor) -> None:
    """Note that a phase ends when autograd has made the gradient of a tensor that is not a leaf.

    Does nothing if there will be no gradient.
    """
    if tensor.requires_grad:
        tensor.register_hook(lambda gradient: note(phase))
