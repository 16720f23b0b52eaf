"""Command lines run in one process, one after the other, and what each of them imported, as JSON.

Arguments: a JSON list of command lines, one of libraries to look out for, one of those that are not
to be had, and one of files that appear when a process, this or a child, imports something.
"""

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

from lstm_harness.__main__ import run


class Watch:
    """Python's import machinery asks it first: it notes who wants a library, or says it is absent.

    A library is asked for once in a process, so it counts for the first line that imports it.
    """

    def __init__(self, libraries: Sequence[str], absent: Sequence[str]) -> None:
        self._libraries = libraries
        self._absent = absent
        self.importers: dict[str, str] = {}

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> None:
        """Leave it to the others to find it."""
        if name in self._libraries:
            self.importers.setdefault(name, _importer())
        if name in self._absent:
            raise ModuleNotFoundError(f"no {name}", name=name)


def _importer() -> str:
    """The module of ours that is importing, at however many removes."""
    frame = sys._getframe()
    names = []
    while frame := frame.f_back:
        names.append(frame.f_globals["__name__"])
    return next((name for name in names if name.startswith("lstm_")), names[-1])


def main() -> None:
    """Answer for every line: exit code, output, who imported what, which of the files are there."""
    lines, libraries, absent, files = map(json.loads, sys.argv[1:])
    watch = Watch(libraries, absent)
    sys.meta_path.insert(0, watch)
    answers = {}
    for line in lines:
        known = set(watch.importers)
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run(line.split())
        answers[line] = {
            "code": code,
            "out": out.getvalue(),
            "err": err.getvalue(),
            "importers": {name: by for name, by in watch.importers.items() if name not in known},
            "files": [file for file in files if Path(file).exists()],
        }
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
