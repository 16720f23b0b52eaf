"""The ceilings of this user's devices, on disk: one small JSON file each, in the user's cache.

What was kept counts only where every condition it was measured under still holds.
"""

import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lstm_harness.model.ceilings import SCHEMA, Ceilings
from lstm_harness.model.errors import MeasuringFailed

HINT = "lstm-bench limits measures them"
NONE_KEPT = f"no ceilings kept for this device, so no floor: {HINT}"

Conditions = Mapping[str, str | int | None]


def conditions_of(device: str, environment: Mapping[str, Any]) -> dict[str, str | int | None]:
    """What the ceilings of a device depend on, of what a survey tells of it."""
    software = {name: environment.get(name) for name in ("torch", "cuda", "triton", "numba")}
    if device == "cpu":
        cpu = environment["cpu"]
        used = {name: software[name] for name in ("torch", "numba")}
        return {"cpu": cpu["model"], "threads": cpu["threads"]} | used
    gpu = environment["gpu"]
    used = {name: software[name] for name in ("torch", "cuda", "triton")}
    return {"gpu": gpu["name"], "driver": gpu["driver"]} | used


def path_of(device: str, identity: str, conditions: Conditions) -> Path:
    """Where the ceilings of a device are kept; a CPU's for each number of threads."""
    name = re.sub(r"[^A-Za-z0-9.-]", "_", f"{device}-{identity}")
    threads = f"-{conditions['threads']}-threads" if "threads" in conditions else ""
    return _folder() / f"{name}{threads}.json"


def _folder() -> Path:
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a container's user may have no home
        home = Path(tempfile.gettempdir())
    return home / "lstm-bench" / "limits"


def keep(ceilings: Ceilings) -> Path:
    """Write the ceilings in one step, so that a kill leaves the old ones or the new ones.

    Raises:
        MeasuringFailed: they cannot be written.
    """
    path = path_of(ceilings.device, ceilings.identity, ceilings.conditions)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("w") as file:
            json.dump(ceilings.to_dict(), file, indent=1, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise MeasuringFailed(
            f"cannot keep the ceilings in {path}: {error.strerror}; set XDG_CACHE_HOME to a folder "
            "that can be written"
        ) from None
    return path


def kept(device: str, identity: str, conditions: Conditions) -> tuple[Ceilings | None, str]:
    """The ceilings kept of this device, or None and the reason, one line that says what to type."""
    path = path_of(device, identity, conditions)
    try:
        found = Ceilings.from_dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None, NONE_KEPT
    except OSError as error:
        return None, f"cannot read {path} ({error.strerror}), so no floor: {HINT}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return None, f"{path} holds no ceilings of schema {SCHEMA} ({error}), so no floor: {HINT}"
    changed = differences(found, device, identity, conditions)
    if changed:
        return None, f"the ceilings kept are of another {', '.join(changed)}, so no floor: {HINT}"
    return found, ""


def of_manifest(manifest: Mapping[str, Any]) -> Ceilings | None:
    """The ceilings that a run took with it; None where there were none.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: what stands there are none.
    """
    stored = manifest.get("limits")
    return None if stored is None else Ceilings.from_dict(stored)


def differences(
    ceilings: Ceilings, device: str, identity: str, conditions: Conditions
) -> list[str]:
    """What must be the same for these ceilings to hold, and is not; each with both values."""
    then = {"device": ceilings.device, "identity": ceilings.identity, **ceilings.conditions}
    now = {"device": device, "identity": identity, **conditions}
    return [
        f"{name} ({then.get(name)}, now {now.get(name)})"
        for name in dict.fromkeys([*now, *then])
        if then.get(name) != now.get(name)
    ]
