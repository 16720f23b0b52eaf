"""`lstm-bench tune`: ask a backend for its candidates, search with workers, store the results.

The file is written after every key, in one step; a second call continues with the missing keys.
"""

import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from lstm_harness.model.axes import PLAIN_CALL
from lstm_harness.model.case import Case
from lstm_harness.model.definitions import definitions_of
from lstm_harness.model.errors import Exit, Interrupted, MeasuringFailed, UserError
from lstm_harness.model.plan import Plan, PlannedCell
from lstm_harness.model.protocol import (
    DescribeTuning,
    FindHooksLacking,
    ListCandidates,
    Request,
    Trial,
    TuningHeader,
)
from lstm_harness.model.spec import Spec
from lstm_harness.race.lock import device_lock
from lstm_harness.race.oracle import Oracle
from lstm_harness.race.process import WorkerSettings
from lstm_harness.race.runs import side_of
from lstm_harness.race.scheduler import Scheduler
from lstm_harness.race.scratch import scratch_folder
from lstm_harness.race.survey import Survey, SurveyWorker, make_plan
from lstm_harness.tune.hooks import Needed, asked, refuse_lacking
from lstm_harness.tune.precompile import HOOK, Ahead, arch_of
from lstm_harness.tune.search import (
    DEFAULT_BUDGET_S,
    Choice,
    Finding,
    Interval,
    Measured,
    Stopwatch,
    TuningKey,
    in_order,
    search,
)
from lstm_kernels import tuning as files

PASSES = ("forward", "backward")
NEEDED = Needed(
    files.HOOKS, "be tuned", "has no launch parameters to tune", "lstm_kernels/tuning.py"
)

Reply = TypeVar("Reply")

Tell = Callable[[int, int, str], None]
Document = dict[str, Any]


def tune(name: str, spec: Spec, out: Path | None, again: bool, tell: Tell) -> Document:
    """Tune a backend on a device, and return what was found; see tune.schema.json.

    Args:
        out: the file, instead of the backend's default.
        again: tune the keys that the file has already, too.
        tell: called with how many keys are done, how many there are, and the current activity.
    Raises:
        UserError: nothing can be tuned; `Interrupted` with what to type.
    """
    spec = _as_passes(spec, name)
    with (
        scratch_folder() as scratch,
        SurveyWorker(spec, scratch) as worker,
    ):
        survey = worker.survey()
        plan = make_plan(spec, survey, worker)
        refuse_lacking(name, NEEDED, survey, worker)
        keys = _keys(name, plan, worker)
        kept = _Kept.open(out, _asked(name, worker, "tuned", DescribeTuning(name)), again)
        with device_lock(survey.identity), ExitStack() as stack:
            cells = definitions_of(plan.cases)
            settings = WorkerSettings(survey.device, scratch, spec.threads, cells=cells)
            oracle = Oracle(settings, spec.seed)
            stack.callback(oracle.close)
            scheduler = Scheduler([side_of(plan, settings, survey)], spec, oracle)
            stack.callback(scheduler.close)
            watch = Stopwatch(spec.time_budget_s or DEFAULT_BUDGET_S)
            missing = [key for key in keys if key.name not in kept.entries]
            ahead = _compile_ahead(name, missing, survey, settings, worker, kept)
            if ahead:
                stack.callback(ahead.close)
            with _interruptible(kept):
                findings = _search(keys, _Workers(scheduler, name), watch, kept, tell)
    return _document(name, survey.device, keys, findings, kept, watch, _skipped(plan))


def exit_code(document: Document) -> Exit:
    """How the command ends: a wrong own choice outranks having found nothing."""
    statuses = {row["status"] for row in document["keys"]}
    if "incorrect" in statuses:
        return Exit.INCORRECT
    return Exit.DONE if statuses & {"tuned", "kept", "known"} else Exit.MEASURING_FAILED


def _as_passes(spec: Spec, name: str) -> Spec:
    """The same problems, forward and backward, once each, for one backend."""
    only = {"pass": PASSES, "launch": ("eager",), "cache": ("warm",), **PLAIN_CALL}
    grids = tuple({**grid, **only} for grid in spec.grids)
    return replace(spec, grids=grids, backends=(name,), blocks=1)


