"""The fields of a run's manifest that are read, with their types; a manifest may hold more."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lstm_harness.model.ceilings import Ceilings
from lstm_harness.model.definitions import learn
from lstm_harness.model.part import Part
from lstm_harness.model.plan import Plan
from lstm_harness.model.spec import Spec
from lstm_harness.model.typed import Stored, built


@dataclass(frozen=True)
class _Cpu(Stored):
    model: str | None = None
    generation: str | None = None
    physical_cores: int | None = None
    threads: int | None = None
    capability: str | None = None
    last_level_cache_bytes: int | None = None


@dataclass(frozen=True)
class _Gpu(Stored):
    name: str | None = None
    uuid: str | None = None
    sm_count: int | None = None
    compute_capability: str | None = None
    memory_bytes: int | None = None
    driver: str | None = None


@dataclass(frozen=True)
class _Git(Stored):
    commit: str | None = None
    dirty: bool | None = None


@dataclass(frozen=True)
class _State(Stored):
    load_average: tuple[float, ...] | None = None
    scheduler: str | None = None
    gpu: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class _Used(Stored):
    digest: str
    date: str


@dataclass(frozen=True)
class _Tuned(Stored):
    used: _Used | None = None
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Plugin(Stored):
    file: str
    sha256: str
    backends: tuple[str, ...]


@dataclass(frozen=True)
class _Environment(Stored):
    host: str | None = None
    os: str | None = None
    python: str | None = None
    cpu: _Cpu | None = None
    ram_bytes: int | None = None
    gpu: _Gpu | None = None
    torch: str | None = None
    cuda: str | None = None
    cudnn: int | None = None
    triton: str | None = None
    numba: str | None = None
    git: _Git | None = None
    settings: Mapping[str, Any] | None = None
    tuned: Mapping[str, _Tuned] | None = None
    start: _State | None = None
    end: _State | None = None


@dataclass(frozen=True)
class _Merged(Stored):
    id: str
    machines: tuple[str, ...]
    environment: _Environment
    records_sha256: str
    part: Part | None = None


@dataclass(frozen=True)
class _Manifest(Stored):
    id: str
    start: str
    seed: int
    kernels_digest: str
    spec: Spec
    plan: Plan
    environment: _Environment
    label: str | None = None
    suite: str | None = None
    command: tuple[str, ...] | None = None
    lstm_bench: str | None = None
    end: str | None = None
    limits: Ceilings | None = None
    no_limits: str | None = None
    records_sha256: str | None = None
    part: Part | None = None
    parts: tuple[_Merged, ...] = ()
    plugins: tuple[_Plugin, ...] | None = None
    compiled_earlier: bool = False

    def __post_init__(self) -> None:
        if self.part:
            self.plan.cells(self.part)


def check(manifest: Any, origin: str) -> None:
    """Refuse anything but a manifest; the cells that it defines are known from here on.

    Args:
        origin: where it is, for a message about a cell.
    Raises:
        ValueError: it is not one; the message names the field.
        UserError: it defines a known cell in another way.
    """
    learn(manifest.get("definitions"), origin)
    built(manifest, _Manifest, "the manifest")


def check_environment(environment: Any) -> None:
    """Refuse anything but the environment of a run.

    Raises:
        ValueError: it is not one; the message names the field.
    """
    built(environment, _Environment, "environment")
