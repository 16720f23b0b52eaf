"""One launch of a Triton kernel, as data: run it, or compile the same thing with no GPU at hand.

A backend whose module has `launches_for(problem, arch) -> list[Launch]` can be inspected: every
launch it would make for the problem on that architecture (`machine_code.ARCHITECTURES`), with
meta tensors, for inference, for a forward that saves and for a backward. It raises
`stack.Unsupported` with the reason where it would refuse.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Launch:
    """A kernel, its grid and every argument by name.

    `kernel` is a `triton.jit` function. `arguments` holds tensors, numbers, the constexprs, and
    None for a tensor that is not there. `options` are Triton's: num_warps, num_stages,
    launch_cooperative_grid, debug. `regime` and `parameters` name the choice that was made, for
    showing alone.
    """

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    regime: str = ""
    parameters: dict[str, int] = field(default_factory=dict)

    def run(self) -> None:
        """Launch it on the current device and stream."""
        self.kernel[self.grid](**self.arguments, **self.options)
