"""The process of a task, on the device: `python -m lstm_harness.fleet.work FOLDER`.

It reads what to do in FOLDER/order.json. At the end the folder FOLDER/handed appears, whole. On a
failure it prints one line and ends with the exit code of the same failure of `run`. It ends when
its standard input does, which the process that started it holds open.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lstm_harness.fleet.process import HANDED, ORDER, PATIENCE_S
from lstm_harness.model.errors import Exit, UserError
from lstm_harness.model.part import Part
from lstm_harness.model.reading import content_of
from lstm_harness.model.spec import Spec
from lstm_harness.model.strict_json import parsed
from lstm_harness.model.text import printable
from lstm_harness.model.typed import built
from lstm_harness.race import runs
from lstm_harness.race.runs import Watch
from lstm_harness.race.scratch import scratch_folder
from lstm_harness.store import run_folder
from lstm_harness.store.files import replace_whole, unfinished

HANDED_OVER = (run_folder.MANIFEST, run_folder.RECORDS)


def main(folder: Path) -> int:
    """Carry out the task of a folder; returns the exit code."""
    _end_with_the_other_side()
    try:
        order = parsed(content_of(folder / ORDER))
        with scratch_folder() as scratch:
            run = scratch / order["id"]
            carry_out(order, run)
            _hand_over(run, folder)
    except KeyboardInterrupt:
        return _fail("interrupted", Exit.INTERRUPTED)
    except UserError as error:
        return _fail(str(error), error.exit_code)
    return Exit.DONE


def carry_out(order: Mapping[str, Any], run: Path) -> None:
    """Leave the run of a part in a folder; without a part, only the manifest of the plan.

    Raises:
        UserError: this machine may not do it; `MeasuringFailed` where it could not.
    """
    if "part" not in order:
        spec = Spec.from_dict(order["spec"])
        survey, plan = runs.make(spec)
        run_folder.create(run)
        run_folder.write_manifest(run, runs.manifest_of(run, spec, plan, survey, order["command"]))
        return
    part: Part = built(order["part"], Part, "part")
    runs.run_part(order["manifest"], part, run, Watch(waiting=lambda who: None))


def _hand_over(run: Path, folder: Path) -> None:
    fresh = unfinished(folder / HANDED)
    fresh.mkdir()
    for name in HANDED_OVER:
        if (run / name).exists():
            replace_whole(fresh / name, (run / name).read_bytes())
    fresh.rename(folder / HANDED)


def _end_with_the_other_side() -> None:
    """End in order when standard input ends; if that takes too long, at once."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PATIENCE_S / 2)  # so long its workers may take to end
        os._exit(Exit.INTERRUPTED)

    threading.Thread(target=wait, daemon=True).start()


def _fail(said: str, code: int) -> int:
    print(printable(" ".join(said.split())), file=sys.stderr)  # noqa: T201 - for the coordinator
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
