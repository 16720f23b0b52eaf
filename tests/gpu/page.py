"""What a campaign has seen so far, on one page: its stages, what lacks, and its runs' times.

Written anew after every stage, so that it is there at whatever moment the machine is taken away.
"""

import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from campaign import Result

PAGE = "README.md"


def write_page(
    out: Path,
    title: str,
    facts: Iterable[str],
    results: Mapping[str, Result],
    runs: Iterable[Path],
) -> None:
    """Write the page into DIR.

    Args:
        facts: what to know of the machine and the command, a line each.
        results: what became of the stages so far.
        runs: the folders of the runs that there may be by now.
    """
    lines = [f"# {title}", "", *(f"- {fact}" for fact in facts), "", "## Stages", ""]
    lines += ["| stage | came to | seconds | said | command |", "|---|---|---|---|---|"]
    for stage, result in results.items():
        command = f"`python3 {_relative(' '.join(result.command), out)}`" if result.command else ""
        said = result.said.replace("|", "/").strip(" =")
        lines.append(f"| {stage} | {result.status} | {result.seconds:.0f} | {said} | {command} |")
    for run in runs:
        if (run / "records.jsonl").exists():
            lines += ["", f"## {run.name}", "", *_table(run)]
    lines += ["", "What was printed is in gpu.txt; records and manifest of a run in its folder."]
    _replace(out / PAGE, "\n".join(lines) + "\n")


def pack(out: Path, file: Path) -> None:
    """Put the whole folder in one compressed file."""
    fresh = file.with_name(f"{file.name}.new")
    with tarfile.open(fresh, "w:gz") as archive:
        archive.add(out, arcname=out.name)
    fresh.replace(file)


def _table(run: Path) -> list[str]:
    """A run's times, or why there are none yet."""
    import lstm_harness

    try:
        found = lstm_harness.load(run)
        rows = found.summary.to_dict("records")
        notes = found.notes
    except lstm_harness.UserError as error:
        return [str(error)]
    head = ["| case | backend | came to | ms | µs a step | blocks |", "|---|---|---|---|---|---|"]
    return [*head, *map(_row, rows), "", *(f"- {note}" for note in notes)]


def _row(row: dict[str, Any]) -> str:
    status, times = f"{row['status']}: {row['reason']}", ("", "")
    if row["status"] == "ok":
        status, times = "ok", (f"{row['median_ns'] / 1e6:.3f}", f"{row['step_us']:.2f}")
    cells = (row["label"], row["backend"], status, *times, str(row["blocks"]))
    return f"| {' | '.join(cells)} |"


def _relative(command: str, out: Path) -> str:
    return command.replace(str(out), "DIR")


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text)
    fresh.replace(path)