def _asked(name: str, worker: SurveyWorker, what: str, request: Request[Reply]) -> Reply:
    return asked(name, NEEDED, worker, what, request)


def _keys(name: str, plan: Plan, worker: SurveyWorker) -> list[TuningKey]:
    """Every key once, as the backend forms them, the most useful first."""
    cases = tuple(case for case in plan.cases if (name, case) not in plan.skips)
    listed = _asked(name, worker, "candidates", ListCandidates(name, cases)).cases
    keys: dict[str, TuningKey] = {}
    for case, each in zip(cases, listed, strict=True):
        if not each.candidates:
            raise MeasuringFailed(
                f"{name} has no candidates for {case.label()}; expected its own choice at least"
            )
        keys.setdefault(each.key, TuningKey(each.key, case, tuple(map(dict, each.candidates))))
    return in_order(list(keys.values()))


def _compile_ahead(
    name: str,
    keys: list[TuningKey],
    survey: Survey,
    settings: WorkerSettings,
    worker: SurveyWorker,
    kept: "_Kept",
) -> Ahead | None:
    """Workers that compile while a GPU measures; on a CPU they would disturb it."""
    arch = arch_of(kept.header["device"]["capability"])
    if survey.device == "cpu" or arch is None:
        return None
    if _asked(name, worker, "lacks", FindHooksLacking(name, (HOOK,))).names:
        return None
    return Ahead(settings, name, survey.plugin_of.get(name), arch, keys)


def _search(
    keys: list[TuningKey], device: "_Workers", watch: Stopwatch, kept: "_Kept", tell: Tell
) -> dict[str, Finding]:
    """The results for the keys that the file does not have, each stored when found."""
    missing = [key for key in keys if key.name not in kept.entries]
    done = len(keys) - len(missing)
    findings: dict[str, Finding] = {}

    def say(key: TuningKey, doing: str) -> None:
        left = f"{max(0.0, watch.left_s):.0f} s left"
        tell(done + len(findings), len(keys), f"{key.name}: {doing}; {left}")

    for finding in search(missing, device, watch, say):
        findings[finding.key.name] = finding
        kept.add(finding, watch)
    return findings


@dataclass
class _Workers:
    """Measures choices as a run measures cells: in workers, verified before and after."""

    scheduler: Scheduler
    backend: str

    def measure(self, key: TuningKey, choice: Choice, share_s: float) -> Measured:
        """Measure a choice; see `tuning.Device`."""
        # Memory and energy are measured in block 0 alone.
        cell = PlannedCell(0, 1, self.backend, key.case, None)
        outcome = self.scheduler.attempt(cell, share_s, Trial(key.name, choice))
        record = outcome.measured
        if record is None:
            return Measured(outcome.status, outcome.reason)
        return Measured("ok", "", median(record.samples_ns), record.compile_ms)

    def renew(self, ahead: int) -> None:
        """Go on in a fresh process; on a GPU several start together, while nothing is timed."""
        on_cpu = self.scheduler.sides[0].settings.device == "cpu"
        self.scheduler.renew(self.backend, ahead=1 if on_cpu else ahead)


