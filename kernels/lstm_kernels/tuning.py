"""Launch parameters found by measuring: a tunable backend's hooks, and the file that keeps them.

A backend is tunable if its module has these three; a `device` is a text, like "cpu" or "cuda:1":

    tuning_key(problem, pass_name, device) -> str
        the key of a choice: everything that changes code or load, but never T (see `key_of`).
    candidates(problem, pass_name, device) -> list[Choice]
        the choices worth measuring, the most promising first. The first of all is what
        the backend takes without a file. Each runs every problem of its key.
    using(key, choice) -> context manager
        within it the backend takes that choice for that key, in any thread.

A choice is a small dict of names to numbers and texts, as in JSON. A backend asks `chosen`
before it takes its own parameters, and has `using = partial(tuning.trial, NAME)`:

    choice = tuning.chosen(NAME, tuning_key(problem, pass_name, device), device)

`lstm-bench tune` measures the candidates and stores the results in a file of one backend on one
device: the user's in `user_folder()`, those of the package in tuned/ next to this
file; the user's file wins. A file made on another device, with other sources of the backend, with
other versions of what it needs, with another schema, or a broken one, is refused with a reason, as
a warning, and the backend's own parameters are used. Results are never wrong because of it:
parameters change how fast an answer comes, not the answer.
"""

import hashlib
import json
import os
import platform
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from lstm_kernels import registry, user_cache
from lstm_kernels.problem import Problem

SCHEMA = 1
MOST_BYTES = 64 << 20
HOOKS = ("tuning_key", "candidates", "using")
SHIPPED = Path(__file__).with_name("tuned")

# Batches share a key up to a power of two, from here on: the fewest rows of a tile of matrix units.
LEAST_BATCH = 16

Choice = dict[str, Any]
P = TypeVar("P")


class Refused(ValueError):  # noqa: N818 - a finding about a file
    """A file of tuned parameters that is not used; the message is a reason in one line.

    `stale` says that it was valid once, for this backend on this device, and may be replaced.
    """

    def __init__(self, reason: str, stale: bool = False) -> None:
        super().__init__(reason)
        self.stale = stale


@dataclass(frozen=True)
class Device:
    """The device of tuned parameters. On a CPU `sm_count` is the number of usable cores."""

    name: str
    capability: str
    sm_count: int


@dataclass(frozen=True)
class Tuned:
    """A file of tuned parameters as read.

    `header` is everything except the entries, `entries` maps a key to its result;
    `digest` is the SHA-256 of the file's bytes.
    """

    path: Path
    digest: str
    header: dict[str, Any]
    entries: dict[str, dict[str, Any]]

    @property
    def date(self) -> str:
        """When the file was last written, UTC."""
        return str(self.header["date"])


@dataclass(frozen=True, eq=False)
class Active:
    """The tuned parameters of a backend on a device in this process: a file or none, and refusals.

    `choices` maps the keys with a choice other than the backend's own.
    """

    tuned: Tuned | None = None
    refused: tuple[str, ...] = ()
    choices: Mapping[str, Choice] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """For a run's manifest: the file's digest and date, and the reasons of refusals."""
        found: dict[str, Any] = {"used": None, "refused": list(self.refused)}
        if self.tuned:
            found["used"] = {"digest": self.tuned.digest, "date": self.tuned.date}
        return found


_NOTHING = Active()


def key_of(problem: Problem, pass_name: str, least_batch: int = LEAST_BATCH) -> str:
    """A key with what changes code and load, and nothing else: "forward lstm float16 H512 D1 B16".

    Passes are forward, which inference shares, and backward. B represents all batches from there
    down to the next lower power of two; below `least_batch` for all.
    """
    kind = "backward" if pass_name == "backward" else "forward"
    numbers = "tf32" if problem.precision == "tf32" else problem.dtype
    batch = top_of_bucket(problem.batch, least_batch)
    return f"{kind} {problem.cell} {numbers} H{problem.hidden_size} D{problem.directions} B{batch}"


def top_of_bucket(batch: int, least_batch: int = LEAST_BATCH) -> int:
    """The largest batch that shares a key with this one."""
    return max(least_batch, 1 << (batch - 1).bit_length())


_trials: dict[tuple[str, str], Choice] = {}


