"""What a coordinator and an engine tell each other: tasks, and how they ended."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lstm_harness.model.errors import Exit


@dataclass(frozen=True)
class Task:
    """Work for one device, in a fresh process.

    `name` is also that of its folder. `device` is cpu or cuda, or auto while there is no plan yet.
    `order` is what `fleet.work` reads, as JSON, together with `shared`: one and the same object in
    many tasks, so that an engine may carry it once.
    """

    name: str
    device: str
    order: Mapping[str, Any]
    shared: Mapping[str, Any] = field(default_factory=dict)


def manifests_in(order: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The manifest of each side, whose plan has the cases of one task alone.

    Args:
        order: a task's own, together with what it shares.
    """
    return [
        {**manifest, "plan": plan}
        for manifest, plan in zip(order["manifests"], order["plans"], strict=True)
    ]


@dataclass(frozen=True)
class Ended:
    """A task that is over: the files that it handed over by path, or why there are none.

    `code` is an exit code of the program. `place` is where it ran, as its engine names it; empty
    where that is unknown, as for a task that was lost with its host.
    """

    name: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    code: int = Exit.DONE
    said: str = ""
    place: str = ""

    @property
    def refused(self) -> bool:
        """Whether the place may not run it: another kind of device, or other software."""
        return self.code in (Exit.USAGE, Exit.NOT_COMPARABLE)


class Engine(Protocol):
    """What carries tasks to devices. A task may end more than once; its first result counts."""

    def submit(self, tasks: Sequence[Task], avoiding: Collection[str] = ()) -> None:
        """Carry these out, each on one device; one that is under way from before is found again.

        Args:
            avoiding: places that refused a task.
        Raises:
            MeasuringFailed: there is no place left.
        """

    def poll(self) -> list[Ended]:
        """The tasks that ended since; where none did, wait for a moment."""

    def cancel(self) -> None:
        """End every task that has not ended."""
