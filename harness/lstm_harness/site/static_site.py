"""All pages of one store or of several into a folder that any web host can serve.

    index.html, history.html
    runs/NAME/report.html, run.json, records.jsonl      the raw records next to each report
    runs/NAME/compare.html                              against the run before, where there is one
    trainings/NAME/report.html, training.json, curves.jsonl
    lstm-bench-site.json                                what was written, so that it may be replaced

The site is written whole into a new folder, which then replaces the old one. What is not a
site of ours is never touched.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from lstm_harness.history.index import Tell
from lstm_harness.model.errors import UserError
from lstm_harness.model.reading import content_of
from lstm_harness.model.strict_json import parsed
from lstm_harness.report import page, verdicts
from lstm_harness.site import catalogue, history, index, trainings
from lstm_harness.site.catalogue import COMPARED, HISTORY, Catalogue, Listed
from lstm_harness.store import run_folder
from lstm_harness.store.training_folder import TRAINING

MARKER = "lstm-bench-site.json"
SCHEMA = 1


def write(stores: Sequence[Path], out: Path, tell: Tell = lambda done, total, label: None) -> Path:
    """Write the site of these stores and return the path of its index.

    Raises:
        UserError: no run there; `out` holds something else, lies in a store or around one, or
            cannot be written.
    """
    place = out.resolve()
    _refuse_overlap(place, stores, out)
    _refuse_foreign(place, out)
    listed = catalogue.collect(stores, tell)
    if not listed.runs and not listed.trainings:
        raise UserError(f"{_all(stores)} holds no run that can be read; give a folder of runs")
    fresh = place.with_name(f".{place.name}.new-{os.getpid()}")
    try:
        fresh.mkdir(parents=True)
        try:
            _fill(fresh, listed, tell)
            _take_place(fresh, place)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; give another --site") from None
    return out / "index.html"


def _fill(site: Path, listed: Catalogue, tell: Tell) -> None:
    """Every page into an empty folder, the marker last."""
    for done, one in enumerate(listed.runs.values()):
        tell(done, len(listed.runs), "pages written")
        _write_run(site / "runs" / one.name, one, listed)
    for trained in listed.trainings.values():
        _write_training(site / "trainings" / trained.name, trained.folder)
    _write(site / HISTORY, history.render(catalogue.history(listed.stores), home="index.html"))
    _write(site / "index.html", index.render(listed, served=False))
    files = sorted(str(path.relative_to(site)) for path in site.rglob("*") if path.is_file())
    marker = {"lstm_bench_site": SCHEMA, "files": files}
    _write(site / MARKER, json.dumps(marker, indent=1) + "\n")


def _write_run(folder: Path, one: Listed, listed: Catalogue) -> None:
    folder.mkdir(parents=True)
    _write(folder / run_folder.REPORT, page.render([run_folder.load(one.folder)]))
    _copy((run_folder.MANIFEST, run_folder.RECORDS), one.folder, folder)
    if one.before:
        _, comparison = catalogue.compared(listed.runs[one.before], one)
        links = (
            ("All runs", "../../index.html"),
            ("Report of new", run_folder.REPORT),
            ("Report of base", f"../{one.before}/{run_folder.REPORT}"),
        )
        _write(folder / COMPARED, verdicts.render(comparison, links))


def _write_training(folder: Path, training: Path) -> None:
    folder.mkdir(parents=True)
    _write(folder / run_folder.REPORT, trainings.render(training))
    _copy((TRAINING.manifest, TRAINING.lines), training, folder)


def _copy(names: Sequence[str], source: Path, folder: Path) -> None:
    for name in names:
        if (source / name).exists():
            shutil.copyfile(source / name, folder / name, follow_symlinks=False)


def _write(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")


def _take_place(fresh: Path, place: Path) -> None:
    """Put the new folder where the old one is, or nothing; the old one goes last."""
    old = place.with_name(f".{place.name}.old-{os.getpid()}")
    if place.exists():
        place.replace(old)
    try:
        fresh.replace(place)
    except OSError:
        _if_there(old, lambda: old.replace(place))
        raise
    _if_there(old, lambda: shutil.rmtree(old))


def _if_there(path: Path, action: Callable[[], object]) -> None:
    if path.exists():
        action()


def _refuse_overlap(place: Path, stores: Sequence[Path], out: Path) -> None:
    """Neither may hold the other: a site's copies would be runs, and its replacing a loss."""
    for each in stores:
        there = each.resolve()
        if place == there or place in there.parents or there in place.parents:
            raise UserError(f"--site {out} and {each} overlap; give a folder apart from the runs")


def _refuse_foreign(place: Path, out: Path) -> None:
    """Refuse what would be lost: anything that is not a file that an earlier site wrote.

    Raises:
        UserError: there is such a thing.
    """
    if not place.exists():
        return
    if not place.is_dir():
        raise UserError(f"{out} is a file; give a folder with --site")
    here = [path for path in sorted(place.rglob("*")) if path.is_symlink() or not path.is_dir()]
    if not here:
        return
    ours = _ours(place / MARKER)
    if ours is None:
        raise UserError(f"{out} holds files that are not a site of lstm-bench; give a new folder")
    strange = [name for path in here if (name := str(path.relative_to(place))) not in ours]
    if strange:
        more = f" and {len(strange) - 1:,} more" if len(strange) > 1 else ""
        raise UserError(f"{out} holds {strange[0]!r}{more}, which is not of its site; move it")


def _ours(marker: Path) -> frozenset[str] | None:
    """The files of an earlier site; None where there is no sign of one."""
    try:
        kept = parsed(content_of(marker))
        if kept["lstm_bench_site"] > SCHEMA:
            return None
        return frozenset([*map(str, kept["files"]), MARKER])
    except (KeyError, OSError, TypeError, ValueError):
        return None


def _all(stores: Sequence[Path]) -> str:
    return ", ".join(map(str, stores))