@contextmanager
def trial(backend: str, key: str, choice: Choice) -> Iterator[None]:
    """Make a backend take this choice for this key, instead of its file's."""
    # Not a context variable: a backward runs in a thread of autograd.
    before = _trials.get((backend, key))
    _trials[backend, key] = choice
    try:
        yield
    finally:
        if before is None:
            del _trials[backend, key]
        else:
            _trials[backend, key] = before


def on_trial(backend: str, key: str) -> Choice | None:
    """The choice on trial, or None."""
    return _trials.get((backend, key)) if _trials else None


def chosen(backend: str, key: str, device: Any) -> Choice | None:
    """The choice on trial, else the file's for this device, else None: the backend's own."""
    choice = on_trial(backend, key)
    return active(backend, str(device)).choices.get(key) if choice is None else choice


def in_force(
    backend: str,
    key: str,
    device: Any,
    *,
    read: Callable[[Choice], P],
    against: Callable[[P], str | None],
) -> P | None:
    """The parameters that replace a backend's own, or None: it takes its own.

    Args:
        device: the device of the file; None for no file.
        read: gives a choice's parameters; a ValueError says that it is not a choice.
        against: says why parameters cannot run this problem, or None.
    Raises:
        ValueError: a choice on trial cannot run, with the reason. A choice from a file gets a
            warning.
    """
    choice = on_trial(backend, key)
    if choice is not None:
        found = read(choice)
        reason = against(found)
        if reason:
            raise ValueError(f"{found} cannot run {key}: {reason}")
        return found
    kept = None if device is None else chosen(backend, key, device)
    if kept is None:
        return None
    found = read(kept)
    reason = against(found)
    if reason is None:
        return found
    warnings.warn(f"tuned parameters of {key} cannot run: {reason}", UserWarning, stacklevel=3)
    return None


def read_choice(kind: Callable[..., P], choice: Choice) -> P:
    """The parameters of a choice: a dataclass of texts and whole numbers.

    Raises:
        ValueError: it is not a choice.
    """
    found: P = _read_choice(kind, tuple(choice.items()))
    return found


@lru_cache(maxsize=1024)
def _read_choice(kind: Callable[..., Any], items: tuple[tuple[str, Any], ...]) -> Any:
    choice = dict(items)
    wanted = {field.name: field.type for field in fields(kind)}  # type: ignore[arg-type] # a dataclass
    if choice.keys() != wanted.keys():
        raise ValueError(f"{choice} is not a choice of parameters; expected {', '.join(wanted)}")
    for name, expected in wanted.items():
        if type(choice[name]) is not expected:
            found = f"{name}={choice[name]!r} in a choice of parameters"
            raise ValueError(f"{found}; expected {getattr(expected, '__name__', expected)}")
    return kind(**choice)


@lru_cache
def active(backend: str, device: str) -> Active:
    """The valid file for a backend on a device, read once in a process; warns of refusals."""
    record = registry.registered().get(backend)
    if record is None or not any(path.exists() for path in _paths(backend, device)):
        return _NOTHING
    refused = []
    for path in _paths(backend, device):
        try:
            tuned = read(path, header(record, device))
        except FileNotFoundError:
            continue
        except (Refused, OSError) as reason:
            refused.append(f"{path.name} {reason}")
            warnings.warn(f"tuned parameters: {refused[-1]}", UserWarning, stacklevel=2)
            continue
        kept = {key: entry["choice"] for key, entry in tuned.entries.items() if entry["choice"]}
        return Active(tuned, tuple(refused), kept)
    return Active(None, tuple(refused))


def forget() -> None:
    """Read files again at the next call."""
    active.cache_clear()
    device_facts.cache_clear()


def _paths(backend: str, device: str) -> tuple[Path, ...]:
    """The paths where a file may be; the first one wins."""
    name = file_name(backend, device_facts(device))
    folders = [folder for folder in (user_folder(), SHIPPED) if folder and folder.is_dir()]
    return tuple(folder / name for folder in folders)


def user_folder() -> Path | None:
    """The folder of a user's files; None if there is no home."""
    return user_cache.folder("tuned")


def file_name(backend: str, device: Device) -> str:
    """The name of the file of a backend on a device."""
    return f"{_slug(backend)}-{_slug(device.name)}.json"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")


@lru_cache
def device_facts(device: str) -> Device:
    """The facts of a device."""
    import torch

    if torch.device(device).type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        return Device(facts.name, f"{facts.major}.{facts.minor}", facts.multi_processor_count)
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return Device(_cpu_name(), platform.machine(), cores)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "cpu"


