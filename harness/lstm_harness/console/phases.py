"""What `phases` prints: a table for each case, then who was refused, and why."""

from collections.abc import Mapping
from typing import Any

from lstm_harness.console import output
from lstm_harness.model import text


def phases(found: Mapping[str, Any]) -> None:
    """Each case's phases, what is left of the whole, and what noting costs."""
    threads = found["threads"]
    on = f" on {text.count(threads, 'thread')}" if threads else ""
    for row in found["cases"]:
        where = f"{found['backend']}, {row['label']}"
        if row["status"] != "ok":
            output.line(f"{where}: {row['status']}: {row['reason']}")
            continue
        output.line(f"{where}{on}:", style="bold")
        _table(row)
        output.line(
            f"Means of the middle half of {text.count(row['executions'], 'execution')}. As many "
            f"without notes took {text.duration(row['plain_ns'])}."
        )


def _table(row: Mapping[str, Any]) -> None:
    table = output.empty_table("phase", "time", "share")
    for each in row["phases"]:
        table.add_row(each["phase"], text.duration(each["ns"]), f"{each['share']:.1%}")
    other_ns, whole_ns = row["other_ns"], row["whole_ns"]
    table.add_row("other", text.duration(other_ns), f"{other_ns / whole_ns:.1%}")
    table.add_row("whole", text.duration(whole_ns), f"{1:.1%}")
    output.print_table(table)
