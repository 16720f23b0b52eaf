"""What of a machine and its software must stay the same, or records do not belong together."""

from collections.abc import Mapping, Sequence
from typing import Any

LASTING = (
    *("host", "gpu", "cpu", "torch", "cuda", "cudnn", "triton", "numba", "python"),
    *("onnxruntime", "openvino", "jax"),
)
Environment = Mapping[str, Any]


def changed(began: Environment, here: Environment) -> list[str]:
    """The names of the facts in which two environments differ; the machine must be the same."""
    return [name for name in LASTING if began.get(name) != here.get(name)]


def changed_class(began: Environment, here: Environment) -> list[str]:
    """The same for two machines of one class: host, and which GPU it is, may differ."""
    return changed(_class(began), _class(here))


def tuned(environment: Environment, backends: Sequence[str]) -> dict[str, str]:
    """The digest of the file of tuned parameters that each of these backends uses, if any."""
    facts = environment.get("tuned") or {}
    used = {name: facts[name]["used"] for name in backends if name in facts}
    return {name: file["digest"] for name, file in used.items() if file}


def _class(environment: Environment) -> Environment:
    gpu = environment.get("gpu")
    kind = {name: fact for name, fact in gpu.items() if name != "uuid"} if gpu else gpu
    return {**environment, "host": None, "gpu": kind}
