"""Peak memory of a pass above its inputs, and what a forward keeps for its backward."""

from collections.abc import Callable

import torch
from torch._C._autograd import _enable_record_function
from torch.autograd.profiler import profile


def peak_and_kept_bytes(device: str, execute: Callable[[], object]) -> tuple[int, int]:
    """Run once; return the highest memory above the start, and what is still held at the end."""
    if device == "cpu":
        return _on_cpu(execute)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    execute()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before, torch.cuda.memory_allocated() - before


def _on_cpu(execute: Callable[[], object]) -> tuple[int, int]:
    """The profiler sees every block that the CPU allocator allocates and frees, in order.

    Not torch.profiler's front end, which imports the compiler first: a second in every worker.
    Operations are not noted: a loop over time has some ten thousand, and nobody reads them.
    """
    with profile(profile_memory=True) as profiled:
        _enable_record_function(False)
        try:
            execute()
        finally:
            _enable_record_function(True)
    events = [e for e in profiled.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak, held
