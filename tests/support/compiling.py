"""Processes that compile kernels, for tests whose own process interprets them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from lstm_kernels import registry

ROOT = Path(__file__).parents[2]
# Command lines of lstm-bench, as a JSON list; prints the list of what they print.
ONE_AFTER_ANOTHER = """
import io, json, sys
from contextlib import redirect_stdout
from lstm_harness.__main__ import run
answers = []
for command in json.loads(sys.argv[1]):
    with redirect_stdout(io.StringIO()) as printed:
        code = run(command)
    assert code == 0, (command, code, printed.getvalue())
    answers.append(json.loads(printed.getvalue()))
json.dump(answers, sys.stdout)
"""


def environment() -> dict[str, str]:
    """This process's environment, without what has kernels interpreted.

    Where LSTM_BENCH_TRITON names a folder, such as a wheel's that was unpacked, Triton is the one
    there.
    """
    interpreters = {backend.interpreter for backend in registry.BUILT_IN}
    clean = {name: value for name, value in os.environ.items() if name not in interpreters}
    roots = [str(ROOT / part) for part in ("kernels", "harness", "tests/support")]
    roots += filter(None, [os.environ.get("LSTM_BENCH_TRITON")])
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


def inspected(backend: str, *asked: str) -> list[list[dict[str, Any]]]:
    """The rows of `lstm-bench inspect BACKEND AXES` for each of the axes asked for.

    Every kernel compiles, in one process for all: it imports torch and the compilers once.
    """
    commands = [["inspect", backend, "--json", *axes.split()] for axes in asked]
    answers: list[list[dict[str, Any]]] = run("-c", ONE_AFTER_ANOTHER, json.dumps(commands))
    assert len(answers) == len(asked)
    for axes, rows in zip(asked, answers, strict=True):
        assert rows, axes
        assert all(row["status"] == "ok" for row in rows), (axes, rows)
    return answers