@dataclass
class _Kept:
    """The file being written: its earlier entries, if they are valid here, and new results."""

    path: Path
    header: dict[str, Any]
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    tuning_s: float = 0.0
    compile_s: float = 0.0
    replaced: str = ""

    @classmethod
    def open(cls, out: Path | None, told: TuningHeader, again: bool) -> "_Kept":
        """Continue a file that is valid here; one that is not is replaced, with a note.

        Raises:
            UserError: there is no place for it, or --out is another kind of file.
        """
        folder = out.parent if out else files.user_folder()
        if folder is None:
            raise UserError("there is no home folder to store the parameters in; give --out FILE")
        path = out or folder / told.name
        kept = cls(path, dict(told.header))
        _refuse_unwritable(path)
        try:
            before = files.read(path, kept.header)
        except FileNotFoundError:
            return kept
        except files.Refused as reason:
            if out and not reason.stale:
                raise UserError(f"--out {out} {reason}: give another --out") from None
            kept.replaced = f"{path} {reason}"
            return kept
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}; give another --out") from None
        if again:
            return kept
        kept.entries = before.entries
        kept.tuning_s, kept.compile_s = before.header["tuning_s"], before.header["compile_s"]
        return kept

    def add(self, finding: Finding, watch: Stopwatch) -> None:
        """Store the result for a key, and write the file."""
        if finding.is_result:
            self.entries[finding.key.name] = _entry(finding)
        if self.entries:
            files.write(self.path, self._document(watch))

    def _document(self, watch: Stopwatch) -> Document:
        return {
            **self.header,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "tuning_s": round(self.tuning_s + watch.spent_s, 1),
            "compile_s": round(self.compile_s + watch.compile_s, 1),
            "entries": self.entries,
        }


def _refuse_unwritable(path: Path) -> None:
    """Refuse, before anything is measured, a path that cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; give another --out") from None


def _entry(finding: Finding) -> dict[str, Any]:
    """A key's line in the file; times in µs with the ends of their intervals."""
    problem = finding.key.case.problem
    return {
        "choice": finding.choice,
        "own_us": _rounded(finding.own_us),
        "tuned_us": _rounded(finding.tuned_us),
        "ratio": _rounded(finding.ratio),
        "seq_len": problem.seq_len,
        "batch": problem.batch,
        "tried": finding.tried,
        "wrong": sum(failure.status == "incorrect" for failure in finding.failures),
        "failed": sum(failure.status != "incorrect" for failure in finding.failures),
        "tuning_s": round(finding.tuning_s, 1),
        "compile_s": round(finding.compile_s, 1),
    }


def _rounded(interval: Interval | None) -> list[float | None] | None:
    if interval is None:
        return None
    return [None if each is None else float(f"{each:.5g}") for each in interval]


def _skipped(plan: Plan) -> dict[Case, str]:
    return {case: skip.reason for (_, case), skip in plan.skips.items()}


def _document(
    name: str,
    device: str,
    keys: list[TuningKey],
    findings: Mapping[str, Finding],
    kept: _Kept,
    watch: Stopwatch,
    skipped: Mapping[Case, str],
) -> Document:
    return {
        "backend": name,
        "device": device,
        "file": str(kept.path) if kept.entries else None,
        "replaced": kept.replaced,
        "tuning_s": round(watch.spent_s, 1),
        "compile_s": round(watch.compile_s, 1),
        "keys": [_row(key, findings.get(key.name), kept.entries.get(key.name)) for key in keys],
        "skipped": [
            {**case.to_dict(), "label": case.label(), "reason": reason}
            for case, reason in skipped.items()
        ],
    }


def _row(key: TuningKey, finding: Finding | None, entry: dict[str, Any] | None) -> dict[str, Any]:
    """The state of a key: found now, known before, or not reached."""
    status = "known" if entry else "not_reached"
    row: dict[str, Any] = {"key": key.name, "status": status, "reason": "", "own": key.own}
    row |= {"choice": None, "own_us": None, "tuned_us": None, "ratio": None}
    row |= {"tried": 0, "wrong": 0, "failed": 0, "failures": [], "tuning_s": 0, "compile_s": 0}
    if entry:
        row |= {field: entry[field] for field in row.keys() & entry.keys()}
    if finding:
        row |= {"status": finding.status, "reason": finding.reason, "tried": finding.tried}
        row |= {"failures": [asdict(failure) for failure in finding.failures]}
    return row


@contextmanager
def _interruptible(kept: _Kept) -> Iterator[None]:
    """On an interrupt, say that the results so far are stored, and how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        go_on = shlex.join(["lstm-bench", *(word for word in sys.argv[1:] if word != "--again")])
        where = f"{len(kept.entries)} keys are in {kept.path}" if kept.entries else "nothing stored"
        raise Interrupted(f"interrupted, {where}; go on with: {go_on}") from None
