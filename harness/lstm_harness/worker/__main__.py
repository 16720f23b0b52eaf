"""A worker: the only process that touches a device. It answers requests, one JSON object a line.

`python -m lstm_harness.worker --device cpu --threads 2` reads requests from its standard input and
writes replies to what was its standard output; whatever else anyone prints goes to standard error.
Each reply is `{"ok": ...}`, or `{"failed": status, "reason": ..., "poisoned": bool}`.
"""

import argparse
import ctypes
import gc
import json
import os
import signal
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

import lstm_kernels
from lstm_harness.model.case import Case
from lstm_harness.tune.precompile import compile_all
from lstm_harness.worker import environment, oracle
from lstm_harness.worker.executor import Contest, Incorrect, Job, set_precision
from lstm_harness.worker.inputs import TORCH_DTYPES
from lstm_harness.worker.passes import Malformed
from lstm_harness.worker.probes.probe import Bencher
from lstm_harness.worker.sampling import Limits
from lstm_kernels import Backend, registry, tuning
from lstm_kernels.common.refusals import is_interpreted
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Unsupported

LONGEST_REASON = 500


class Worker:
    """Answers requests for one device."""

    def __init__(self, device: str) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._device = device
        self._contest: Contest | None = None
        self._bencher: Bencher | None = None
        self._rates: dict[tuple[str, str], float] = {}

    def answer(self, request: dict[str, Any]) -> Any:
        """Do what a request asks; what it raises becomes the reply's reason."""
        return getattr(self, "_do_" + request["do"])(**request.get("with", {}))

    def _do_plugin(self, path: str) -> dict[str, Any]:
        try:
            added = _add_plugin(path)
        except SystemExit as end:
            return {"names": [], "error": f"SystemExit: {end}"}
        return {"names": [b.name for b in added], "error": registry.unavailable().get(path)}

    def _do_registered(self) -> dict[str, Any]:
        known = registry.registered().values()
        return {"backends": [asdict(b) for b in known], "unavailable": registry.unavailable()}

    def _do_device(self) -> dict[str, Any]:
        return {
            "device": self._device,
            "cuda": torch.cuda.is_available(),
            "torch": torch.__version__,
        }

    def _do_facts(self, plugins: list[str]) -> dict[str, Any]:
        return {
            "environment": {**environment.describe(self._device), "tuned": self._tuned()},
            "identity": environment.device_identity(self._device),
            "free_bytes": environment.free_bytes(self._device),
            "kernels_digest": environment.sources_digest(plugins),
            "kernels": str(Path(lstm_kernels.__path__[0]).resolve().parent),
        }

    def _tuned(self) -> dict[str, Any]:
        """Of each backend that has a file of tuned parameters, whether it is used or why not."""
        active = {name: tuning.active(name, self._device) for name in registry.backends()}
        return {name: each.facts() for name, each in active.items() if each.tuned or each.refused}

    def _do_state(self) -> dict[str, Any]:
        return environment.state(self._device)

    def _do_ceilings(self) -> dict[str, Any]:
        """What `round` will measure of this device, by which its ceilings are found."""
        if self._device == "cpu":
            from lstm_harness.worker.probes import cpu

            self._bencher = Bencher(cpu.bench(torch.get_num_threads()))
        else:
            from lstm_harness.worker.probes import cuda

            self._bencher = Bencher(cuda.bench(self._device))
        return self._bencher.facts()

    def _do_round(self) -> list[Any]:
        assert self._bencher is not None, "ask for ceilings first"
        return self._bencher.round()

    def _do_missing(self, backend: str, checking: bool = False) -> str | None:
        """Why a backend cannot run on this machine at all, told without importing it.

        One that is interpreted on a CPU can be checked there, and is never timed.
        """
        record = registry.get(backend)
        interpreted = checking and self._device == "cpu" and is_interpreted(record.interpreter)
        if self._device.partition(":")[0] not in record.devices and not interpreted:
            reason = f"runs on {', '.join(record.devices)} only; this is {self._device}"
            if record.interpreter and self._device == "cpu":
                reason += f"; {record.interpreter}=1 lstm-bench verify checks it here, interpreted"
            return reason
        missing = [package for package in record.requires if not _is_installed(package)]
        return f"needs {', '.join(missing)}: pip install {' '.join(missing)}" if missing else None

    def _do_unsupported(self, backend: str, problems: list[dict[str, Any]]) -> list[str | None]:
        implementation = registry.load(backend)
        return [implementation.unsupported(Problem.from_dict(p), self._device) for p in problems]

    def _do_oracle(self, problem: dict[str, Any], seed: int, path: str) -> dict[str, Any]:
        asked = Problem.from_dict(problem)
        oracle.save(oracle.answer(asked, seed, self._device), Path(path))
        self._give_memory_back()
        set_precision(asked)
        fastest = max(self._rate("float32", asked.precision), self._rate(asked.dtype, "ieee"))
        return {"product_flops": fastest}

    def _do_load(self, backend: str, plugin: str | None) -> None:
        if plugin:
            _add_plugin(plugin)
        self._contest = self._load(backend)

    def _do_enter(self, **fields: Any) -> dict[str, Any]:
        job = Job(
            backend=fields["backend"],
            case=Case.from_dict(fields["case"]),
            seed=fields["seed"],
            answer=Path(fields["answer"]),
            limits=Limits(**fields["limits"]),
            impossible_ns=fields["impossible_ns"],
            with_memory=fields["with_memory"],
            with_energy=fields["with_energy"],
            our_pids=frozenset(fields["our_pids"]),
            verify_only=fields["verify_only"],
        )
        if self._contest is None:
            self._contest = self._load(job.backend)
        try:
            if fields.get("trial"):
                return self._contest.attempt(job, **fields["trial"])
            return self._contest.enter(job)
        finally:
            self._give_memory_back()

    def _do_lacks(self, backend: str, hooks: list[str]) -> list[str]:
        """Which of these hooks a backend lacks."""
        implementation = registry.load(backend)
        return [name for name in hooks if not hasattr(implementation, name)]

    def _do_candidates(self, backend: str, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Of each case the key of its tuned parameters, and the choices worth measuring."""
        implementation = registry.load(backend)
        found = []
        for case in map(Case.from_dict, cases):
            asked = case.problem, case.pass_name, self._device
            key, choices = implementation.tuning_key(*asked), implementation.candidates(*asked)
            found.append({"key": key, "candidates": [dict(choice) for choice in choices]})
        return found

    def _do_compile(
        self, backend: str, plugin: str | None, arch: str, jobs: list[dict[str, Any]]
    ) -> dict[str, int]:
        """Compile the kernels of candidates, for those who measure them."""
        if plugin:
            _add_plugin(plugin)
        return compile_all(registry.load(backend), arch, jobs)

    def _do_tuned(self, backend: str) -> dict[str, Any]:
        """What a file of tuned parameters made now would say of itself, and its name."""
        name = tuning.file_name(backend, tuning.device_facts(self._device))
        return {"header": tuning.header(registry.get(backend), self._device), "name": name}

    def _load(self, backend: str) -> Contest:
        contest = Contest(registry.load(backend), registry.get(backend).passes, self._device)
        # Collecting garbage before every cell then looks at that cell's objects alone.
        gc.freeze()
        return contest

    def is_lost(self) -> bool:
        """Whether the CUDA context is broken, so that every later cell would fail."""
        if self._device == "cpu":
            return False
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            return True
        return False

    def _give_memory_back(self) -> None:
        """Leave the GPU's memory to the other workers that share it."""
        if self._device != "cpu":
            gc.collect()
            torch.cuda.empty_cache()

    def _rate(self, dtype: str, precision: str) -> float:
        key = dtype, precision
        if key not in self._rates:
            self._rates[key] = environment.product_flops(TORCH_DTYPES[dtype], self._device)
        return self._rates[key]


def _add_plugin(path: str) -> tuple[Backend, ...]:
    """Register a plugin, which may import what lies beside it."""
    sys.path.append(str(Path(path).resolve().parent))
    return registry.add_plugin(path)


def _is_installed(package: str) -> bool:
    """Whether a package can be found, by its top-level name: looking inside would import it."""
    top = package.partition(".")[0]
    return bool(top) and find_spec(top) is not None


def failure(error: BaseException) -> dict[str, Any]:
    """The reply that tells what went wrong: status and one line."""
    text = " ".join(str(error).split())[:LONGEST_REASON]
    reply: dict[str, Any] = {"failed": "error", "reason": f"{type(error).__name__}: {text}"}
    if isinstance(error, Incorrect | Malformed):
        reply |= {"failed": "incorrect", "reason": text, "errors": getattr(error, "errors", {})}
    elif isinstance(error, Unsupported):
        reply |= {"failed": "unsupported", "reason": text}
    elif _is_out_of_memory(error):
        reply |= {"failed": "out_of_memory"}
    return reply


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, RuntimeError) and any(w in str(error).lower() for w in words)


def serve(worker: Worker, replies: Any) -> None:
    """Answer until standard input ends, which it does when the harness is gone."""
    for line in sys.stdin:
        try:
            reply = {"ok": worker.answer(json.loads(line))}
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a backend may raise anything; it becomes a record
            reply = failure(error) | {"poisoned": worker.is_lost()}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _own_standard_output() -> Any:
    """Keep standard output for replies; prints, from C too, go to standard error from here on."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def _die_with_parent(parent: int) -> None:
    """On Linux, be killed when the harness is: a hung backend must not outlive it."""
    if sys.platform.startswith("linux"):
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the harness is gone")


def main() -> None:
    """Run a worker until its standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", required=True)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--parent", type=int, required=True)
    given = parser.parse_args()
    replies = _own_standard_output()
    _die_with_parent(given.parent)
    torch.set_num_threads(given.threads or environment.physical_cores())
    serve(Worker(given.device), replies)


if __name__ == "__main__":
    main()
