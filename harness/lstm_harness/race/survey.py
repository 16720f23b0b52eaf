"""Ask a worker about this machine and its backends; from the answers, make the plan.

The main process imports no backend, no plugin and no torch: a plugin that hangs, crashes
or exits loses its place and does no other harm.
"""

from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from lstm_harness.model.case import Case
from lstm_harness.model.definitions import Definitions
from lstm_harness.model.errors import MeasuringFailed, UserError
from lstm_harness.model.plan import Plan, Skip, estimate_bytes, estimate_s, too_large
from lstm_harness.model.protocol import (
    AddPlugin,
    DescribeMachine,
    FindMissing,
    FindUnsupported,
    ListBackends,
    NameDevice,
    ReadState,
    Request,
)
from lstm_harness.model.spec import Spec
from lstm_harness.model.text import shorten
from lstm_harness.race.process import Failed, WorkerProcess, WorkerSettings
from lstm_harness.race.strangers import no_strangers
from lstm_kernels import Backend, Problem
from lstm_kernels.cells import BUILT_IN, CELLS, add_cells, from_data, to_data
from lstm_kernels.names import check_name
from lstm_kernels.registry import lacks_heads, lacks_w8

Reply = TypeVar("Reply")

LONGEST_NAME = 100


@dataclass(frozen=True)
class Survey:
    """A machine and the backends that are registered on it.

    `kernels` is the folder that the workers import `lstm_kernels` from. `plugin_of` maps a backend
    to the file it came from, `plugins` are all files that are used; `missing` maps a backend to
    why it cannot run on this device at all; `unavailable` maps a plugin or entry point to its
    import error. `cells` are the names of those that its kernels know or can learn. `elsewhere`
    says where python found modules that a plugin imports and its folder has, too.
    """

    device: str
    environment: dict[str, Any]
    identity: str
    free_bytes: int
    kernels_digest: str
    kernels: Path
    backends: Mapping[str, Backend]
    plugin_of: Mapping[str, str]
    plugins: tuple[str, ...]
    missing: Mapping[str, str]
    unavailable: Mapping[str, str]
    cells: frozenset[str]
    elsewhere: Mapping[str, str]


