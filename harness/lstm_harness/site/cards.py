"""The runs of a store for an index page: a card each, and how it compares.

A run is judged against the run before it: the newest earlier one of the same suite and cases, on
the same machine with the same settings. Cards and verdicts are derived, and kept in the user's
cache, never in the store: a run is read again only where its files changed in size or time, or
another run came between.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lstm_harness.history import index, run_digest
from lstm_harness.history.index import Tell
from lstm_harness.judge import comparability, noise
from lstm_harness.model.errors import Exit, UserError
from lstm_harness.store import cache_folder, run_folder
from lstm_harness.store.files import derived, keep_derived
from lstm_harness.store.parallel import each

VERSION = 3
# A process reads this many runs before it reports.
CHUNK = 25
# Below this much to read, starting further processes takes longer than they save.
WORTH_PROCESSES_BYTES = 50_000_000


@dataclass(frozen=True)
class Card:
    """One run in a few words.

    `start` is in UTC, empty if the manifest's is not a time. `cells` counts (backend, case) pairs,
    `failed` those of them that should have a time and have none, `incorrect` the wrong ones among
    these. `headline` is the first sentence of the run's report. `facts` is what of the manifest
    `comparable` reads, and `series` what two runs must share to be compared at all.
    """

    path: str
    id: str
    label: str
    suite: str
    start: str
    host: str
    machine: str
    commit: str
    cells: int
    failed: int
    incorrect: int
    headline: str
    series: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Against:
    """What a run's comparison with the run before came to; `base` is that run's path."""

    base: str
    headline: str
    counted: str
    exit_code: int


@dataclass(frozen=True)
class Shelf:
    """A store's cards by path, newest first; what each compares to; what could not be read.

    `stamps` tell that a run's files are those that were read, `judged` what its verdict depends on
    in addition to them.
    """

    folder: Path
    cards: Mapping[str, Card]
    against: Mapping[str, Against]
    left_out: Mapping[str, str]
    stamps: Mapping[str, index.Stamp]
    judged: Mapping[str, Sequence[Any]]


Entry = dict[str, Any]
Job = tuple[str, list[tuple[str, str | None]]]


def read(folder: Path, tell: Tell = lambda done, total, label: None) -> Shelf:
    """Every run of a store, or of a folder that is a run itself; only what changed is read.

    Raises:
        UserError: no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give a folder of runs, like results/runs")
    file = cache_file(folder, "cards")
    kept = _load(file)
    entries = _up_to_date(folder, kept)
    before = _runs_before([e["head"] for e in entries.values() if "error" not in e])
    stale = [path for path, entry in entries.items() if _is_stale(path, entry, before, entries)]
    done = 0
    for part in each(_read_chunk, _jobs(folder, stale, before, entries), _worth(stale, entries)):
        for path, entry in part.items():
            entries[path] |= entry | {"judged": _judged_on(path, before, entries)}
        done += len(part)
        tell(done, len(stale), "runs read")
    if stale or entries.keys() != kept.keys():
        keep_derived(file, {"version": VERSION, "runs": entries})
    return _shelf(folder, entries)


def cache_file(folder: Path, kind: str) -> Path:
    """Where what is derived of a store is kept for this user."""
    place = cache_folder.of_store(folder, f"{kind}.json")
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _load(file: Path) -> dict[str, Entry]:
    """What was stored; nothing if there is none, or if its version differs."""
    kept = derived(file)
    if kept is None or kept["version"] != VERSION:
        return {}
    entries: dict[str, Entry] = kept["runs"]
    return entries


def _up_to_date(folder: Path, kept: Mapping[str, Entry]) -> dict[str, Entry]:
    """An entry a run: the kept one, or a new one with its head alone."""
    entries: dict[str, Entry] = {}
    for path in run_folder.RUN.below(folder):
        stamp = index.stamp(folder / path)
        known = kept.get(path)
        is_same = known is not None and known["stamp"] == stamp
        entries[path] = dict(known) if known and is_same else _fresh(folder, path, stamp)
    return entries


