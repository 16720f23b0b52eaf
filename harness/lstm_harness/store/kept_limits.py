"""The ceilings of this user's devices, on disk: one small JSON file each, in the user's cache.

What was kept counts only where every condition it was measured under still holds.
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

HINT = "lstm-bench limits measures them"
NONE_KEPT = f"no ceilings kept for this device, so no floor: {HINT}"


def path_of(device: str, identity: str, conditions: Conditions) -> Path:
    """Where the ceilings of a device are kept; a CPU's for each number of threads."""
    name = re.sub(r"[^A-Za-z0-9.-]", "_", f"{device}-{identity}")
    threads = f"-{conditions['threads']}-threads" if "threads" in conditions else ""
    return cache_folder.folder("limits") / f"{name}{threads}.json"


def keep(ceilings: Ceilings) -> Path:
    """Keep the ceilings in the place of older ones, and return where they lie.

    Raises:
        MeasuringFailed: they cannot be written.
    """
    path = path_of(ceilings.device, ceilings.identity, ceilings.conditions)
    content = json.dumps(ceilings.to_dict(), indent=1, allow_nan=False).encode() + b"\n"
    cache_folder.keep(path, content, "the ceilings")
    return path


def kept(device: str, identity: str, conditions: Conditions) -> tuple[Ceilings | None, str]:
    """The ceilings kept of this device, or None and the reason, one line that says what to type."""
    path = path_of(device, identity, conditions)
    try:
        ceilings = Ceilings.from_dict(parsed(content_of(path)))
    except FileNotFoundError:
        return None, NONE_KEPT
    except OSError as error:
        return None, f"cannot read {path} ({error.strerror}), so no floor: {HINT}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return None, f"{path} holds no ceilings of schema {SCHEMA} ({error}), so no floor: {HINT}"
    changed = differences(ceilings, device, identity, conditions)
    if changed:
        return None, f"the ceilings kept are of another {', '.join(changed)}, so no floor: {HINT}"
    return ceilings, ""


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
