"""A comparison as one JSON document (schemas/verdicts.schema.json); what is not known is null."""

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from lstm_harness.judge.by_backend import BackendVerdicts, by_backend
from lstm_harness.judge.comparison import Comparison, Side
from lstm_harness.judge.exporters import words
from lstm_harness.judge.verdict import Kind, Verdict, key_of, rows_by_key

SCHEMA = 1


def document(comparison: Comparison) -> dict[str, Any]:
    """Everything there is to say of a comparison, the blocks' medians included."""
    old, now = rows_by_key(comparison.base.summary), rows_by_key(comparison.new.summary)
    backends = by_backend(comparison)
    return {
        "schema": SCHEMA,
        "base": _side(comparison.base),
        "new": _side(comparison.new),
        "rules": asdict(comparison.rules),
        "fail_on": sorted(comparison.fail_on),
        "exit_code": int(comparison.exit_code),
        "headline": words.headline(comparison),
        "advice": words.advice(comparison, backends),
        "differences": list(comparison.differences),
        "notes": list(comparison.notes),
        "counts": _counts(comparison.counts()),
        "backends": [_backend(each) for each in backends],
        "verdicts": [
            _verdict(verdict)
            | {
                "base_block_medians": _blocks(old.get(key_of(verdict)), verdict),
                "new_block_medians": _blocks(now.get(key_of(verdict)), verdict),
            }
            for verdict in comparison.verdicts
        ],
    }


def _counts(counts: Mapping[Kind, int]) -> dict[str, int]:
    return {kind.value: counts.get(kind, 0) for kind in Kind}


def _backend(of: BackendVerdicts) -> dict[str, Any]:
    seen = of.resolution
    return {
        "backend": of.backend,
        "together": of.together and of.together.kind.value,
        "counts": _counts(of.counts),
        "sees": seen and _known(seen.slowdown),
        "margin": seen and seen.margin,
        "blocks": seen and seen.blocks,
    }


def _side(side: Side) -> dict[str, Any]:
    manifest = side.manifest
    return {
        "name": side.name,
        "id": manifest.get("id"),
        "start": manifest.get("start"),
        "git": None if side.git is None else dict(side.git),
        "kernels_digest": manifest.get("kernels_digest"),
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    known = {each.name: getattr(verdict, each.name) for each in fields(verdict)}
    known |= {"kind": verdict.kind.value, "case": dict(verdict.case)}
    return {name: _known(value) for name, value in known.items()}


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _blocks(row: Mapping[str, Any] | None, verdict: Verdict) -> list[float | None]:
    if row is None or verdict.measure != "time":
        return []
    return [_known(time) for time in row["block_medians_ns"]]
