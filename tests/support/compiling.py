"""Processes that compile kernels, for tests whose own process interprets them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from lstm_kernels import registry

ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """This process's environment, without what has kernels interpreted."""
    interpreters = {backend.interpreter for backend in registry.BUILT_IN}
    clean = {name: value for name, value in os.environ.items() if name not in interpreters}
    roots = (str(ROOT / part) for part in ("kernels", "harness", "tests/support"))
    return clean | {"PYTHONPATH": os.pathsep.join(roots)}


def run(*arguments: str) -> Any:
    """The JSON that a Python process prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def inspected(backend: str, *axes: str) -> list[dict[str, Any]]:
    """The rows of `lstm-bench inspect`, every kernel compiled."""
    rows = run("-m", "lstm_harness", "inspect", backend, "--json", *axes)
    assert isinstance(rows, list)
    assert all(row["status"] == "ok" for row in rows), rows
    return rows
