"""What one run tells the board: times of correct backends, and what is refused, with the reason.

What a run tells is derived, and kept in the user's cache, a file for each device class of a store.
A run is read again only where its files changed in size or time.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lstm_harness.analysis.summary import plain_rows, summarise
from lstm_harness.history.index import Tell
from lstm_harness.judge.comparability import decisive
from lstm_harness.model import text
from lstm_harness.model.errors import UserError
from lstm_harness.site import cards
from lstm_harness.site.board.classes import DeviceClass
from lstm_harness.site.catalogue import Listed
from lstm_harness.store import run_folder
from lstm_harness.store.files import derived, keep_derived
from lstm_harness.store.parallel import each
from lstm_kernels import PASSES

VERSION = 1
# A process reads this many runs before it reports.
CHUNK = 25
# Cases are listed in the order of these columns.
ORDER = ("cell", "dtype", "precision", "hidden_size", "seq_len", "batch")
# A run may name thousands of cells with reasons of their own.
MOST_REFUSALS = 50
NOT_CHECKED = "a block's output was not compared with the float64 answer"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Told:
    """What one run tells.

    Attributes:
        refused: why nothing of it counts; empty where it counts.
        conditions: the facts that must agree before times are compared, as text.
        plugins: a plugin's file name and the SHA-256 of its source, by backend.
        rows: a backend on a case that is correct and ranked: `backend`, `label`, `order` (where
            the case is listed), `median_ns`, `low_ns` and `high_ns` (None if unknown), `block_ids`
            and `block_medians_ns`.
        refusals: of all else `backend`, `status`, `reason`, `label` of one such case, and how many
            `cases` there are.
    """

    refused: str = ""
    records_sha256: str = ""
    kernels_digest: str = ""
    conditions: Mapping[str, str] = field(default_factory=dict)
    plugins: Mapping[str, Sequence[str]] = field(default_factory=dict)
    rows: Sequence[Row] = ()
    refusals: Sequence[Row] = ()


def of_run(run: run_folder.Run) -> Told:
    """What a run tells."""
    manifest = run.manifest
    known = Told(
        refused=_refused(run),
        records_sha256=str(manifest.get("records_sha256") or ""),
        kernels_digest=str(manifest["kernels_digest"]),
        conditions={
            name: text.shorten(str(value), 200) for name, value in decisive(manifest).items()
        },
        plugins={
            backend: [str(plugin["file"]), str(plugin["sha256"])]
            for plugin in manifest.get("plugins") or ()
            for backend in plugin["backends"]
        },
    )
    if known.refused:
        return known
    summary = plain_rows(summarise(run.records))
    unranked = {(one.backend, one.unranked) for one in run.records if one.unranked}
    unchecked = {
        (one.backend, one.case.label())
        for one in run.records
        if one.status == "ok" and (one.tolerance is None or not one.errors)
    }
    ranked, refusals = [], Counter[tuple[str, str, str]]()
    example: dict[tuple[str, str, str], str] = {}
    for row in summary:
        status, reason = row["status"], row["reason"]
        if (row["backend"], reason) in unranked:
            status = "unranked"
        elif status == "ok" and (row["backend"], row["label"]) in unchecked:
            status, reason = "not checked", NOT_CHECKED
        if status == "ok":
            ranked.append(_kept(row))
        elif status != "unsupported":
            key = row["backend"], status, text.shorten(reason, 400)
            refusals[key] += 1
            example.setdefault(key, row["label"])
    told = [
        {"backend": key[0], "status": key[1], "reason": key[2], "label": label}
        | {"cases": refusals[key]}
        for key, label in example.items()
    ]
    return Told(**(vars(known) | {"rows": ranked, "refusals": told[:MOST_REFUSALS]}))


def _refused(run: run_folder.Run) -> str:
    """Why nothing of a run counts."""
    if not run.manifest.get("records_sha256"):
        return "no SHA-256 of its records: it has not ended, or is older than these digests"
    if run.edited or run.torn:
        return "its records are not what the run wrote: their SHA-256 differs"
    if run.manifest.get("revision"):
        return "one side of an ab: it measured the kernels of another revision"
    return ""


def _kept(row: Row) -> dict[str, Any]:
    return {
        "backend": row["backend"],
        "label": row["label"],
        "order": [PASSES.index(row["pass"]), *(row[name] for name in ORDER)],
        "median_ns": row["median_ns"],
        "low_ns": _finite(row["low_ns"]),
        "high_ns": _finite(row["high_ns"]),
        "block_ids": list(row["block_ids"]),
        "block_medians_ns": list(row["block_medians_ns"]),
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def of_class(
    which: DeviceClass,
    runs: Sequence[Listed],
    tell: Tell = lambda done, total, label: None,
) -> dict[str, Told]:
    """What the runs of a class tell, by their names; only what changed is read."""
    told: dict[str, Told] = {}
    for store in dict.fromkeys(one.store for one in runs):
        own = {one.card.path: one for one in runs if one.store == store}
        file = cards.cache_file(store, f"board-{which.slug}")
        kept = _load(file)
        stale = [p for p, one in own.items() if kept.get(p, {}).get("stamp") != one.stamp]
        fresh = dict(_read(store, own, stale, tell))
        entries = {p: fresh.get(p) or kept[p] for p in own}
        if fresh or entries.keys() != kept.keys():
            keep_derived(file, {"version": VERSION, "runs": entries})
        told |= {one.name: Told(**entries[path]["told"]) for path, one in own.items()}
    return told


def _load(file: Path) -> dict[str, dict[str, Any]]:
    kept = derived(file)
    if kept is None or kept["version"] != VERSION:
        return {}
    runs: dict[str, dict[str, Any]] = kept["runs"]
    return runs


def _read(
    store: Path, own: Mapping[str, Listed], stale: Sequence[str], tell: Tell
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What runs tell, each with the stamp of the files that it was read from."""
    chunks = [stale[at : at + CHUNK] for at in range(0, len(stale), CHUNK)]
    size = sum(own[path].stamp[2] for path in stale)
    jobs = [(str(store), chunk) for chunk in chunks]
    done = 0
    for part in each(_read_chunk, jobs, worth=size > cards.WORTH_PROCESSES_BYTES):
        done += len(part)
        tell(done, len(stale), "runs read for the board")
        yield from ((path, {"stamp": own[path].stamp, "told": one}) for path, one in part.items())


def _read_chunk(job: tuple[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """What some runs tell, in any process."""
    store, paths = Path(job[0]), job[1]
    found = {}
    for path in paths:
        try:
            told = of_run(run_folder.load(store / path))
        except UserError as error:
            told = Told(refused=cards.said_of(error, store))
        found[path] = asdict(told)
    return found
