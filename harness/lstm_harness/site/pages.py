"""The pages of a store, made in memory when they are asked for; nothing is written.

A run's own report is sent where it is newer than its records. Of a run's other files only run.json
and records.jsonl are sent, of a training's only training.json and curves.jsonl. What is asked for
is looked up among what was found and never joined to a path, and no link is followed, so that
nothing leads out of the store.
"""

import os
import re
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from lstm_harness.history import index as store_index
from lstm_harness.history.index import Tell
from lstm_harness.model.errors import UserError
from lstm_harness.report import assets, page, verdicts
from lstm_harness.site import catalogue, history, index, trainings
from lstm_harness.site.board import classes, told
from lstm_harness.site.board import page as board_page
from lstm_harness.site.catalogue import COMPARED, HISTORY, Catalogue, Listed
from lstm_harness.store import run_folder, training_folder
from lstm_harness.store.training_folder import TRAINING

# Two requests within this long see the same list of runs.
FRESH_S = 1.0
# A report may have many MB.
MOST_PAGES = 6

# Where pages find what they share: from the root, since a comparison has two addresses.
_SHARED = f"/{assets.FOLDER}"
_RUN = re.compile(r"/runs/([A-Za-z0-9._-]+)/([a-z]+\.[a-z]+)")
_CLASS = re.compile(r"/(devices/[a-z0-9-]+\.html)")
_TRAINING = re.compile(r"/trainings/([A-Za-z0-9._-]+)/([a-z]+\.[a-z]+)")
_HTML = "text/html; charset=utf-8"
_ASSET_KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
_KINDS = {
    run_folder.MANIFEST: "application/json",
    run_folder.RECORDS: "application/x-ndjson; charset=utf-8",
}
_TRAINING_KINDS = {
    TRAINING.manifest: "application/json",
    TRAINING.lines: "application/x-ndjson; charset=utf-8",
}


