"""What `train --list` prints: what can be learnt, from what data, and when it is learnt."""

from dataclasses import asdict
from typing import Any

from rich.text import Text

from lstm_harness.console import output
from lstm_harness.model.workloads import WORKLOADS, Workload


def list_workloads() -> None:
    """What can be learnt, a block a workload."""
    table = output.empty_table("workload", "", "")
    for place, workload in enumerate(WORKLOADS.values()):
        if place:
            table.add_row()
        names = [workload.name, *[""] * len(facts(workload))]
        for name, (what, told) in zip(names, facts(workload), strict=False):
            table.add_row(Text(name), Text(what), Text(told))
    output.print_table(table)


def listed() -> list[dict[str, Any]]:
    """What `train --list --json` prints."""
    return [asdict(workload) for workload in WORKLOADS.values()]


def facts(workload: Workload) -> list[tuple[str, str]]:
    """What there is to know of a workload, each under its name."""
    packages = f" (PyPI: {', '.join(workload.packages)})" if workload.packages else ""
    return [
        ("learns", f"{workload.summary}: {workload.structure}"),
        ("data", workload.data),
        ("size", workload.size),
        ("source", workload.source + packages),
        ("licence", workload.licence),
        ("goal", str(workload.goal)),
        ("baseline", workload.baseline),
    ]
