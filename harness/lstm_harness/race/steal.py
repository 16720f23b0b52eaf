"""Time that the hypervisor took from this machine."""

from pathlib import Path


def steal_ms() -> float:
    """Time the hypervisor took from this machine since it started, in ms; 0 if unknown."""
    try:
        fields = Path("/proc/stat").read_text().partition("\n")[0].split()
    except OSError:
        return 0.0
    return float(fields[8]) * 10 if len(fields) > 8 else 0.0