def _fresh(folder: Path, path: str, stamp: index.Stamp) -> Entry:
    """What a run's manifest tells, which is enough to find the run before it."""
    try:
        if -2 in stamp:
            raise UserError("run.json or records.jsonl is not a plain file; expected no link")
        return {"stamp": stamp, "head": _head(path, run_folder.read_manifest(folder / path))}
    except UserError as error:
        return {"stamp": stamp, "error": said_of(error, folder)}


def said_of(error: Exception, folder: Path) -> str:
    """Why something is left out, on one line that names no place outside the store."""
    return " ".join(str(error).replace(f"{folder}{os.sep}", "").split())


def _head(path: str, manifest: Mapping[str, Any]) -> Entry:
    environment, plan = manifest["environment"], manifest["plan"]
    known = ("host", "cpu", "gpu", "settings")
    facts: Entry = {"plan": {"device": plan["device"]}}
    facts["environment"] = {name: environment.get(name) for name in known}
    facts["environment"]["start"] = {"gpu": _of(environment.get("start"), "gpu")}
    suite = str(manifest.get("suite") or "")
    shared = [run_digest.machine(environment, str(plan["device"])), suite, plan["cases"]]
    return {
        "path": path,
        "id": str(manifest["id"]),
        "label": str(manifest.get("label") or manifest["id"]),
        "suite": suite,
        "start": _utc(manifest["start"]),
        "host": str(environment.get("host") or ""),
        "machine": _machine(environment),
        "commit": str(_of(environment.get("git"), "commit") or ""),
        "series": hashlib.sha256(json.dumps(shared).encode()).hexdigest(),
        # A NaN, which a manifest may hold, has no JSON.
        "facts": json.loads(json.dumps(facts), parse_constant=str),
    }


def _machine(environment: Mapping[str, Any]) -> str:
    """The GPU's name, else the CPU's."""
    name = _of(environment.get("gpu"), "name") or _of(environment.get("cpu"), "model")
    return str(name or "unknown device")


def _of(facts: object, name: str) -> object:
    return facts.get(name) if isinstance(facts, dict) else None


def _utc(start: object) -> str:
    """A stored time in UTC, so that times sort as texts; empty if it is not a time."""
    try:
        then = datetime.fromisoformat(str(start))
    except ValueError:
        return ""
    try:
        return then.replace(tzinfo=then.tzinfo or UTC).astimezone(UTC).isoformat()
    except OverflowError:
        return ""


def _runs_before(heads: Sequence[Entry]) -> dict[str, str]:
    """The run that each is judged against, by path; a copy of a run is not one before it."""
    by_series: dict[str, list[Entry]] = {}
    for head in sorted(heads, key=lambda one: (one["start"], one["id"], one["path"])):
        if head["start"]:
            by_series.setdefault(head["series"], []).append(head)
    before = {}
    for series in by_series.values():
        for place, head in enumerate(series):
            earlier = (one for one in reversed(series[:place]) if one["start"] < head["start"])
            facts = head["facts"]
            # Most are equal, which is much sooner seen than what differs.
            fits = (
                each["path"]
                for each in earlier
                if each["facts"] == facts or not comparability.differences(each["facts"], facts)
            )
            base = next(fits, None)
            if base is not None:
                before[head["path"]] = base
    return before


def _is_stale(
    path: str, entry: Entry, before: Mapping[str, str], entries: Mapping[str, Entry]
) -> bool:
    if "error" in entry:
        return False
    return "card" not in entry or bool(entry["judged"] != _judged_on(path, before, entries))


