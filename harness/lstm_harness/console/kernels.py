"""What `inspect` prints: a row a kernel and size, then who was refused, and why."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from lstm_harness.console import output
from lstm_kernels.problem import Problem


def kernels(rows: Sequence[Mapping[str, Any]]) -> None:
    """What each kernel is made of, a row a kernel and size; then who was refused, and why."""
    table = output.empty_table(
        *("problem", "arch", "kernel", "regs", "stack", "local", "spill", "shared", "matrix"),
        *("weight loads in loop", "blocks/SM", "occupancy"),
    )
    for row in rows:
        label = Text(Problem.from_dict(row["problem"]).label())
        kernel = " ".join(filter(None, (row["kernel"], row.get("regime"), _variant(row, rows))))
        facts = _kernel_cells(row) if row["status"] == "ok" else ()
        table.add_row(label, row["arch"], Text(kernel or row["status"]), *facts)
    output.print_table(table)
    for row in rows:
        if row["reason"]:
            where = f"{Problem.from_dict(row['problem']).label()} on {row['arch']}"
            output.line(f"{where}: {row['status']}: {row['reason']}")


def sources(by_cell: Mapping[str, str]) -> None:
    """The code of each cell, as it would stand in a file."""
    output.out.print(Text("\n\n".join(by_cell.values()).rstrip()), soft_wrap=True)


def _variant(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """What tells a kernel from the others of its name: one constant, or several that differ."""
    same = ("kernel", "arch", "problem")
    peers = [each for each in rows if all(each[name] == row[name] for name in same)]
    others = [each["constants"] for each in peers if each is not row and "constants" in each]
    own = row.get("constants", {})
    # A constant that another kernel lacks is a tensor there.
    differ = [n for n in own if any(n not in each or each[n] != own[n] for each in others)]
    enough = [n for n in differ if all(n not in each or each[n] != own[n] for each in others)]
    return " ".join(f"{name}={own[name]}" for name in enough[:1] or differ)


def _kernel_cells(row: Mapping[str, Any]) -> list[str]:
    amounts = ("registers", "stack_bytes", "local_bytes", "spill_bytes", "shared_bytes")
    matrix = ", ".join(f"{name} {count}" for name, count in row["matrix_instructions"].items())
    return [
        *(str(row[name]) for name in amounts),
        matrix or "none",
        f"{row['weight_loads_in_loop']} of {row['weight_loads']}",
        str(row["blocks_per_sm"]),
        f"{row['occupancy']:.0%}, {row['occupancy_limit']}",
    ]
