"""On what a page's numbers were computed."""

from collections.abc import Mapping
from typing import Any

from lstm_harness.model import text


def computed(
    environment: Mapping[str, Any], device: str, version: str, start: str
) -> list[tuple[str, str]]:
    """The device, the software and the time, each under its name.

    Args:
        environment: as a run's manifest has it.
        device: what to say where the environment names none.
        version: of lstm-bench.
    """
    found = environment.get("gpu") or environment.get("cpu") or {}
    versions = f"torch {environment.get('torch')}, Python {environment.get('python')}"
    return [
        ("device", str(found.get("name") or found.get("model") or device)),
        ("software", f"lstm-bench {version}, {versions}"),
        ("computed", text.moment(start)),
    ]