class SurveyWorker:
    """A worker that answers questions and never races; started again when a backend ends it.

    If nothing is timed (`checking`), backends that are interpreted can run here.
    """

    def __init__(
        self, spec: Spec, scratch: Path, checking: bool = False, kernels: Path | None = None
    ) -> None:
        self._spec = spec
        self._checking = checking
        self._settings = WorkerSettings("auto", scratch, spec.threads, kernels)
        self._cells: Definitions = ()
        self._elsewhere: dict[str, str] = {}
        self._strangers = ExitStack()
        self._strangers.enter_context(no_strangers())
        self._worker = WorkerProcess(self._settings, "survey")

    def __enter__(self) -> "SurveyWorker":
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()
        self._strangers.close()

    def survey(self) -> Survey:
        """Everything that planning needs to know.

        Raises:
            UserError: the device that was asked for is not there.
            MeasuringFailed: the worker, or a plugin in it, ends when it should answer.
        """
        try:
            return self._survey()
        except Failed as failure:
            raise MeasuringFailed(f"cannot survey this machine: {failure.reason}") from None

    def _survey(self) -> Survey:
        device = self._device()
        plugins, plugin_of, failed = self._load_plugins()
        registered = self.ask(ListBackends())
        failed |= self._learn(registered.cells)
        backends = {}
        for told in registered.backends:
            try:
                backend = _backend(told)
                backends[backend.name] = backend
            except (TypeError, ValueError) as error:
                failed[shorten(str(told.get("name")))] = str(error)
        missing = {name: self.ask(FindMissing(name, self._checking)).reason for name in backends}
        facts = self.ask(DescribeMachine(plugins))
        return Survey(
            device=device,
            environment={**facts.environment, "start": self.ask(ReadState()).state},
            identity=facts.identity,
            free_bytes=facts.free_bytes,
            kernels_digest=facts.kernels_digest,
            kernels=Path(facts.kernels),
            backends=backends,
            plugin_of=plugin_of,
            plugins=plugins,
            missing={name: reason for name, reason in missing.items() if reason},
            unavailable={**registered.unavailable, **failed},
            cells=BUILT_IN & set(registered.cell_names) | {each["name"] for each in self._cells},
            elsewhere=self._elsewhere,
        )

    def skips(self, backend: str, cases: tuple[Case, ...], survey: Survey) -> dict[Case, Skip]:
        """The cases that a backend does not run, each with its reason."""
        missing = survey.missing.get(backend)
        if missing:
            return dict.fromkeys(cases, Skip("unsupported", missing))
        record = survey.backends[backend]
        skips = {case: _general_skip(case, record, survey.cells) for case in cases}
        asked = tuple(case for case in cases if skips[case] is None)
        skips |= dict(zip(asked, self._unsupported(backend, asked, survey), strict=True))
        return {case: skip for case, skip in skips.items() if skip}

    def ask(self, request: Request[Reply]) -> Reply:
        """Ask the worker something else.

        Raises:
            Failed: as `WorkerProcess.ask`.
        """
        return self._worker.ask(request, self._spec.cell_timeout_s)

    def restart(self, survey: Survey) -> None:
        """Start the worker again if a backend ended it, with the same plugins and cells."""
        if self._worker.alive:
            return
        self._worker = WorkerProcess(self._settings, "survey")
        for request in replace(self._settings, cells=self._cells).first:
            self.ask(request)
        for path in survey.plugins:
            self.ask(AddPlugin(path))

    def _unsupported(
        self, backend: str, cases: tuple[Case, ...], survey: Survey
    ) -> list[Skip | None]:
        try:
            reasons = self._reasons(backend, {case: case.computed for case in cases})
            # What a backend refuses in autocast's dtype, a module has it compute in float32.
            wide = {c: c.problem for c, why in reasons.items() if why and c.computed != c.problem}
            reasons |= self._reasons(backend, wide) if wide else {}
        except Failed as failed:
            self.restart(survey)
            skip = Skip(failed.status, f"unsupported() failed: {failed.reason}")
            return [skip] * len(cases)
        return [Skip("unsupported", why) if why else None for why in reasons.values()]

    def _reasons(self, backend: str, problems: Mapping[Case, Problem]) -> dict[Case, str | None]:
        """Why a backend does not run the problem of each of these cases, or None."""
        reasons = self.ask(FindUnsupported(backend, tuple(problems.values()))).reasons
        return dict(zip(problems, reasons, strict=True))

    def _device(self) -> str:
        told = self.ask(NameDevice())
        if self._spec.device == "cuda" and not told.cuda:
            raise UserError(
                f"--device cuda: torch {told.torch} finds no CUDA device here; use --device cpu"
            )
        if self._spec.device not in ("auto", told.device):
            self._worker.close()
            self._settings = replace(self._settings, device=self._spec.device)
            self._worker = WorkerProcess(self._settings, "survey")
            return self._spec.device
        return told.device

    def _learn(self, told: Definitions) -> dict[str, str]:
        """Make known the cells of plugins and entry points, and return what is wrong with others.

        They come from a process that imports foreign files.
        """
        failed: dict[str, str] = {}
        for each in told:
            try:
                cell = from_data(each)
            except ValueError as error:
                failed[shorten(str(each.get("name")))] = str(error)
                continue
            try:
                add_cells([cell], " or ".join(self._spec.plugins) or "an installed package")
            except ValueError as error:
                raise UserError(str(error)) from None
            self._cells = (*self._cells, to_data(cell))
        return failed

    def _load_plugins(self) -> tuple[tuple[str, ...], dict[str, str], dict[str, str]]:
        """The files that are used, the file of each backend, and what is wrong with other files."""
        loaded_files: dict[str, None] = {}
        plugin_of: dict[str, str] = {}
        failed: dict[str, str] = {}
        for path in self._spec.plugins:
            refuse_no_file(path)
            try:
                loaded = self.ask(AddPlugin(path))
            except Failed as failure:
                if failure.status == "error":
                    raise UserError(f"--plugin {path}: {failure.reason}") from None
                failed[path] = failure.reason
                self._worker = WorkerProcess(self._settings, "survey")
                for earlier in loaded_files:
                    self.ask(AddPlugin(earlier))
                continue
            if loaded.error:
                failed[path] = loaded.error
            else:
                loaded_files[path] = None
            plugin_of |= dict.fromkeys(loaded.names, path)
            self._elsewhere |= loaded.elsewhere
        return tuple(sorted(loaded_files)), plugin_of, failed


def refuse_no_file(plugin: str) -> None:
    """Refuse a plugin that is not there.

    Raises:
        UserError: it is not.
    """
    if not Path(plugin).is_file():
        there = "it is a folder" if Path(plugin).is_dir() else "no such file"
        raise UserError(f"--plugin {plugin}: {there}; give the path of a Python file")


def refuse_elsewhere(survey: Survey, whose: str) -> None:
    """Refuse to measure a copy of a plugin with modules that are not from that copy's folder.

    Raises:
        MeasuringFailed: python found one elsewhere.
    """
    for name, place in survey.elsewhere.items():
        raise MeasuringFailed(
            f"python imports {name} from {place}, not from the folder of the plugin of {whose}; "
            "what puts that folder first on its path?"
        )


