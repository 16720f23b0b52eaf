"""The machine and the software, for the manifest and for planning."""

import os
import platform
import socket
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch

import lstm_kernels
from lstm_harness.worker.clock import last_level_cache_bytes
from lstm_harness.worker.gpu import Gpu
from lstm_harness.worker.poison import can_poison


def describe(device: str) -> dict[str, Any]:
    """Everything that may change a result, as run.json stores it."""
    return {
        "host": socket.gethostname(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "cpu": _cpu(),
        "ram_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpu": _gpu(device),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if device != "cpu" else None,
        "triton": _version("triton"),
        "numba": _version("numba"),
        "onnxruntime": _version("onnxruntime"),
        "openvino": _version("openvino"),
        "jax": _version("jax"),
        "git": _git(Path(lstm_kernels.__file__).parent),
        "settings": _settings(device),
    }


def state(device: str) -> dict[str, Any]:
    """What changes during a run: load, and the GPU's clocks; and how the system schedules this."""
    gpu = None if device == "cpu" else Gpu.find(device)
    return {
        "load_average": list(os.getloadavg()),
        "scheduler": _scheduler(),
        "gpu": gpu.state() if gpu else None,
    }


def device_identity(device: str) -> str:
    """The name of the device's lock: the GPU's UUID, or the host."""
    if device == "cpu":
        return socket.gethostname()
    return str(torch.cuda.get_device_properties(device).uuid)


def free_bytes(device: str) -> int:
    """The memory that a run may use: the GPU's, or what the system and its limits allow."""
    if device != "cpu":
        return int(torch.cuda.mem_get_info(device)[0])
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    limit = Path("/sys/fs/cgroup/memory.max")
    ceiling = limit.read_text().strip() if limit.exists() else "max"
    return min(available * 1024, int(ceiling)) if ceiling != "max" else available * 1024


def product_flops(dtype: torch.dtype, device: str) -> float:
    """The best rate of a square product, in FLOP/s: what this device's products reach at least.

    On a CPU only the time that its threads ran counts: a neighbour that takes the cores must not
    make this device look slow, because times that no device reaches count as cheats.
    """
    size = 1024 if device == "cpu" else 4096
    threads = torch.get_num_threads()
    a = torch.randn(size, size, device=device).to(dtype)
    best = float("inf")
    for _ in range(4):
        start, ran = perf_counter(), process_time()
        torch.mm(a, a)
        if device != "cpu":
            torch.cuda.synchronize()
        elapsed = perf_counter() - start
        best = min(best, elapsed, (process_time() - ran) / threads if device == "cpu" else elapsed)
    return 2 * size**3 / best


def physical_cores() -> int:
    """Cores this process may use, hyper-threads of one core counted once."""
    allowed = os.sched_getaffinity(0)
    cores = set()
    for cpu in allowed:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings.read_text() if siblings.exists() else str(cpu))
    return len(cores)


def _cpu() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "model": models[0] if models else platform.processor(),
        "generation": generation(lines),
        "physical_cores": physical_cores(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "last_level_cache_bytes": last_level_cache_bytes("cpu"),
    }


def generation(lines: Sequence[str]) -> str | None:
    """What distinguishes CPUs of one name, as of `/proc/cpuinfo`: vendor, family and model.

    A virtual machine's "AMD EPYC" may be one of several generations.
    """
    pairs = (line.partition(":") for line in reversed(lines))
    told = {name.strip(): value.strip() for name, _, value in pairs}
    for names in (("vendor_id", "cpu family", "model"), ("CPU implementer", "CPU part")):
        if all(told.get(name) for name in names):
            return " ".join(told[name] for name in names)
    return None


def _scheduler() -> str:
    """The policy of this process, which its workers inherit, and its priority among others."""
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    names = ("SCHED_OTHER", "SCHED_BATCH", "SCHED_IDLE", "SCHED_FIFO", "SCHED_RR")
    name = next((n for n in names if getattr(os, n) == policy), f"policy {policy}")
    return f"{name} {priority}" if priority else name


def _gpu(device: str) -> dict[str, Any] | None:
    if device == "cpu":
        return None
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "uuid": str(properties.uuid),
        "sm_count": properties.multi_processor_count,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "memory_bytes": properties.total_memory,
        "driver": _driver(),
    }


def _driver() -> str | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None


def _settings(device: str) -> dict[str, Any]:
    return {
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "flush_denormal": (torch.tensor([1e-40]) * 0.5).item() == 0.0,
        "mkldnn": torch.backends.mkldnn.is_available(),
        "mkl": torch.backends.mkl.is_available(),
        "poisoned_memory": can_poison(device),
        "omp": {name: os.environ[name] for name in sorted(os.environ) if name.startswith("OMP_")},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(folder: Path) -> dict[str, Any] | None:
    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    return (
        None if commit is None else {"commit": commit, "dirty": bool(ask("status", "--porcelain"))}
    )
