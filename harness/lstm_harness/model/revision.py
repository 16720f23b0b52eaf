"""A revision of the kernels, by the name that the user gave it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# How much of a commit is told.
DIGITS = 10


@dataclass(frozen=True)
class Revision:
    """Kernels to measure: `root` goes on the import path; `commit` is None for a working tree.

    `name` is what the user called it. `git` is the commit that it is, or that it was edited from,
    and whether it was; None where git does not know. `plugins` are its own files, instead of those
    that were asked for; None where these are the same on both sides.
    """

    name: str
    commit: str | None
    root: Path
    git: Mapping[str, Any] | None = None
    plugins: tuple[str, ...] | None = None

    @property
    def title(self) -> str:
        """The name, and the commit where the name does not tell it; a long one is shortened."""
        if self.commit is None:
            return self.name
        if self.commit.startswith(self.name):
            return self.commit[: min(len(self.name), DIGITS)]
        return f"{self.name} ({self.commit[:DIGITS]})"
