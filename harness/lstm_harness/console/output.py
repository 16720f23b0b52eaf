"""The terminal itself: results to stdout, progress and warnings to stderr."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lstm_harness.console import tables
from lstm_harness.model import text
from lstm_harness.store.run_folder import Run

out = Console()
err = Console(stderr=True)


def as_json(document: Any) -> None:
    """One JSON document on stdout and nothing else."""
    print(json.dumps(document, indent=1, allow_nan=False))  # noqa: T201 - the result itself


def path(place: Path | str) -> None:
    """A path or an address alone on a line, for scripts to take."""
    print(place, flush=True)  # noqa: T201 - the result itself


def line(said: str, style: str = "") -> None:
    """One line of a result on stdout, whatever is in it; on a terminal it wraps between words."""
    out.print(Text(said, style=style), soft_wrap=not out.is_terminal)


def warning(said: str) -> None:
    """One line on stderr."""
    err.print(Text(said), soft_wrap=True)


def failures(outcomes: Iterable[tuple[str, str, str]], noun: str = "record") -> None:
    """Failed cells on stderr, one line a backend, status and reason, with how many cells."""
    for said in told_failures(outcomes, noun):
        warning(said)


def told_failures(outcomes: Iterable[tuple[str, str, str]], noun: str = "record") -> Iterator[str]:
    """The lines of `failures`."""
    for (backend, status, reason), count in Counter(outcomes).items():
        yield f"{backend}: {status}, {text.count(count, noun)}: {reason}"


def damaged(run: Run) -> None:
    """Say that records are not as they were written, on stderr."""
    for said in told_damage(run):
        warning(said)


def told_damage(run: Run) -> Iterator[str]:
    """The lines of `damaged`."""
    if run.torn:
        dropped = f"{run.folder}: the last line of records.jsonl is torn and was left out"
        yield f"{dropped}; lstm-bench run --resume measures it again"
    if run.edited:
        yield f"{run.folder}: records.jsonl is not what the run wrote: its SHA-256 is another"


def duration(time_ns: float) -> str:
    """A time as a table has it: in seconds, milliseconds or microseconds."""
    return text.duration(time_ns, zeros=False, least="µs")


def empty_table(*columns: str) -> Table:
    """An empty one in the house's style, its columns named."""
    empty = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        empty.add_column(column, overflow="fold")
    return empty


def print_table(table: Table) -> None:
    """A table on stdout: as wide as the terminal at most; where there is none, a line a row."""
    tables.show(table, out)
