"""The ceilings of this user's devices, on disk: one small JSON file each, in the user's cache.

Stored ceilings count only if every condition of their measurement still holds.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lstm_harness.model.ceilings import SCHEMA, Ceilings, Conditions
from lstm_harness.model.reading import content_of
from lstm_harness.model.strict_json import parsed
from lstm_harness.store import cache_folder

HINT = "run lstm-bench limits to measure them"
NONE_KEPT = f"no ceilings are stored for this device, so there is no floor: {HINT}"


def path_of(device: str, identity: str, conditions: Conditions) -> Path:
    """The path of a device's ceilings; a CPU has one for each number of threads."""
    name = re.sub(r"[^A-Za-z0-9.-]", "_", f"{device}-{identity}")
    threads = f"-{conditions['threads']}-threads" if "threads" in conditions else ""
    return cache_folder.folder("limits") / f"{name}{threads}.json"


def keep(ceilings: Ceilings) -> Path:
    """Store the ceilings instead of older ones, and return their path.

    Raises:
        MeasuringFailed: they cannot be written.
    """
    path = path_of(ceilings.device, ceilings.identity, ceilings.conditions)
    content = json.dumps(ceilings.to_dict(), indent=1, allow_nan=False).encode() + b"\n"
    cache_folder.keep(path, content, "the ceilings")
    return path


def kept(device: str, identity: str, conditions: Conditions) -> tuple[Ceilings | None, str]:
    """The stored ceilings of this device, or None and the reason, with what to type."""
    path = path_of(device, identity, conditions)
    try:
        ceilings = Ceilings.from_dict(parsed(content_of(path)))
    except FileNotFoundError:
        return None, NONE_KEPT
    except OSError as error:
        return None, f"cannot read {path} ({error.strerror}), so there is no floor: {HINT}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{path} has no ceilings of schema {SCHEMA} ({error})"
        return None, f"{reason}, so there is no floor: {HINT}"
    changed = differences(ceilings, device, identity, conditions)
    if changed:
        reason = f"the stored ceilings were measured with another {', '.join(changed)}"
        return None, f"{reason}, so there is no floor: {HINT}"
    return ceilings, ""


def of_manifest(manifest: Mapping[str, Any]) -> Ceilings | None:
    """The ceilings that a run stored; None if it has none.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: the entry does not hold ceilings.
    """
    stored = manifest.get("limits")
    return None if stored is None else Ceilings.from_dict(stored)


def differences(
    ceilings: Ceilings, device: str, identity: str, conditions: Conditions
) -> list[str]:
    """The conditions of these ceilings that differ now, each with both values."""
    then = {"device": ceilings.device, "identity": ceilings.identity, **ceilings.conditions}
    now = {"device": device, "identity": identity, **conditions}
    return [
        f"{name} ({then.get(name)}, now {now.get(name)})"
        for name in dict.fromkeys([*now, *then])
        if then.get(name) != now.get(name)
    ]
