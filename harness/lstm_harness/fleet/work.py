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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lstm_kernels
from lstm_harness.fleet.process import HANDED, ORDER, PATIENCE_S
from lstm_harness.fleet.task import manifests_in
from lstm_harness.model.errors import Exit, UserError
from lstm_harness.model.part import Part
from lstm_harness.model.reading import content_of
from lstm_harness.model.revision import Revision
from lstm_harness.model.sources import sources_digest
from lstm_harness.model.spec import Spec
from lstm_harness.model.strict_json import parsed
from lstm_harness.model.text import printable
from lstm_harness.model.typed import built
from lstm_harness.race import pairs, runs
from lstm_harness.race.runs import Watch
from lstm_harness.race.scratch import scratch_folder
from lstm_harness.store import run_folder
from lstm_harness.store.files import replace_whole, unfinished

HANDED_OVER = (run_folder.MANIFEST, run_folder.RECORDS)
_WATCH = Watch(waiting=lambda who: None)


def main(folder: Path) -> int:
    """Carry out the task of a folder; returns the exit code."""
    _end_with_the_other_side()
    try:
        order = parsed(content_of(folder / ORDER))
        with scratch_folder() as scratch:
            _hand_over(carry_out(order, scratch), folder)
    except KeyboardInterrupt:
        return _fail("interrupted", Exit.INTERRUPTED)
    except UserError as error:
        return _fail(str(error), error.exit_code)
    return Exit.DONE


def carry_out(order: Mapping[str, Any], scratch: Path) -> dict[str, Path]:
    """Make the run of a part; without a part, only the manifest of the plan.

    Returns:
        the folder of the run, by the name of its side, which is empty where there is one alone.
    Raises:
        UserError: this machine may not do it; `MeasuringFailed` where it could not.
    """
    if "pair" in order:
        return _of_pair(order, scratch)
    run = scratch / order["id"]
    if "part" in order:
        runs.run_part(manifests_in(order)[0], _part(order), run, _WATCH)
    else:
        spec = Spec.from_dict(order["spec"])
        survey, plan = runs.make(spec)
        run_folder.create(run)
        run_folder.write_manifest(run, runs.manifest_of(run, spec, plan, survey, order["command"]))
    return {"": run}


def _of_pair(order: Mapping[str, Any], scratch: Path) -> dict[str, Path]:
    """The same for two revisions that are compared."""
    pair, out = order["pair"], scratch / "runs"
    roots = [Path(root) for root in pair["roots"]]
    _refuse_other_sources(roots, pair["installed"])
    if "part" in order:
        made = {name: out / name / order["id"] for name in pairs.NAMES}
        folders = list(made.values())
        pairs.measure_part(manifests_in(order), _part(order), roots, folders, scratch, _WATCH)
        return made
    spec = Spec.from_dict(order["spec"])
    revisions = [
        Revision(**facts, root=root) for facts, root in zip(pair["revisions"], roots, strict=True)
    ]
    sides = pairs.planned(spec, revisions, scratch)
    manifests = pairs.manifests_of(spec, sides, out, order["command"])
    made = {name: out / name for name in pairs.NAMES}
    for run, manifest in zip(made.values(), manifests, strict=True):
        run_folder.create(run)
        run_folder.write_manifest(run, manifest)
    return made


def _refuse_other_sources(roots: Sequence[Path], installed: str) -> None:
    """Refuse to compare where the kernels are not, or with another oracle than elsewhere.

    Raises:
        UserError: this node may not measure.
    """
    for root in roots:
        if not (root / "lstm_kernels" / "__init__.py").is_file():
            raise UserError(
                f"no kernels in {root} on this node; ab over a fleet needs an --out on a file "
                "system that all nodes share"
            )
    if sources_digest(Path(lstm_kernels.__path__[0]).parent, ()) != installed:
        raise UserError(
            "the kernels that are installed on this node, which make the right answers, are not "
            "the coordinator's; install the same lstm-bench"
        )


def _part(order: Mapping[str, Any]) -> Part:
    part: Part = built(order["part"], Part, "part")
    return part


def _hand_over(made: Mapping[str, Path], folder: Path) -> None:
    fresh = unfinished(folder / HANDED)
    fresh.mkdir()
    for side, run in made.items():
        (fresh / side).mkdir(exist_ok=True)
        for name in HANDED_OVER:
            if (run / name).exists():
                replace_whole(fresh / side / name, (run / name).read_bytes())
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