@dataclass(frozen=True)
class Sent:
    """The answer to a request: its type, and either its bytes or a file with its size."""

    kind: str
    content: bytes = b""
    file: int | None = None
    size: int = 0
    name: str = ""


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """A request that is answered with a status and a line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status, self.line = status, line


class Pages:
    """A store's pages, made on request and kept in memory while their files stay the same.

    Raises:
        UserError: no run there.
    """

    def __init__(self, place: Path, tell: Tell = lambda done, total, label: None) -> None:
        self._folder = place.resolve()
        self._listing, self._making = threading.RLock(), threading.RLock()
        self._kept: OrderedDict[tuple[str, ...], tuple[Any, bytes]] = OrderedDict()
        if not place.is_dir() or not _holds_any(self._folder):
            raise UserError(f"{place} holds no run; give a run, or a folder of runs")
        self._catalogue = catalogue.collect([self._folder], tell)
        self._read_at = time.monotonic()

    @property
    def first(self) -> str:
        """Where a reader begins: at the list of runs, or at the report of the only one."""
        if (self._folder / run_folder.MANIFEST).exists() and self._catalogue.runs:
            return f"runs/{next(iter(self._catalogue.runs))}/{run_folder.REPORT}"
        if training_folder.is_one(self._folder) and self._catalogue.trainings:
            return f"trainings/{next(iter(self._catalogue.trainings))}/{run_folder.REPORT}"
        return ""

    def answer(self, target: str) -> Sent:
        """What a request's target names.

        Raises:
            Refused: nothing of that name, or it cannot be made.
        """
        try:
            parts = urlsplit(target)
        except ValueError:
            raise Refused(400, "that is not an address") from None
        try:
            if parts.scheme or parts.netloc:
                raise Refused(404, "no such page")
            if parts.path in ("/", "/index.html"):
                return self._index()
            if parts.path == f"/{HISTORY}":
                return self._history()
            if parts.path == "/compare":
                return self._compare(parts.query)
            if parts.path.startswith(f"{_SHARED}/"):
                return _asset(parts.path.removeprefix(f"{_SHARED}/"))
            if asked := _CLASS.fullmatch(parts.path):
                return self._of_class(asked[1])
            return self._of_run(parts.path)
        except UserError as error:
            raise Refused(500, str(error)) from None

    def _index(self) -> Sent:
        with self._listing:
            listed, read_at = self._current(), self._read_at
        return self._page(("index",), read_at, lambda: index.render(listed, served=True))

    def _history(self) -> Sent:
        with self._listing:
            stamps = [_stamp(one) for one in self._current().runs.values()]

        def make() -> str:
            return history.render(catalogue.history([self._folder]), home="./", shared=_SHARED)

        return self._page(("history",), stamps, make)

    def _compare(self, query: str) -> Sent:
        try:
            asked = parse_qs(query, max_num_fields=10)
        except ValueError:
            raise Refused(400, "too many words in the address") from None
        names = [asked.get(side, [""])[-1] for side in ("base", "new")]
        if not all(names) or names[0] == names[1]:
            raise Refused(400, "choose two different runs, one as base and one as new")
        base, new = (self._run(name) for name in names)
        return self._side_by_side(base, new)

    def _of_run(self, path: str) -> Sent:
        if trained := _TRAINING.fullmatch(path):
            return self._of_training(trained[1], trained[2])
        asked = _RUN.fullmatch(path)
        if asked is None:
            raise Refused(404, "no such page")
        one, what = self._run(asked[1]), asked[2]
        if what == run_folder.REPORT:
            return self._report(one)
        if what == COMPARED and one.before:
            return self._side_by_side(self._run(one.before), one)
        if what in _KINDS:
            return _file(one.folder, what, _KINDS[what])
        raise Refused(404, "no such page")

    def _of_class(self, name: str) -> Sent:
        with self._listing:
            grouped = classes.grouped(self._current().runs.values())
        found = next((pair for pair in grouped.items() if index.page_of(pair[0]) == name), None)
        if found is None:
            raise Refused(404, "no such device class")
        which, runs = found
        stamps = [one.stamp for one in runs]
        return self._page(
            (name,), stamps, lambda: board_page.render(which, runs, told.of_class(which, runs))
        )

    def _of_training(self, name: str, what: str) -> Sent:
        with self._listing:
            one = self._catalogue.trainings.get(name) or self._current().trainings.get(name)
        if one is None:
            raise Refused(404, "no such training")
        if what == run_folder.REPORT:
            stamp = trainings.stamp(one.folder)
            return self._page(("training", name), stamp, lambda: trainings.render(one.folder))
        if what in _TRAINING_KINDS:
            return _file(one.folder, what, _TRAINING_KINDS[what])
        raise Refused(404, "no such page")

    def _run(self, name: str) -> Listed:
        with self._listing:
            one = self._catalogue.runs.get(name) or self._current().runs.get(name)
        if one is None:
            raise Refused(404, "no such run")
        return one

    def _current(self) -> Catalogue:
        """The runs, read again where the last look is a while ago."""
        if time.monotonic() - self._read_at > FRESH_S:
            self._catalogue = catalogue.collect([self._folder])
            self._read_at = time.monotonic()
        return self._catalogue

    def _report(self, one: Listed) -> Sent:
        """The run's own report where it is newer than the records, else one made now."""
        own = _newer_report(one.folder)
        if own is not None:
            return Sent(_HTML, file=own, size=os.fstat(own).st_size)

        def make() -> str:
            return page.render([run_folder.load(one.folder)], shared=_SHARED)

        return self._page(("run", one.name), _stamp(one), make)

    def _side_by_side(self, base: Listed, new: Listed) -> Sent:
        def make() -> str:
            runs, comparison = catalogue.compared(base, new)
            return page.render(runs, verdicts.section(comparison), _SHARED)

        return self._page(("compare", base.name, new.name), [_stamp(base), _stamp(new)], make)

    def _page(self, name: tuple[str, ...], stamp: object, make: Callable[[], str]) -> Sent:
        """A page while what it was made from is the same; who asks meanwhile waits for it."""
        with self._making:
            if name not in self._kept or self._kept[name][0] != stamp:
                self._kept[name] = (stamp, make().encode())
            self._kept.move_to_end(name)
            while len(self._kept) > MOST_PAGES:
                self._kept.popitem(last=False)
            return Sent(_HTML, self._kept[name][1])


def _holds_any(folder: Path) -> bool:
    """Whether there is a run or a training."""
    found = chain(run_folder.RUN.below(folder), TRAINING.below(folder))
    return next(found, None) is not None


def _file(folder: Path, name: str, kind: str) -> Sent:
    """A file as it is, to be kept by the reader."""
    opened = _opened(folder / name)
    if opened is None:
        raise Refused(404, "no such file")
    return Sent(kind, file=opened, size=os.fstat(opened).st_size, name=name)


def _asset(name: str) -> Sent:
    """A file that pages share, as it is now: a page that was made with another has another name."""
    found = next((one for one in assets.every() if one.name == name), None)
    if found is None:
        raise Refused(404, "no such file")
    return Sent(_ASSET_KINDS[Path(name).suffix], found.content.encode())


def _stamp(one: Listed) -> list[int]:
    return store_index.stamp(one.folder)


def _newer_report(run: Path) -> int | None:
    """A run's report, opened, where nothing that it was made from is newer."""
    opened = _opened(run / run_folder.REPORT)
    if opened is None:
        return None
    _, manifest_at, _, records_at = store_index.stamp(run)
    if os.fstat(opened).st_mtime_ns >= max(manifest_at, records_at):
        return opened
    os.close(opened)
    return None


def _opened(file: Path) -> int | None:
    """A plain file, opened to be read; None where there is none, or a link in its place."""
    if file.resolve() != file:
        return None
    try:
        opened = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(opened).st_mode):
        return opened
    os.close(opened)
    return None
