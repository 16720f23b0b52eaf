"""What a host does to a store, as a program of its own: `write` runs into it, or `read` it.

store_hosts.py write NAME URL    for each line on stdin: two runs, one under a name that another
                                 host wants, too; answers with the digests of what it published
store_hosts.py read URL          until stdin ends, reads all that is there; answers with how often,
                                 and with the digest of each run's records
"""

import json
import select
import sys
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from saved_runs import save_finished
from synthetic_runs import blocks, case

from lstm_harness.model.errors import UserError
from lstm_harness.store import remote, run_folder

# Between two looks of a reader.
PAUSE_S = 0.02


def write(name: str, url: str) -> None:
    """Publish runs; a name that is taken is given up for one of its own."""
    for number, _ in enumerate(sys.stdin):
        folder = save_finished(Path(f"{name}-{number}"), _records(name, number))
        wanted = f"{url}/race-{number}"
        took = _unless("is another run's", partial(remote.publish, folder, wanted))
        if not took:
            remote.publish(folder, f"{url}/{name}-{number}")
        _answer({"took": took, "digest": run_folder.read_manifest(folder)["records_sha256"]})


def _records(name: str, number: int) -> list:
    # Other times on each host, and in each run.
    first = 1_000_000 + 1000 * zlib.crc32(name.encode()) + number
    cases = [case(seq_len=length) for length in (16, 32, 64)]
    return [each for of in cases for each in blocks("naive", range(first, first + 3), of=of)]


def read(url: str) -> None:
    """Poll the store; a run of which a part is missing or wrong ends this with an error."""
    polls, digests, mirrors = 0, {}, []
    ended = False
    while not ended:
        # Once more after the end: whatever is there is read.
        ended = bool(select.select([sys.stdin], [], [], 0)[0])
        if _unless("holds no run", lambda: mirrors.append(remote.fetched(url))):
            for path in run_folder.RUN.below(mirrors[-1]):
                if path not in digests:
                    digests[path] = _read(mirrors[-1] / path)
            polls += 1
        time.sleep(PAUSE_S)
    _answer({"polls": polls, "digests": digests})


def _read(folder: Path) -> str:
    run = run_folder.load(folder)
    assert (run.edited, run.torn) == (False, False), folder
    assert len(run.records) == run.manifest["plan"]["planned_records"], folder
    return run.manifest["records_sha256"]


def _unless(said: str, action: Callable[[], None]) -> bool:
    """Whether an action is done; it may only be refused with this text."""
    try:
        action()
    except UserError as error:
        if said not in str(error):
            raise
        return False
    return True


def _answer(answer: dict) -> None:
    sys.stdout.write(f"{json.dumps(answer)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](*sys.argv[2:])
