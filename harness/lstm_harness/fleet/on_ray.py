"""Engine `ray`: tasks of a Ray cluster, one GPU for each; where there is none, a whole node."""

import logging
import signal
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lstm_harness.fleet.process import TaskProcess, own_environment
from lstm_harness.fleet.task import Ended, Task
from lstm_harness.model.errors import Exit, MeasuringFailed, UserError

_MOMENT_S = 1.0
# Ray sets it to a task's share of a node's cores; --threads says how many threads a worker has.
_OMP_THREADS = "OMP_NUM_THREADS"
_NODE = "ray.io/node-id"


class RayEngine:
    """Gives every task to Ray at once, which keeps those that have no device yet.

    Args:
        address: of a node of the cluster; None for that of RAY_ADDRESS, or one on this host.
        accelerator_type: the kind of GPU, as Ray names it; None for any.
    Raises:
        UserError: Ray is not installed. `MeasuringFailed`: there is no cluster there.
    """

    def __init__(self, address: str | None = None, accelerator_type: str | None = None) -> None:
        try:
            import ray
        except ModuleNotFoundError:
            raise UserError("--engine ray needs ray: pip install 'lstm-bench[fleet]'") from None
        self._ray: Any = ray
        self._accelerator_type = accelerator_type
        self._names: dict[Any, str] = {}
        self._shared: tuple[Mapping[str, Any] | None, Any] = (None, None)
        heard = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            ray.init(address or "auto", log_to_driver=False, logging_level=logging.ERROR)
        except ConnectionError as error:
            raise MeasuringFailed(
                f"no Ray cluster at {address or 'this host'}: {str(error).splitlines()[0]}; begin "
                "one with ray start --head, or give --address"
            ) from None
        finally:
            for number, handler in heard.items():
                signal.signal(number, handler)

    def submit(self, tasks: Sequence[Task], avoiding: Collection[str] = ()) -> None:
        """Give these to Ray."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        for device in dict.fromkeys(task.device for task in tasks):
            remote = self._ray.remote(**self._needs(device, nodes, avoiding))(_carry_out)
            for task in tasks:
                if task.device == device:
                    alone = replace(task, shared={})
                    self._names[remote.remote(alone, self._stored(task.shared))] = task.name

    def poll(self) -> list[Ended]:
        """The tasks that ended, also those that were lost with their node."""
        if not self._names:
            return []
        running = list(self._names)
        ready, others = self._ray.wait(running, timeout=_MOMENT_S)
        if ready and others:
            more, _ = self._ray.wait(others, num_returns=len(others), timeout=0)
            ready = [*ready, *more]
        return [self._ended(each) for each in ready]

    def cancel(self) -> None:
        """End every task, and leave the cluster."""
        for each in self._names:
            self._ray.cancel(each, force=True)
        self._names.clear()
        self._ray.shutdown()

    def _ended(self, reference: Any) -> Ended:
        name = self._names.pop(reference)
        try:
            ended: Ended = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            said = next(iter(str(error).strip().splitlines()), type(error).__name__)
            return Ended(name, code=Exit.MEASURING_FAILED, said=f"it was lost: {said}")
        return ended

    def _stored(self, shared: Mapping[str, Any]) -> Any:
        """Where Ray keeps what tasks share; it is put there once."""
        if self._shared[0] is not shared:
            self._shared = shared, self._ray.put(shared)
        return self._shared[1]

    def _needs(
        self, device: str, nodes: Sequence[Mapping[str, Any]], avoiding: Collection[str]
    ) -> dict[str, Any]:
        """What Ray has to find for a task. Ray does not retry it: it cannot judge a result."""
        needs: dict[str, Any] = {"max_retries": 0, "max_calls": 1}
        if avoiding:
            needs["label_selector"] = {_NODE: f"!in({','.join(sorted(avoiding))})"}
        has_gpus = any(node.get("GPU") for node in nodes)
        on_gpu = device == "cuda" or (device == "auto" and has_gpus)
        if not on_gpu:
            # A CPU is one device: a task has all cores of a node, where nodes are alike.
            cores = [node["CPU"] for node in nodes if node.get("CPU")]
            return needs | {"num_cpus": min(cores, default=1), "scheduling_strategy": "SPREAD"}
        if self._accelerator_type:
            needs["accelerator_type"] = self._accelerator_type
        return needs | {"num_gpus": 1}


def _carry_out(alone: Task, shared: Mapping[str, Any]) -> Ended:
    """Carry out a task on the node of this process, in a fresh process."""
    import ray

    task = replace(alone, shared=shared)
    place = ray.get_runtime_context().get_node_id()
    environment = own_environment()
    environment.pop(_OMP_THREADS, None)
    with TemporaryDirectory(prefix="lstm-bench-fleet-", ignore_cleanup_errors=True) as folder:
        return TaskProcess(task, Path(folder) / "task", environment).wait(place)
