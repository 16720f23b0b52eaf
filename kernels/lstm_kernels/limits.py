"""Reasons to refuse that several backends share, each worded once."""

import torch

from lstm_kernels.problem import Problem


def device_limit(problem: Problem, device: str) -> str | None:
    """Why nothing can run this problem on this device, or None.

    Args:
        device: "cpu", "cuda" or "cuda:1".
    """
    kind = torch.device(device).type
    if kind == "cuda" and not torch.cuda.is_available():
        return f"device {device!r} was asked for, and torch sees no CUDA device"
    if kind == "cpu" and problem.precision == "tf32":
        return "TF32 exists on CUDA devices only"
    return None


def cuda_limit(problem: Problem, device: str, what: str) -> str | None:
    """Why something that lives on CUDA alone cannot run here, or None."""
    if torch.device(device).type != "cuda":
        return (
            f"{what} need{'' if what.endswith('s') else 's'} a CUDA device, and this is {device!r}"
        )
    return device_limit(problem, device)
