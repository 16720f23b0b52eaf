"""Kernels compiled before they are measured: a compiler's cache serves both."""

from collections.abc import Sequence
from typing import Any

from lstm_harness.model.protocol import CompileCounts, CompileJob


def compile_all(implementation: Any, arch: str, jobs: Sequence[CompileJob]) -> CompileCounts:
    """Compile what the jobs' candidates would launch; return how many were, and how it went.

    Args:
        implementation: a backend with the hooks of `lstm_kernels.tuning` and of
            `lstm_kernels.gpu.launching`.
    """
    done: set[str] = set()
    compiled = cached = failed = 0
    for job in jobs:
        try:
            with implementation.using(job.key, job.choice):
                launches = implementation.launches_for(job.problem, arch)
            new = {launch.key(arch): launch for launch in launches}
            for key in [key for key in new if key not in done]:
                done.add(key)
                was_cached = new[key].compile(arch).cached
                cached += was_cached
                compiled += not was_cached
        except Exception:  # noqa: BLE001 - it shows where the kernel is measured
            failed += 1
    return CompileCounts(compiled, cached, failed)
