"""What is found wrong with a kernel, and where in its source each side of it stood."""

import contextlib
import importlib.util
import linecache
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

# Frames of these files, and of those in these folders, are not the kernel's.
_MACHINERY = (
    *(Path(contextlib.__file__), Path(threading.__file__), Path(__file__).parent),
    *(
        Path(found.origin).parent
        for found in map(importlib.util.find_spec, ("triton", "numba", "numba_cuda"))
        if found and found.origin
    ),
)


class Defect(AssertionError):  # noqa: N818 - of a kernel, not of this
    """Something that a GPU would suffer from in some run."""


class Race(Defect):
    """Two accesses that nothing orders, one of them a store."""


class OutOfBounds(Defect):
    """An access outside of every tensor, or one that is not aligned."""


class Unwritten(Defect):
    """A value from where nobody has written one yet, or one that says so of itself."""


class Wrong(Defect):
    """Numbers that are not those of float64."""


class Deadlock(Defect):
    """Everyone who is left waits for what nobody will do."""


class Trap(Defect):
    """The kernel ended itself."""


class TooLarge(Defect):
    """More programs than can be resident, in a launch that needs them to be."""


class Endless(Defect):
    """No end in sight."""


class Event(NamedTuple):
    """What a program did, and where: its call stack in the kernel, the innermost frame first."""

    who: str
    doing: str
    step: int | None
    frames: tuple[tuple[str, int, str], ...]

    def told(self) -> str:
        """As a person reads it."""
        step = "before its first step" if self.step is None else f"step {self.step}"
        lines = [f"{self.who}, {step}: {self.doing}"]
        for file, line, function in self.frames:
            text = linecache.getline(file, line).strip()
            if text.endswith("("):
                text += linecache.getline(file, line + 1).strip()
            lines.append(f"    {Path(file).name}:{line} in {function}: {text}")
        return "\n".join(lines)


def event(who: str, doing: str) -> Event:
    """What is being done now, by whoever runs."""
    frames, root, frame = [], None, sys._getframe(1)
    while frame is not None:
        if _is_kernels(frame.f_code):
            frames.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
            root = frame
        frame = frame.f_back
    step: Any = None if root is None else root.f_locals.get("step")
    return Event(who, doing, None if step is None else int(step), tuple(frames))


@cache
def _is_kernels(code: Any) -> bool:
    file = Path(code.co_filename)
    return not any(file.is_relative_to(place) for place in _MACHINERY)