def _judged_on(path: str, before: Mapping[str, str], entries: Mapping[str, Entry]) -> list[Any]:
    """What a verdict depends on in addition to the run: the run before, this machine's noise."""
    if path not in before:
        return []
    file = noise.file_of(entries[path]["head"]["facts"]["environment"])
    try:
        facts = file.stat()
    except OSError:
        return [before[path], entries[before[path]]["stamp"]]
    # Two changes within a few milliseconds may have one date.
    return [before[path], entries[before[path]]["stamp"], facts.st_size, facts.st_mtime_ns]


def _jobs(
    folder: Path, stale: Sequence[str], before: Mapping[str, str], entries: Mapping[str, Entry]
) -> list[Job]:
    """Runs to read, those of a series in order of start, so that most follow the one before."""
    place = {path: entries[path]["head"] for path in stale}
    ordered = sorted(stale, key=lambda p: (place[p]["series"], place[p]["start"], place[p]["id"]))
    pairs = [(path, before.get(path)) for path in ordered]
    return [(str(folder), pairs[at : at + CHUNK]) for at in range(0, len(pairs), CHUNK)]


def _worth(stale: Sequence[str], entries: Mapping[str, Entry]) -> bool:
    sizes = [int(entries[path]["stamp"][2]) for path in stale]
    return sum(sizes) > WORTH_PROCESSES_BYTES


def _read_chunk(job: Job) -> dict[str, Entry]:
    """Cards and verdicts of some runs, in whichever process."""
    folder, pairs = Path(job[0]), job[1]
    entries: dict[str, Entry] = {}
    last: tuple[str, Any] = ("", None)
    for path, base in pairs:
        try:
            run = run_folder.load(folder / path)
            card, side = _card(run, path)
            against = None
            if base is not None:
                earlier = last[1] if last[0] == base else _side(folder / base)
                against = _judged(base, earlier, side)
        except UserError as error:
            entries[path] = {"error": said_of(error, folder)}
            continue
        last = (path, side)
        entries[path] = {"card": asdict(card), "against": against and asdict(against)}
    return entries


def _side(run: Path) -> Any:
    """A run as one side of a comparison; None where it cannot be read."""
    from lstm_harness.judge.comparison import side_of_run

    try:
        return side_of_run(run_folder.load(run))
    except UserError:
        return None


def _card(run: run_folder.Run, path: str) -> tuple[Card, Any]:
    """A run's card, and the run as one side of a comparison."""
    from lstm_harness.judge.comparison import side_of_run
    from lstm_harness.report.page import headline

    side = side_of_run(run)
    statuses = side.summary["status"].tolist()
    card = Card(
        **_head(path, run.manifest),
        cells=len(statuses),
        failed=sum(status not in ("ok", "unsupported") for status in statuses),
        incorrect=statuses.count("incorrect"),
        headline=headline(side.summary),
    )
    return card, side


def _judged(base: str, earlier: Any, new: Any) -> Against | None:
    from lstm_harness.judge.comparison import compare_sides
    from lstm_harness.judge.exporters import words
    from lstm_harness.judge.verdict import Rules

    if earlier is None:
        return None
    try:
        margins = noise.kept(new.manifest["environment"]).margins
    except UserError as error:
        return Against(base, "Not judged", str(error), Exit.USAGE)
    comparison = compare_sides(earlier, new, Rules(), margins)
    headline, counted = words.headline(comparison), words.counted(comparison)
    return Against(base, headline, counted, int(comparison.exit_code))


def _shelf(folder: Path, entries: Mapping[str, Entry]) -> Shelf:
    cards = [Card(**entry["card"]) for entry in entries.values() if "error" not in entry]
    cards.sort(key=lambda card: (card.start, card.id, card.path), reverse=True)
    return Shelf(
        folder,
        {card.path: card for card in cards},
        {p: Against(**entries[p]["against"]) for p in entries if entries[p].get("against")},
        {path: entry["error"] for path, entry in entries.items() if "error" in entry},
        {path: entry["stamp"] for path, entry in entries.items()},
        {path: entry.get("judged", []) for path, entry in entries.items()},
    )
