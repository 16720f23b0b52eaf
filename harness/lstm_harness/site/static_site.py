"""All pages of one store or of several, the board among them, for any web host.

    index.html, history.html, feed.xml
    devices/CLASS.html                                  the board: what is fastest on which device
    runs-MONTH.html                                     all runs of a month, where there are many
    assets/                                             what all pages share (see `report.assets`)
    runs/NAME/report.html, run.json, records.jsonl      the raw records next to each report
    runs/NAME/compare.html                              against the run before, where there is one
    trainings/NAME/report.html, training.json, curves.jsonl
    lstm-bench-site.json                                what was written, so that it may be replaced
    lstm-bench-pages.json                               what it was made from (see `updates`)

A site is brought up to date: what changed is made again, what is gone from the stores is removed.
What is not a file of a site of ours is never touched.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lstm_harness.history.index import Tell
from lstm_harness.model.errors import UserError
from lstm_harness.model.reading import content_of
from lstm_harness.model.strict_json import parsed
from lstm_harness.report import assets, page, verdicts
from lstm_harness.report.assets import Asset
from lstm_harness.site import catalogue, feed, history, index, trainings, updates
from lstm_harness.site.board import classes, told
from lstm_harness.site.board import page as board_page
from lstm_harness.site.board.classes import DeviceClass
from lstm_harness.site.catalogue import COMPARED, FEED, HISTORY, Catalogue, Listed
from lstm_harness.site.updates import DIGESTS, Made, Unit
from lstm_harness.store import run_folder
from lstm_harness.store.files import is_unfinished, replace_whole
from lstm_harness.store.training_folder import TRAINING

MARKER = "lstm-bench-site.json"
SCHEMA = 1
INDEX = "index.html"
# What pages share, from the page of a run.
_FAR = f"../../{assets.FOLDER}"


def write(stores: Sequence[Path], out: Path, tell: Tell = lambda done, total, label: None) -> Path:
    """Write the site of these stores, or bring it up to date, and return the path of its index.

    Raises:
        UserError: no run there; `out` holds something else, lies in a store or around one, or
            cannot be written.
    """
    place = out.resolve()
    _refuse_overlap(place, stores, out)
    here = _files_of_site(place, out)
    listed = catalogue.collect(stores, tell)
    if not listed.runs and not listed.trainings:
        raise UserError(f"{_all(stores)} holds no run that can be read; give a folder of runs")
    fresh = place.with_name(f".{place.name}.new-{os.getpid()}")
    try:
        fresh.mkdir(parents=True)
        try:
            made = _make(fresh, listed, updates.kept(place, here), tell)
            _take_place(fresh, place, here, made)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; give another --site") from None
    return out / INDEX


def _make(fresh: Path, listed: Catalogue, old: Mapping[str, Made], tell: Tell) -> dict[str, Made]:
    """Make what changed, first what can be made in several processes."""
    made = updates.make(_run_units(listed), old, fresh, tell, spread=True)
    return made | updates.make(_further_units(listed, tell), old, fresh)


def _take_place(fresh: Path, place: Path, here: frozenset[str], made: Mapping[str, Made]) -> None:
    """Move what was made to where it belongs, and remove what is gone.

    A kill on the way leaves files that are all known as the site's, and makes them all again.
    """
    files = {file for one in made.values() for file in one.files}
    place.mkdir(parents=True, exist_ok=True)
    (place / DIGESTS).unlink(missing_ok=True)
    _mark(place, files | here)
    updates.move(fresh, place, first=assets.FOLDER, last=INDEX)
    updates.remove(place, here - files - {MARKER, DIGESTS})
    _mark(place, files)
    updates.keep(place, made)


def _mark(place: Path, files: set[str] | frozenset[str]) -> None:
    marker = {"lstm_bench_site": SCHEMA, "files": sorted(files - {MARKER, DIGESTS})}
    replace_whole(place / MARKER, json.dumps(marker).encode() + b"\n")


def _run_units(listed: Catalogue) -> Iterator[Unit]:
    """The report of each run with its records, and its comparison with the run before."""
    for one in listed.runs.values():
        place = f"runs/{one.name}"
        yield Unit(place, one.stamp, partial(_write_run, place, one))
        if one.before:
            base = listed.runs[one.before]
            yield Unit(
                f"{place}/{COMPARED}",
                [one.stamp, one.judged, base.name, base.stamp],
                partial(_write_comparison, place, base, one),
            )


def _further_units(listed: Catalogue, tell: Tell) -> Iterator[Unit]:
    """What pages share, pages of several runs, and those of trainings."""
    runs = list(listed.runs.values())
    shared = assets.every()
    yield Unit(assets.FOLDER, [one.name for one in shared], partial(_write_assets, shared))
    for trained in listed.trainings.values():
        place = f"trainings/{trained.name}"
        stamp = trainings.stamp(trained.folder)
        yield Unit(place, stamp, partial(_write_training, place, trained.folder))
    for which, own in classes.grouped(runs).items():
        page_name = index.page_of(which)
        yield Unit(page_name, _marks(own), partial(_write_class, page_name, which, own, tell))
    if len(runs) > index.MOST_RUNS:
        for (month, name), own in index.by_month(runs).items():
            yield _page(name, _marks(own), partial(index.render_month, listed, month, own))
    marks = _marks(runs)
    everything = [
        marks,
        listed.left_out,
        [(one.name, trainings.stamp(one.folder)) for one in listed.trainings.values()],
    ]
    yield _page(HISTORY, marks, partial(_history, listed))
    yield _page(FEED, marks, partial(feed.render, listed))
    yield _page(INDEX, everything, partial(index.render, listed, served=False))


def _marks(runs: Sequence[Listed]) -> list[Any]:
    """What tells that these are the same runs with the same verdicts."""
    return [[one.name, one.stamp, one.judged] for one in runs]


def _history(listed: Catalogue) -> str:
    found = catalogue.history(listed.stores)
    return history.render(found, home=INDEX, shared=assets.FOLDER)


def _page(name: str, inputs: Any, render: Callable[[], str]) -> Unit:
    return Unit(name, inputs, partial(_write_page, name, render))


def _write_page(name: str, render: Callable[[], str], site: Path) -> list[str]:
    return [_write(site, name, render())]


def _write_assets(shared: Sequence[Asset], site: Path) -> list[str]:
    return [_write(site, f"{assets.FOLDER}/{one.name}", one.content) for one in shared]


def _write_class(
    name: str, which: DeviceClass, runs: Sequence[Listed], tell: Tell, site: Path
) -> list[str]:
    said = told.of_class(which, runs, tell)
    return [_write(site, name, board_page.render(which, runs, said))]


def _write_run(place: str, one: Listed, site: Path) -> list[str]:
    rendered = page.render([run_folder.load(one.folder)], shared=_FAR)
    report = _write(site, f"{place}/{run_folder.REPORT}", rendered)
    return [report, *_copy((run_folder.MANIFEST, run_folder.RECORDS), one.folder, site, place)]


def _write_comparison(place: str, base: Listed, one: Listed, site: Path) -> list[str]:
    _, comparison = catalogue.compared(base, one)
    links = (
        ("All runs", f"../../{INDEX}"),
        ("Report of new", run_folder.REPORT),
        ("Report of base", f"../{base.name}/{run_folder.REPORT}"),
    )
    return [_write(site, f"{place}/{COMPARED}", verdicts.render(comparison, links, _FAR))]


def _write_training(place: str, training: Path, site: Path) -> list[str]:
    report = _write(site, f"{place}/{run_folder.REPORT}", trainings.render(training))
    return [report, *_copy((TRAINING.manifest, TRAINING.lines), training, site, place)]


def _copy(names: Sequence[str], source: Path, site: Path, place: str) -> list[str]:
    there = [name for name in names if (source / name).exists()]
    for name in there:
        shutil.copyfile(source / name, site / place / name, follow_symlinks=False)
    return [f"{place}/{name}" for name in there]


def _write(site: Path, name: str, content: str) -> str:
    path = site / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return name


def _refuse_overlap(place: Path, stores: Sequence[Path], out: Path) -> None:
    """Neither may hold the other: a site's copies would be runs, and its replacing a loss."""
    for each in stores:
        there = each.resolve()
        if place == there or place in there.parents or there in place.parents:
            raise UserError(f"--site {out} and {each} overlap; give a folder apart from the runs")


