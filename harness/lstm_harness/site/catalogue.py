"""The runs and trainings of one store or of several, as pages list and link them.

Links are the same whether a site is served or written into a folder:

    ./                              device classes and runs
    devices/CLASS.html              what is fastest on a class of device
    history.html                    every series over time
    runs/NAME/report.html           a run's report; with run.json and records.jsonl
    runs/NAME/compare.html          it against the run before
    compare?base=NAME&new=NAME      any two; served alone
    trainings/NAME/report.html      a training's report; with training.json and curves.jsonl
"""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lstm_harness.history import index
from lstm_harness.history.index import Index, Stamp, Tell
from lstm_harness.history.series import History, gather
from lstm_harness.judge.comparison import Comparison, compare_runs
from lstm_harness.model.errors import UserError
from lstm_harness.site import cards, trainings
from lstm_harness.site.cards import Against, Card
from lstm_harness.site.trainings import Trained
from lstm_harness.store.run_folder import Run, load
from lstm_harness.store.training_folder import TRAINING

HISTORY = "history.html"
FEED = "feed.xml"
COMPARED = "compare.html"
# A name longer than this is cut, and a digest distinguishes it from others.
_LONGEST_NAME = 80
_DIGITS = 12
# A path that ends as a name with a digest does could be taken for one.
_WITH_DIGEST = re.compile(rf"-[0-9a-f]{{{_DIGITS}}}$")


@dataclass(frozen=True)
class Listed:
    """One run of a catalogue: `name` stands in links, `before` is that of the run before it.

    `stamp` tells that its files in its `store` are those that were read, `judged` what its verdict
    depends on in addition to them.
    """

    name: str
    store: Path
    card: Card
    stamp: Stamp
    judged: Sequence[Any] = ()
    against: Against | None = None
    before: str = ""

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.store / self.card.path


@dataclass(frozen=True)
class ListedTraining:
    """One training of a catalogue: `name` stands in links."""

    name: str
    folder: Path
    trained: Trained


@dataclass(frozen=True)
class Catalogue:
    """Runs and trainings by name, newest first, and what could not be read, with the reason."""

    stores: tuple[Path, ...]
    runs: Mapping[str, Listed]
    trainings: Mapping[str, ListedTraining]
    left_out: tuple[tuple[str, str], ...]


def collect(stores: Sequence[Path], tell: Tell = lambda done, total, label: None) -> Catalogue:
    """Every run and training of these stores.

    Raises:
        UserError: one is not a folder.
    """
    shelves = [cards.read(store, tell) for store in stores]
    places = [(number, path) for number, shelf in enumerate(shelves) for path in shelf.cards]
    names = _names(places, stores)
    listed = []
    for (number, path), name in names.items():
        shelf = shelves[number]
        against = shelf.against.get(path)
        before = names[number, against.base] if against else ""
        card, stamp, judged = shelf.cards[path], shelf.stamps[path], shelf.judged[path]
        listed.append(Listed(name, shelf.folder, card, stamp, judged, against, before))
    listed.sort(key=lambda one: (one.card.start, one.card.id, one.name), reverse=True)
    left_out = [pair for shelf in shelves for pair in sorted(shelf.left_out.items())]
    trained, unread = _trainings(stores)
    return Catalogue(
        tuple(stores),
        {one.name: one for one in listed},
        {one.name: one for one in trained},
        (*left_out, *unread),
    )


def _trainings(stores: Sequence[Path]) -> tuple[list[ListedTraining], list[tuple[str, str]]]:
    """The trainings of these stores, newest first, and those that cannot be read."""
    numbered = enumerate(stores)
    places = [(number, path) for number, store in numbered for path in TRAINING.below(store)]
    found: list[ListedTraining] = []
    unread: list[tuple[str, str]] = []
    for (number, path), name in _names(places, stores).items():
        folder = stores[number].resolve() / path
        try:
            found.append(ListedTraining(name, folder, trainings.read(folder)))
        except UserError as error:
            unread.append((path, cards.said_of(error, stores[number].resolve())))
    return sorted(found, key=lambda one: (one.trained.start, one.name), reverse=True), unread


def _names(places: Sequence[tuple[int, str]], stores: Sequence[Path]) -> dict[tuple[int, str], str]:
    """A name for each run that every host, file system and parser takes for the same plain text.

    It follows from the run's place alone, so that its address stays when others are added: a path
    of the first store that could be another's on no file system is the name, and any other gets a
    digest.
    """
    names: dict[tuple[int, str], str] = {}
    for number, path in sorted(places):
        own = stores[number].resolve().name if path == "." else path
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", own)[:_LONGEST_NAME].strip("-._") or "run"
        digest = hashlib.sha256(os.fsencode(f"{number}/{path}")).hexdigest()
        own_alone = number == 0 and plain == own == own.casefold() and not _WITH_DIGEST.search(own)
        names[number, path] = plain if own_alone else f"{plain}-{digest[:_DIGITS]}"
    return names


def compared(base: Listed, new: Listed) -> tuple[list[Run], Comparison]:
    """Two runs, read, and what comparing them comes to.

    Raises:
        UserError: a run, or this machine's noise, cannot be read.
    """
    runs = [load(base.folder), load(new.folder)]
    return runs, compare_runs(*runs)


def history(stores: Sequence[Path], tell: Tell = lambda done, total, label: None) -> History:
    """The history of all runs of these stores; what is derived is kept outside them."""
    merged = Index()
    for number, folder in enumerate(stores):
        one = index.refresh(folder, tell, cards.cache_file(folder, "history"))
        apart = {f"{number}/{path}": run for path, run in one.runs.items()}
        merged.merge(replace(one, runs=apart) if len(stores) > 1 else one)
    return gather(merged)
