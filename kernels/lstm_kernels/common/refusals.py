"""Reasons to refuse that several backends share, each written once."""

import os

import torch

from lstm_kernels.problem import Problem


def device_limit(problem: Problem, device: str) -> str | None:
    """Why nothing can run this problem on this device, or None.

    Args:
        device: "cpu", "cuda" or "cuda:1".
    """
    kind = torch.device(device).type
    if kind == "cuda" and not torch.cuda.is_available():
        return f"device {device!r} was asked for, but torch sees no CUDA device"
    if kind == "cpu" and problem.precision == "tf32":
        return "TF32 exists on CUDA devices only"
    return None


def cuda_limit(problem: Problem, device: str, what: str) -> str | None:
    """Why something that runs only on CUDA cannot run here, or None."""
    if torch.device(device).type != "cuda":
        return (
            f"{what} need{'' if what.endswith('s') else 's'} a CUDA device, and this is {device!r}"
        )
    return device_limit(problem, device)


def triton_limit(problem: Problem, device: str, what: str) -> str | None:
    """Why Triton kernels cannot run here, or None."""
    return interpreted_limit(problem, device, what, "TRITON_INTERPRET")


def interpreted_limit(problem: Problem, device: str, what: str, variable: str) -> str | None:
    """Why kernels that a CPU can interpret if a variable is set cannot run here, or None.

    Args:
        variable: an environment variable, `registry.Backend.interpreter`.
    """
    interpreted = is_interpreted(variable)
    on_cpu = torch.device(device).type == "cpu"
    if on_cpu and not interpreted:
        reason = cuda_limit(problem, device, what)
        return f"{reason}; {variable}=1 interprets its kernels there, for checking only"
    reason = device_limit(problem, device)
    if reason is None and interpreted and not on_cpu:
        return f"{variable} has a CPU interpret the kernels; unset it to use {device!r}"
    return reason


def forked_limit(library: str, process: int | None) -> str | None:
    """Why a library with its own threads cannot compute here, or None.

    Args:
        library: the owner of the threads, "XLA".
        process: the one in which it made them, None before.
    """
    if process in (None, os.getpid()):
        return None
    return (
        f"{library}'s threads do not exist in this forked process, so it would wait for them "
        "forever; start the process with spawn"
    )


def float32_limit(problem: Problem, what: str) -> str | None:
    """Why kernels that compute in float32 do not run this problem, or None."""
    if problem.dtype == "float64":
        computes = "compute" if what.endswith("s") else "computes"
        return f"{what} {computes} in float32, and this is float64"
    return None


def is_interpreted(variable: str) -> bool:
    """Whether an environment variable is set to what Triton reads as yes; Numba reads 1."""
    return os.environ.get(variable, "").lower() in ("1", "true", "yes", "on", "y")