def make_plan(spec: Spec, survey: Survey, asked: SurveyWorker) -> Plan:
    """Every (backend, case), each skip with its reason, an estimate of time and memory.

    Raises:
        UserError: an unknown backend or cell, no backend to run, or no memory for any case.
    """
    refuse_unknown_cells(spec.cells, survey)
    cases = spec.cases(survey.device)
    large = too_large(cases, survey.device, survey.free_bytes)
    fitting = tuple(case for case in cases if case.problem not in large)
    backends, absent = _contestants(spec, survey)
    skips = {(b, c): large[c.problem] for b in backends for c in cases if c.problem in large}
    skips |= {
        (backend, case): skip
        for backend in backends
        for case, skip in asked.skips(backend, fitting, survey).items()
    }
    return Plan(
        backends=backends,
        cases=cases,
        blocks=spec.blocks,
        device=survey.device,
        skips=skips,
        absent=absent,
        estimated_s=estimate_s(spec, len(backends), fitting),
        estimated_bytes=max(
            estimate_bytes(problem, survey.device)
            for problem in dict.fromkeys(case.problem for case in fitting)
        ),
    )


def _contestants(spec: Spec, survey: Survey) -> tuple[tuple[str, ...], dict[str, str]]:
    """The backends that race, and those that do not: named ones, or all that can run here."""
    absent = {source: f"cannot be imported: {e}" for source, e in survey.unavailable.items()}
    for name in spec.backends:
        refuse_unknown(name, survey)
    if spec.backends:
        return spec.backends, absent
    raced = [name for name, backend in survey.backends.items() if backend.raced]
    here = tuple(name for name in raced if name not in survey.missing)
    return here, {name: survey.missing[name] for name in raced if name not in here} | absent


def refuse_unknown_cells(cells: Iterable[str], survey: Survey) -> None:
    """Refuse unknown cells.

    Raises:
        UserError: one of them is unknown.
    """
    for cell in cells:
        _check_name("cell", cell, CELLS, survey)


def _check_name(what: str, name: str, known: Iterable[str], survey: Survey) -> None:
    """Refuse an unknown name; it may belong to a file that failed."""
    try:
        check_name(what, name, known)
    except ValueError as error:
        # First what is broken: where there is such a file, the name is most often of it.
        broken = [f"{source} failed: {why}" for source, why in survey.unavailable.items()]
        raise UserError("; ".join([*broken, str(error)])) from None


def refuse_unknown(name: str, survey: Survey) -> None:
    """Refuse an unknown backend, or one that is never raced.

    Raises:
        UserError: with the names that are known.
    """
    _check_name("backend", name, survey.backends, survey)
    if not survey.backends[name].raced:
        raise UserError(f"backend {name!r} is the oracle and is never raced; leave it out")


def _general_skip(case: Case, backend: Backend, cells: Collection[str]) -> Skip | None:
    """Why no backend of this kind, with these cells, can run a case, without asking it."""
    if case.problem.cell not in cells:
        return Skip("unsupported", f"the kernels of this revision have no cell {case.problem.cell}")
    # Kernels from before there were heads treat them as one; their records do not mention any.
    if reason := lacks_heads(backend, case.problem) or lacks_w8(backend, case.problem):
        return Skip("unsupported", reason)
    if case.pass_name not in backend.passes:
        passes = ", ".join(backend.passes)
        return Skip("unsupported", f"{backend.name} does {passes} only, not {case.pass_name}")
    if case.pass_name == "forward" and "backward" not in backend.passes:
        reason = "pass forward saves values for a backward, and only a backward can check them"
        return Skip("unsupported", f"{backend.name} has no backward: {reason}")
    if case.call.dropout and backend.own_masks:
        reason = "it draws the masks of dropout in a library, and nobody can draw them again"
        return Skip("unsupported", f"{reason} to check them")
    if case.launch == "eager":
        return None
    if case.device == "cpu":
        return Skip("unsupported", "CUDA graphs need a CUDA device, and this is a CPU")
    if case.launch not in backend.launches:
        return Skip("unsupported", f"{backend.name} cannot be captured in a CUDA graph")
    if case.problem.lengths != "full":
        return Skip("unsupported", "ragged lengths are read on the host, outside any CUDA graph")
    return None


def _backend(told: Mapping[str, Any]) -> Backend:
    """A worker's record of a backend; its kernels may be of another revision than ours."""
    known = {field.name: told[field.name] for field in fields(Backend) if field.name in told}
    lists = {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
    backend = Backend(**{**known, **lists})
    if not backend.name.isprintable() or not 0 < len(backend.name) <= LONGEST_NAME:
        raise ValueError(f"its name is wrong: expected 1 to {LONGEST_NAME} printable characters")
    return backend
