"""What a record holds in addition to times: memory, energy, other users of the GPU."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch

from lstm_harness.worker.gpu import Gpu
from lstm_harness.worker.inputs import Inputs
from lstm_harness.worker.memory import peak_and_kept_bytes
from lstm_harness.worker.passes import Pass

# NVML's energy counter moves every 20 to 100 ms: over a second the error is within a tenth.
ENERGY_S = 1.0


@dataclass(frozen=True)
class Resources:
    """Measures the other costs of one pass.

    `forward` is the forward that saves for backward; `empty_cache` frees what the backend keeps
    from one call to the next.
    """

    device: str
    pass_name: str
    the_pass: Pass
    forward: Pass
    inputs: Inputs
    empty_cache: Callable[[], None]

    def memory(self) -> tuple[int, int | None]:
        """The record's peak_bytes and saved_bytes; an inference saves nothing."""
        peak, saved = self._peak_and_saved_bytes(self.the_pass)
        if self.pass_name == "inference":
            return peak, None
        if self.pass_name != "forward":
            _, saved = self._peak_and_saved_bytes(self.forward)
        return peak, saved

    def warnings(self, our_pids: Collection[int]) -> list[str]:
        """Reasons to doubt the times."""
        gpu = self._gpu()
        foreign = gpu.foreign_processes(our_pids) if gpu else []
        return [f"other processes on the GPU: {foreign}"] if foreign else []

    def _peak_and_saved_bytes(self, the_pass: Pass) -> tuple[int, int]:
        """The peak memory above its inputs, and what it keeps in addition to its outputs.

        What the backend keeps for its next call counts as used by this one, and as freed by it.
        """
        state = the_pass.prepare(self.inputs)
        self.empty_cache()

        def execute() -> None:
            the_pass.execute(state)
            self.empty_cache()

        peak, kept = peak_and_kept_bytes(self.device, execute)
        outputs = sum(out.untyped_storage().nbytes() for out in state.outputs)
        return peak, max(0, kept - outputs)

    def energy_mj(self) -> float | None:
        """Energy of one execution with its preparation; None for a backward pass."""
        gpu = self._gpu()
        before = gpu.energy_mj() if gpu else None
        if gpu is None or before is None or self.pass_name == "backward":
            return None
        executions, started = 0, time.monotonic()
        while time.monotonic() - started < ENERGY_S:
            self.the_pass.execute(self.the_pass.prepare(self.inputs))
            torch.cuda.synchronize()
            executions += 1
        after = gpu.energy_mj()
        return None if after is None else (after - before) / executions

    def _gpu(self) -> Gpu | None:
        return None if self.device == "cpu" else Gpu.find(self.device)
