"""Runs of parts of one plan, merged into one run that has every record once.

Parts may be shards by cases or by blocks, measured on several devices of one class, and a lost half
that was measured again. What differs in anything else is refused: its records do not belong
together. The manifest is written last, so nobody reads half a merged run.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lstm_harness import __version__
from lstm_harness.model.case import Case
from lstm_harness.model.errors import UserError
from lstm_harness.model.lasting import changed_class, tuned
from lstm_harness.model.part import Part, part_of
from lstm_harness.model.plan import Plan
from lstm_harness.model.reading import MOST_RECORDS_BYTES, content_of
from lstm_harness.model.record import Record
from lstm_harness.store import run_folder
from lstm_harness.store.files import replace_whole
from lstm_harness.store.run_folder import Run, split_torn

# Of at most this many hosts or GPUs the names are listed; of more, a digest.
MOST_LISTED = 4
_BETWEEN = ", "
# What a part's spec may have of its own, because the plan or the report says it.
_OWN = ("blocks", "label")
# What a part's plan may have of its own.
_OWN_OF_PLAN = {"blocks", "blocks_by_case", "planned_records", "estimated_s", "estimated_bytes"}
# A setting of the checks, not of what is timed.
_WITHOUT_EFFECT = "poisoned_memory"


def merged(
    parts: Sequence[Path], out: Path, command: Sequence[str] = (), plan: Plan | None = None
) -> Path:
    """Merge runs into one, in a new folder, and return it.

    The result may lack records; `lstm-bench run --resume` then goes on with it.

    Args:
        command: the command line for it; one that names these folders where none is given.
        plan: of the whole run, if a part's own plan has only the cases that it measured.
    Raises:
        UserError: `out` is in use, a run cannot be read or was edited, or two of them do not belong
            together.
    """
    run_folder.refuse_used(out)
    runs = _of_whole(map(_loaded, parts), plan) if plan else _sharing(map(_loaded, parts))
    runs.sort(key=lambda run: str(run.manifest["start"]))
    for run in runs[1:]:
        _refuse_other(runs[0], run)
    records = _numbered(runs)
    lines = [json.dumps(record.to_dict(), allow_nan=False) + "\n" for record in records]
    content = "".join(lines).encode()
    command = command or ("lstm-bench", "merge", *map(str, parts), "--out", str(out))
    plan = plan or _plan([run.manifest["plan"] for run in runs])
    manifest = _manifest(
        runs, plan, out, command, len(records), hashlib.sha256(content).hexdigest()
    )
    run_folder.create(out)
    with run_folder.writing(out):
        replace_whole(out / run_folder.RECORDS, content)
    run_folder.write_manifest(out, manifest)
    return out


def _loaded(folder: Path) -> Run:
    run = run_folder.load(folder)
    if run.edited:
        raise UserError(
            f"{folder}: the records are not those that the run wrote; measure that part again"
        )
    if not run.records:
        raise UserError(f"{folder} has no records; leave it out")
    return run


def _sharing(runs: Iterable[Run]) -> list[Run]:
    """The runs; manifests have the cases of the first one's plan where they are the same.

    Each part's manifest has the whole plan; in memory it is needed once.
    """
    found: list[Run] = []
    for run in runs:
        plan = run.manifest["plan"]
        ours = found[0].manifest["plan"] if found else plan
        same = {name: ours[name] for name in ("cases", "skips") if ours[name] == plan[name]}
        found.append(replace(run, manifest={**run.manifest, "plan": {**plan, **same}}))
    return found


def _of_whole(runs: Iterable[Run], whole: Plan) -> list[Run]:
    """The runs as parts of the whole plan, where each has a plan of its own cases.

    Raises:
        UserError: one has a case that the whole does not have.
    """
    places, stored = {case: place for place, case in enumerate(whole.cases)}, whole.to_dict()
    found = []
    for run in runs:
        cases, part = Plan.from_dict(run.manifest["plan"]).cases, part_of(run.manifest)
        if part is None or not places.keys() >= set(cases):
            raise UserError(f"{run.folder} is not a part of the plan; measure that part again")
        own = Part(tuple(places[cases[place]] for place in part.cases), part.blocks)
        found.append(replace(run, manifest={**run.manifest, "plan": stored, "part": own.to_dict()}))
    return found


def differences(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    """Why runs with these two manifests are not of one run: what differs; empty where nothing does.

    Labels, the number of blocks, and which machine of the class it was may differ.
    """
    backends = one["plan"]["backends"]
    differ = [name for name in ("seed", "spec") if _asked(one, name) != _asked(two, name)]
    if not _is_same(one["plan"], two["plan"]):
        differ.append("plan")
    if one["kernels_digest"] != two["kernels_digest"]:
        differ.append("the kernels' sources")
    here, there = one["environment"], two["environment"]
    differ += changed_class(here, there)
    if tuned(here, backends) != tuned(there, backends):
        differ.append("tuned parameters")
    if _settings(here) != _settings(there):
        differ.append("settings")
    if bool(one.get("pair")) != bool(two.get("pair")):
        differ.append("pair")
    return differ


def _refuse_other(first: Run, other: Run) -> None:
    """Refuse a run that was asked for otherwise, or measured in another way."""
    if differ := differences(first.manifest, other.manifest):
        raise UserError(
            f"{other.folder} is not a part of the same run as {first.folder}: other "
            f"{', '.join(differ)}; expected parts of one plan, on devices of one class"
        )


def _asked(manifest: Mapping[str, Any], name: str) -> Any:
    """What was asked for, without what parts of one run may have of their own."""
    if name == "spec":
        return {key: value for key, value in manifest["spec"].items() if key not in _OWN}
    return manifest[name]


def _is_same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    """Whether two stored plans are of the same cells; those of the same text are not read."""
    if one is two:
        return True
    if all(one.get(name) == two.get(name) for name in (one.keys() | two.keys()) - _OWN_OF_PLAN):
        return True
    return _cells(one) == _cells(two)


def _cells(stored: dict[str, Any]) -> Plan:
    """A plan without what parts of one run may have of their own."""
    plan = Plan.from_dict(stored)
    return replace(plan, blocks=1, blocks_by_case=(), estimated_s=0.0, estimated_bytes=0)


def _settings(environment: Mapping[str, Any]) -> dict[str, Any]:
    settings = environment.get("settings") or {}
    return {name: value for name, value in settings.items() if name != _WITHOUT_EFFECT}


def _numbered(runs: Sequence[Run]) -> list[Record]:
    """Every record once, in the order measured.

    Raises:
        UserError: two runs have a record of the same cell and block that differs.
    """
    found: dict[tuple[int, str, Case], tuple[Record, Run]] = {}
    for run in runs:
        for record in run.records:
            known = found.setdefault(record.identity, (record, run))
            if replace(known[0], order=record.order) != record:
                raise UserError(
                    f"{known[1].folder} and {run.folder} both have {record.backend} on "
                    f"{record.case.label()}, block {record.block}, and not the same; leave one out"
                )
    return [replace(record, order=place) for place, (record, _) in enumerate(found.values())]


def _manifest(
    runs: Sequence[Run], plan: Plan, out: Path, command: Sequence[str], records: int, digest: str
) -> dict[str, Any]:
    first = runs[0].manifest
    moments = [run.manifest.get("end") or run.manifest["start"] for run in runs]
    pairs = sorted({run.manifest["pair"] for run in runs if run.manifest.get("pair")})
    return {
        **{name: value for name, value in first.items() if name != "part"},
        "id": out.resolve().name,
        "command": list(command),
        "lstm_bench": __version__,
        "end": max(moments) if records == plan.planned_records else None,
        "plan": plan.to_dict(),
        "environment": environment_of([run.manifest["environment"] for run in runs]),
        "parts": list(map(_told, runs)),
        "records_sha256": digest,
        **({"pair": "+".join(pairs)} if pairs else {}),
    }


def _plan(plans: Sequence[dict[str, Any]]) -> Plan:
    """Each case has as many blocks as the stored plan that gave it most."""
    counts = tuple(max(each) for each in zip(*map(_blocks, plans), strict=True))
    even = len(set(counts)) == 1
    first = Plan.from_dict(plans[0])
    return replace(first, blocks=max(counts), blocks_by_case=() if even else counts)


def _blocks(plan: Mapping[str, Any]) -> Sequence[int]:
    """How many blocks each case has."""
    by_case: Sequence[int] = plan.get("blocks_by_case") or [plan["blocks"]] * len(plan["cases"])
    return by_case


def environment_of(environments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The first of several of one class, with the names of all hosts and GPUs."""
    made = {**environments[0], "host": _all_of(each.get("host") for each in environments)}
    if made.get("gpu"):
        uuids = [each["gpu"].get("uuid") for each in environments]
        made["gpu"] = {**made["gpu"], "uuid": _all_of(uuids)}
    return made


def _all_of(names: Iterable[str | None]) -> str | None:
    """Names as one, each once; None where none is known."""
    known = sorted({each for name in names if name for each in name.split(_BETWEEN)})
    if not known:
        return None
    if len(known) <= MOST_LISTED:
        return _BETWEEN.join(known)
    return f"{len(known)} of them, {hashlib.sha256(' '.join(known).encode()).hexdigest()[:12]}"


def _told(run: Run) -> dict[str, Any]:
    """What the whole says of a run that it was made from."""
    whole, _ = split_torn(content_of(run.folder / run_folder.RECORDS, MOST_RECORDS_BYTES))
    return {
        "id": run.manifest["id"],
        "part": run.manifest.get("part"),
        "machines": list(run.machines),
        "environment": run.manifest["environment"],
        "records_sha256": hashlib.sha256(whole).hexdigest(),
    }