def header(record: registry.Backend, device: str) -> dict[str, Any]:
    """The header of a file made now, which a file must match to be used now."""
    return {
        "schema": SCHEMA,
        "backend": record.name,
        "device": asdict(device_facts(device)),
        "versions": _versions(record),
        "sources": sources_digest(record),
    }


def sources_digest(record: registry.Backend) -> str:
    """SHA-256 of a backend's own sources: its file, or its folder's; nothing is imported for it."""
    try:
        spec = find_spec(record.module.partition(":")[0])
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise Refused(f"cannot be checked: the sources of {record.name} are not files")
    origin = Path(spec.origin)
    files = sorted(origin.parent.rglob("*.py")) if spec.submodule_search_locations else [origin]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _versions(record: registry.Backend) -> dict[str, str | None]:
    packages = dict.fromkeys(("torch", *(name.partition(".")[0] for name in record.requires)))
    return {package: _version(package) for package in packages}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def read(path: Path, here: Mapping[str, Any]) -> Tuned:
    """A file, if it is valid here and now.

    Args:
        here: the `header` of a file that was made now.
    Raises:
        Refused: with the reason; OSError where it cannot be read.
    """
    if path.is_fifo() or path.stat().st_size > MOST_BYTES:
        raise Refused(f"is not a file; expected at most {MOST_BYTES:,} bytes")
    content = path.read_bytes()
    document = _parse(content)
    name = here["backend"]
    if document["backend"] != name:
        raise Refused(f"was tuned for backend {document['backend']!r}, not {name!r}")
    again = f"; make it again: lstm-bench tune {name}"
    if document["device"] != here["device"]:
        raise Refused(
            f"was tuned on {_shown(document['device'])}; this is {_shown(here['device'])}{again}"
        )
    for package, now in here["versions"].items():
        then = document["versions"].get(package)
        if then != now:
            raise Refused(
                f"was tuned with {package} {then}; this is {package} {now}{again}", stale=True
            )
    if document["sources"] != here["sources"]:
        raise Refused(f"was tuned for other sources of {name}{again}", stale=True)
    entries = document.pop("entries")
    return Tuned(path, hashlib.sha256(content).hexdigest(), document, entries)


_FORM = {
    "backend": str,
    "device": dict,
    "versions": dict,
    "sources": str,
    "date": str,
    "tuning_s": int | float,
    "compile_s": int | float,
    "entries": dict,
}


def _parse(content: bytes) -> dict[str, Any]:
    """The document of a file, complete and with this schema."""
    try:
        document = json.loads(content)
    except (RecursionError, ValueError) as error:
        raise Refused(f"is broken: it is not JSON ({error})") from None
    if not isinstance(document, dict) or not isinstance(document.get("schema"), int):
        raise Refused("is not a file of tuned parameters")
    if document["schema"] != SCHEMA:
        raise Refused(f"has schema {document['schema']}; this version reads {SCHEMA}")
    for name, kind in _FORM.items():
        if not isinstance(document.get(name), kind):
            raise Refused(f"is broken: its {name!r} is {document.get(name)!r}")
    for key, entry in document["entries"].items():
        choice = entry.get("choice", 0) if isinstance(entry, dict) else 0
        if choice is not None and not isinstance(choice, dict):
            raise Refused(f"is broken: the entry {key!r} has no choice")
    return document


def _shown(device: Mapping[str, Any]) -> str:
    return f"{device.get('name')} ({device.get('capability')}, {device.get('sm_count')} SMs)"


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Write a file in one step: a kill leaves the old one or the new one.

    Args:
        document: `header`'s fields, `date`, `tuning_s`, `compile_s` and `entries`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    try:
        with fresh.open("w") as file:
            file.write(_text(document))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _text(document: Mapping[str, Any]) -> str:
    """JSON, an entry a line."""
    above = {name: value for name, value in document.items() if name != "entries"}
    lines = [
        f"  {json.dumps(key)}: {json.dumps(entry, allow_nan=False)}"
        for key, entry in document["entries"].items()
    ]
    head = json.dumps(above, indent=1, allow_nan=False).removesuffix("\n}")
    body = ",\n".join(lines)
    return f'{head},\n "entries": {{\n{body}\n }}\n}}\n'
