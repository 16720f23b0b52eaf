"""Pages of a site, made again only where what they are made from changed.

    lstm-bench-pages.json     in the site: a digest of the inputs of each unit, and its files

It is derived: where it is missing or damaged, every page is made again. What changed is made in a
folder next to the site. Only when all of it is there does it move into the site, what all pages
refer to first and the index last.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import lstm_harness
from lstm_harness.history.index import Tell
from lstm_harness.report import assets
from lstm_harness.store.files import derived, keep_derived
from lstm_harness.store.parallel import each

DIGESTS = "lstm-bench-pages.json"
VERSION = 1
# Below this many units, starting further processes takes longer than they save.
WORTH_PROCESSES = 50


@dataclass(frozen=True)
class Unit:
    """Files that are made together.

    Attributes:
        inputs: what they are made from, as JSON: where it is the same, they are the same.
        make: writes them into a site's folder; returns their paths in it.
    """

    name: str
    inputs: Any
    make: Callable[[Path], Sequence[str]]


@dataclass(frozen=True)
class Made:
    """A unit whose files are made: the digest of its inputs, and its files."""

    digest: str
    files: tuple[str, ...]


def kept(site: Path, here: Collection[str]) -> dict[str, Made]:
    """The units of a site that are whole, by name.

    Args:
        here: the files of the site.
    """
    found = derived(site / DIGESTS)
    if found is None or found["version"] != VERSION:
        return {}
    units = {name: Made(digest, tuple(files)) for name, (digest, files) in found["units"].items()}
    return {name: one for name, one in units.items() if all(file in here for file in one.files)}


def keep(site: Path, units: Mapping[str, Made]) -> None:
    """Store what was made from what."""
    told = {name: [one.digest, one.files] for name, one in units.items()}
    keep_derived(site / DIGESTS, {"version": VERSION, "units": told})


def make(
    units: Iterable[Unit],
    old: Mapping[str, Made],
    fresh: Path,
    tell: Tell = lambda done, total, label: None,
    spread: bool = False,
) -> dict[str, Made]:
    """Make into a fresh folder what changed; the units by name, unchanged ones among them.

    Args:
        old: the units as they are.
        spread: whether several processes may make them.
    """
    digests = {unit.name: (_digest(unit.inputs), unit) for unit in units}
    made = {name: old[name] for name, (digest, _) in digests.items() if _is(old, name, digest)}
    stale = [unit for name, (_, unit) in digests.items() if name not in made]
    files = each(partial(_make, fresh), stale, worth=spread and len(stale) >= WORTH_PROCESSES)
    for done, (unit, own) in enumerate(zip(stale, files, strict=True)):
        tell(done, len(stale), "pages written")
        made[unit.name] = Made(digests[unit.name][0], own)
    return made


def move(fresh: Path, site: Path, first: str, last: str) -> None:
    """Move everything of a fresh folder into the site: this folder first, this file last."""
    files = [path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()]
    for file in sorted(files, key=lambda path: (str(path) == last, path.parts[0] != first)):
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (fresh / file).replace(site / file)


def remove(site: Path, files: Iterable[str]) -> None:
    """Remove files of a site, and folders that are empty then."""
    for file in files:
        (site / file).unlink(missing_ok=True)
        for folder in (site / file).parents:
            if folder == site:
                break
            with suppress(OSError):
                folder.rmdir()


def _make(fresh: Path, unit: Unit) -> tuple[str, ...]:
    return tuple(unit.make(fresh))


def _is(old: Mapping[str, Made], name: str, digest: str) -> bool:
    return name in old and old[name].digest == digest


def _digest(inputs: Any) -> str:
    return hashlib.sha256(json.dumps([_made_by(), inputs]).encode()).hexdigest()


@cache
def _made_by() -> str:
    """A digest of this program and of what its pages refer to: another one makes other pages."""
    root = Path(lstm_harness.__file__).parent
    digest = hashlib.sha256(json.dumps([one.name for one in assets.every()]).encode())
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(path.read_bytes())
    return digest.hexdigest()
