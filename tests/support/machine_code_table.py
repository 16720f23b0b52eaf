"""The page docs/triton-machine-code.md: `lstm-bench inspect triton` as a table."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import triton

HEAD = """# The Triton kernels' machine code

This page is a reference: what each kernel of [`triton`](triton.md) compiles to.
`lstm-bench inspect` reads it from the cubins that Triton {version} makes, for one LSTM layer, B=16.
It needs no GPU, and **nothing here was measured on one**. `make kernel-page` makes the page.

`tests/kernels/backends/test_triton_machine_code.py` asserts what the columns promise: no stack, no
spill, weights loaded before the step loop (`own`, `held`), 16-bit products by matrix units, shared
memory within the device's.

- *registers*: a thread's.
- *barriers*, *loads* and *all* instructions: those in the step loop, once a warp and step. In
  `streamed`: once a chunk.

"""

COLUMNS = (
    *("arch", "dtype", "H", "pass", "regime", "programs", "tile, units, warps", "registers"),
    *("stack", "spill", "shared KB", "matrix", "weight loads in loop", "barriers", "loads", "all"),
)

INSPECT = ["-m", "lstm_harness", "inspect", "triton", "--arch", "sm_80,sm_90", "--json"]


def main() -> None:
    """Write the page to the path given."""
    done = subprocess.run([sys.executable, *INSPECT], stdout=subprocess.PIPE, check=True)
    Path(sys.argv[1]).write_text(page_of(json.loads(done.stdout)))


def page_of(rows: list[dict[str, Any]]) -> str:
    """The page; of each size a training forward and a backward of what it saved."""
    shown = [
        line_of(row)
        for row in rows
        if "gates_ptr" not in row["constants"] and not row["constants"].get("PREACTIVATED")
    ]
    head = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    return HEAD.format(version=triton.__version__) + "\n".join(head + shown) + "\n"


def line_of(row: dict[str, Any]) -> str:
    """One row of the table."""
    problem, parameters, loop = row["problem"], row["parameters"], row["instructions"]
    matrix = ", ".join(f"{n} {name}" for name, n in row["matrix_instructions"].items()) or "none"
    groups, tiles, directions = row["grid"]
    cells = [
        row["arch"],
        problem["dtype"],
        problem["hidden_size"],
        row["kernel"],
        row["regime"],
        groups * tiles * directions,
        f"{parameters['tile']}, {parameters['units']}, {parameters['warps']}",
        row["registers"],
        row["stack_bytes"],
        row["spill_bytes"],
        f"{row['shared_bytes'] / 1024:.0f}",
        matrix,
        f"{row['weight_loads_in_loop']} of {row['weight_loads']}",
        loop.get("BAR", 0),
        loop.get("LDG", 0) + loop.get("LDGSTS", 0),
        loop["total"],
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
