"""What a terminal says of a run that was merged from parts."""

import shlex
from collections.abc import Iterator

from lstm_harness.model import text
from lstm_harness.store.run_folder import Run


def told(run: Run) -> Iterator[str]:
    """How many parts and machines it is made of, and what it lacks."""
    parts = text.count(len(run.manifest["parts"]), "part")
    of = f" of {text.count(len(run.machines), 'machine')}" if run.machines else ""
    yield f"{text.count(len(run.records), 'record')} in {parts}{of}"
    planned = run.manifest["plan"]["planned_records"]
    if len(run.records) < planned:
        go_on = shlex.join(["lstm-bench", "run", "--resume", str(run.folder)])
        yield f"not whole: {len(run.records):,} of {planned:,} records; go on with: {go_on}"