def _files_of_site(place: Path, out: Path) -> frozenset[str]:
    """The files of an earlier site, where nothing but these is there.

    Raises:
        UserError: there is something else, which would be lost.
    """
    if not place.exists():
        return frozenset()
    if not place.is_dir():
        raise UserError(f"{out} is a file; give a folder with --site")
    here = frozenset(_files_below(place))
    if not here:
        return here
    ours = _ours(place / MARKER)
    if ours is None:
        raise UserError(f"{out} holds files that are not a site of lstm-bench; give a new folder")
    strange = sorted(name for name in here - ours if not _left_by_a_kill(name))
    if strange:
        more = f" and {len(strange) - 1:,} more" if len(strange) > 1 else ""
        raise UserError(f"{out} holds {strange[0]!r}{more}, which is not of its site; move it")
    return here


def _files_below(place: Path) -> Iterator[str]:
    """All that is there and not a folder, links among it, by path."""
    for folder, folders, files in os.walk(place):
        within = folder[len(str(place)) :].lstrip(os.sep)
        links = [name for name in folders if Path(folder, name).is_symlink()]
        yield from (f"{within}{os.sep}{name}" if within else name for name in (*files, *links))


def _left_by_a_kill(name: str) -> bool:
    return os.sep not in name and any(is_unfinished(Path(name), each) for each in (MARKER, DIGESTS))


def _ours(marker: Path) -> frozenset[str] | None:
    """The files of an earlier site; None where there is no sign of one."""
    try:
        kept = parsed(content_of(marker))
        if kept["lstm_bench_site"] > SCHEMA:
            return None
        return frozenset([*map(str, kept["files"]), MARKER, DIGESTS])
    except (KeyError, OSError, TypeError, ValueError):
        return None


def _all(stores: Sequence[Path]) -> str:
    return ", ".join(map(str, stores))
