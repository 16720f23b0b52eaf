"""Places on the command line: a folder of this machine, or a URL.

A path would make one slash of a URL's two, so a place stays the text that was typed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lstm_harness.model.text import without_secrets

Tell = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Place:
    """A place as it was typed; as a text it has none of a URL's credentials."""

    typed: str

    def __str__(self) -> str:
        return without_secrets(self.typed)

    @property
    def url(self) -> str | None:
        """The URL, with whatever credentials it has; None where it is not one."""
        from lstm_harness.store.remote import is_url

        return self.typed if is_url(self.typed) else None

    def here(self, tell: Tell = lambda done, total, label: None) -> Path:
        """The folder to read: of a URL its copy on this machine, brought up to date.

        Raises:
            UserError: nothing is at that URL.
            MeasuringFailed: it cannot be read.
        """
        from lstm_harness.store import remote

        return remote.here(self.typed, tell)


# Help shows the name of a class as the type of its arguments.
Place.__name__ = "path|URL"


def place(given: str | Place) -> Place:
    """A parser of places, for an option's or argument's `parser`."""
    return given if isinstance(given, Place) else Place(given)
