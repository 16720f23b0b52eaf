"""A backend's kernels with a defect put into their source, to be found.

A mutant replaces text in modules of the backend; those and what imports them are run anew from
files of their own, so that whatever is told names lines that are there.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any
from unittest.mock import patch

from interleaved.defects import Defect


@dataclass(frozen=True)
class Mutant:
    """A change of a module's text, what it is found by, and what is told of it.

    `told` are patterns that the defect's message has; `layer` what of the layer differs from the
    tests' usual one.
    """

    name: str
    module: str
    old: str
    new: str
    found: type[Defect] | tuple[type[Defect], ...]
    told: tuple[str, ...]
    layer: dict[str, Any] = field(default_factory=dict)
    poll_limit: int | None = None
    # A second change that the first one needs.
    also: tuple[tuple[str, str, str], ...] = ()

    @property
    def changes(self) -> dict[str, list[tuple[str, str]]]:
        """By module, old texts and new ones."""
        found: dict[str, list[tuple[str, str]]] = {}
        for module, old, new in ((self.module, self.old, self.new), *self.also):
            found.setdefault(module, []).append((old, new))
        return found


@contextmanager
def mutated(
    package: ModuleType, modules: tuple[str, ...], changes: dict[str, list[tuple[str, str]]]
) -> Iterator[dict[str, ModuleType]]:
    """Modules of a package with texts replaced, each seeing the others so, by name.

    Args:
        modules: all that see what changes, in the order in which they import each other.
    """
    with ExitStack() as undo:
        folder = Path(undo.enter_context(TemporaryDirectory()))
        made = {}
        for name in modules:
            original = sys.modules[f"{package.__name__}.{name}"]
            text = Path(original.__file__).read_text()
            for old, new in changes.get(name, ()):
                assert text.count(old) == 1, f"{name}.py has {text.count(old)} times:\n{old}"
                text = text.replace(old, new)
            file = folder / f"{name}.py"
            file.write_text(text)
            spec = spec_from_file_location(original.__name__, file)
            made[name] = module_from_spec(spec)
            undo.enter_context(patch.dict(sys.modules, {original.__name__: made[name]}))
            undo.enter_context(patch.object(package, name, made[name]))
            spec.loader.exec_module(made[name])
        yield made
