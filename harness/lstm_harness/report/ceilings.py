"""The ceilings that runs had of their devices, as the page lists them."""

from collections.abc import Sequence
from typing import Any

from lstm_harness.model import text
from lstm_harness.model.ceilings import Ceilings
from lstm_harness.store.kept_limits import NONE_KEPT, of_manifest
from lstm_harness.store.run_folder import Run


def of_runs(runs: Sequence[Run], labels: Sequence[str]) -> list[dict[str, Any]]:
    """The ceilings that each run had, as a table, or why it had none."""
    return [_of_run(run, label) for run, label in zip(runs, labels, strict=True)]


def _of_run(run: Run, label: str) -> dict[str, Any]:
    try:
        ceilings = of_manifest(run.manifest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return {"label": label, "rows": [], "notes": [f"Its ceilings cannot be read: {error}"]}
    if ceilings is None:
        reason = str(run.manifest.get("no_limits") or NONE_KEPT)
        return {"label": label, "rows": [], "notes": [f"{reason}; then run again"]}
    rows = [
        {
            "name": each.name,
            "value": each.shown(each.value),
            "interval": each.interval(),
            "best": each.shown(each.best),
            "unit": each.shown_unit,
            "detail": each.detail,
        }
        for each in ceilings.ceilings
    ]
    return {"label": label, "rows": rows, "notes": _notes(ceilings)}


def _notes(ceilings: Ceilings) -> list[str]:
    notes = [f"Measured {text.moment(ceilings.measured)} in {ceilings.rounds} rounds."]
    if ceilings.disturbed:
        notes.append(
            f"In {ceilings.disturbed} of them other work ran on this machine, so that medians and "
            "intervals are too slow; the floors come from the fastest samples."
        )
    notes += [f"No figure for {name}: {reason}" for name, reason in ceilings.failures.items()]
    return notes
