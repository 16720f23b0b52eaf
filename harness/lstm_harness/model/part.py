"""A part of a run: some cases of its plan in some blocks, measured by itself on one device.

A run of a part is an ordinary run whose manifest has the whole plan. Its parts can be measured on
several devices of one class, and merged into the whole (`store.merging`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lstm_harness.model.typed import Stored, built


@dataclass(frozen=True)
class Part(Stored):
    """Places in the plan's cases, and numbers of blocks: each of the cases in each block."""

    cases: tuple[int, ...]
    blocks: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("cases", "blocks"):
            numbers = getattr(self, name)
            if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
                raise ValueError(
                    f"{name} of a part are {list(numbers)}; expected one number or more, from 0 "
                    "on, each once"
                )

    def to_dict(self) -> dict[str, Any]:
        """The part as run.json stores it."""
        return {name: list(numbers) for name, numbers in asdict(self).items()}


def part_of(manifest: Mapping[str, Any]) -> Part | None:
    """The part that a run is of its plan; None where it is of the whole.

    Raises:
        ValueError: what is stored is not a part.
    """
    stored = manifest.get("part")
    return None if stored is None else built(stored, Part, "part")
