"""Do something when a module is imported by anybody, without importing it here."""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

Action = Callable[[ModuleType], None]


class _Watch(MetaPathFinder):
    """The first finder of Python's imports: it lets the others find, and adds the action."""

    def __init__(self) -> None:
        self.waiting: dict[str, list[Action]] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.waiting:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def run_then(module: ModuleType) -> None:
            run(module)
            for then in self.waiting.pop(fullname, ()):
                then(module)

        # Only for this loader, which was made for this module.
        spec.loader.exec_module = run_then  # type: ignore[method-assign] # of this one loader
        return spec


_WATCH = _Watch()


def when_imported(name: str, then: Action) -> None:
    """Call `then` with a module once it is imported: now, if it is already."""
    if name in sys.modules:
        then(sys.modules[name])
        return
    if _WATCH not in sys.meta_path:
        sys.meta_path.insert(0, _WATCH)
    _WATCH.waiting.setdefault(name, []).append(then)
