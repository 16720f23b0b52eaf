"""What `limits` prints: a device's ceilings, and the floors that they imply."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from lstm_harness.console import output
from lstm_harness.model.ceilings import Ceilings
from lstm_kernels.problem import Problem


def ceilings(measured: Ceilings) -> None:
    """What was measured of a device, a line a ceiling; then what has no figure, and why."""
    table = output.empty_table(
        "ceiling", "median", "95% interval", "fastest", "unit", "what was done"
    )
    for each in measured.ceilings:
        figures = each.shown(each.value), each.interval(), each.shown(each.best)
        table.add_row(Text(each.name), *figures, each.shown_unit, Text(each.detail))
    output.print_table(table)
    if measured.disturbed:
        output.warning(
            f"in {measured.disturbed} of {measured.rounds} rounds others used this machine: "
            "medians and intervals are too slow; measure again when it is quiet"
        )
    for name, reason in measured.failures.items():
        output.line(f"no figure for {name}: {reason}")


def floors(rows: Sequence[Mapping[str, Any]]) -> None:
    """The least time of each problem and pass, and what binds there."""
    table = output.empty_table("problem", "pass", "floor", "a step", "set by")
    for row in rows:
        label = Text(Problem.from_dict(row["problem"]).label())
        if row["floor_ns"] is None:
            table.add_row(label, row["pass"], "unknown")
            continue
        times = output.duration(row["floor_ns"]), output.duration(1e3 * row["step_us"])
        table.add_row(label, row["pass"], *times, row["term"])
    output.print_table(table)
