"""What the user asked for: flags, a suite or a TOML file become one `Spec`."""

import itertools
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from importlib import resources
from math import prod
from pathlib import Path
from typing import Any

from lstm_harness.model.axes import AXES, NOTES
from lstm_harness.model.case import DEVICES, Call, Case
from lstm_harness.model.errors import UserError
from lstm_harness.model.reading import content_of
from lstm_harness.model.typed import known
from lstm_kernels import CELLS, Problem
from lstm_kernels.names import check_name
from lstm_kernels.registry import may_bring_cells

Grid = Mapping[str, tuple[Any, ...]]
Settings = Mapping[str, Any]

# A suite name with this ending is the name of a file.
TOML = ".toml"
MOST_CASES = 100_000
MOST_BLOCKS = 1000

# What a suite may set, and of which kind.
_WHOLE, _NUMBER, _NAME = (int, "a whole number"), (int | float, "a number"), (str, "a name")
_SETTINGS = {
    "device": _NAME,
    "threads": _WHOLE,
    "blocks": _WHOLE,
    "min_samples": _WHOLE,
    "rel_ci": _NUMBER,
    "cell_timeout_s": _NUMBER,
    "time_budget_s": _NUMBER,
}


@dataclass(frozen=True)
class Use:
    """How often a layer of a program calls a case; once where the suite does not say."""

    layer: str
    case: Case
    calls: int


@dataclass(frozen=True)
class Suite:
    """A named suite: its grids, the source of its shapes, and settings that flags override."""

    name: str
    title: str
    source: str
    grids: tuple[Grid, ...]
    settings: Settings


@dataclass(frozen=True)
class Spec:
    """Everything a run was asked for.

    `backends` empty means every one that can run here. `grids` are united; each is the product of
    its axes. `time_budget_s` bounds the whole run; None gives each cell half a second a block.
    """

    grids: tuple[Grid, ...]
    suite: str | None = None
    backends: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    device: str = "auto"
    blocks: int = 3
    min_samples: int = 10
    rel_ci: float = 0.02
    cell_timeout_s: float = 120.0
    time_budget_s: float | None = None
    threads: int | None = None
    seed: int = 0
    label: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells that its grids name, each once."""
        named = (grid.get("cell", AXES["cell"].default) for grid in self.grids)
        return tuple(dict.fromkeys(itertools.chain.from_iterable(named)))

    def cases(self, device: str) -> tuple[Case, ...]:
        """Every case once, in the order the grids give.

        Raises:
            UserError: an impossible combination, such as tf32 with float16, or too many cases.
        """
        return tuple(dict.fromkeys(use.case for use in self.uses(device)))

    def uses(self, device: str) -> tuple[Use, ...]:
        """Which layer calls which case how often, in the order the grids give.

        A case in several grids of one layer appears here once, with its calls added up.

        Raises:
            UserError: as `cases`; or calls that are not a whole number from 1 on.
        """
        count = sum(prod(map(len, _values(grid))) for grid in self.grids)
        if count > MOST_CASES:
            raise UserError(f"{count} cases; expected at most {MOST_CASES}: take fewer values")
        calls: dict[tuple[str, Case], int] = {}
        for grid in self.grids:
            noted = {name: read(grid[name][0]) for name, read in NOTES.items() if grid.get(name)}
            try:
                cases = [_case(point, device) for point in _points(grid)]
            except ValueError as error:
                raise UserError(str(error)) from None
            # Two points may be one case: an inference has no dropout.
            for case in dict.fromkeys(cases):
                key = noted.get("layer") or case.problem.label(), case
                calls[key] = calls.get(key, 0) + noted.get("calls", 1)
        return tuple(Use(layer, case, count) for (layer, case), count in calls.items())

    def to_dict(self) -> dict[str, Any]:
        """The spec as run.json stores it."""
        stored = {field.name: getattr(self, field.name) for field in fields(self)}
        grids = [{name: list(values) for name, values in grid.items()} for grid in self.grids]
        return stored | {
            "grids": grids,
            "backends": list(self.backends),
            "plugins": list(self.plugins),
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Spec":
        """The spec of a run.json.

        Raises:
            KeyError, TypeError, ValueError: it is not one; the message says which field.
        """
        spec = cls(**{"grids": stored["grids"]} | known(stored, cls, "spec"))
        for grid in spec.grids:
            for name, values in grid.items():
                if any(isinstance(value, dict | list) for value in values):
                    raise ValueError(
                        f"a grid's {name} holds {str(values)[:60]}; expected plain values"
                    )
        return spec


def asked(
    suite: str | Path | None,
    spec_file: Path | None,
    plugins: Iterable[str | Path],
    axes: Mapping[str, Any],
    settings: Settings,
) -> Spec:
    """The spec of a command line, or of a call; with no suite and no axis at all it is `quick`.

    Args:
        spec_file: a suite of one's own, instead of a named one.
        axes, settings: as for `build`.
    Raises:
        UserError: a value that cannot be, or two sources of shapes at once.
    """
    if suite and spec_file:
        raise UserError(f"suite {suite!r} and --spec {spec_file} both give shapes; leave one out")
    settings = {**settings, "plugins": tuple(str(Path(path).resolve()) for path in plugins)}
    if spec_file:
        return build(suite_from_file(spec_file), axes, settings)
    chosen = str(suite) if suite else (None if axes else "quick")
    if chosen and chosen.endswith(TOML):
        return build(suite_from_file(Path(chosen)), axes, settings)
    return build(named_suite(chosen) if chosen else None, axes, settings)


def names_in(text: str) -> tuple[str, ...]:
    """The names of `--backend`, each once.

    Raises:
        UserError: there is no name.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise UserError("--backend is empty; expected names, like naive,aten")
    return names


def build(suite: Suite | None, axes: Mapping[str, Any], settings: Settings) -> Spec:
    """Join a suite with the flags that override it; without a suite the flags and defaults stand.

    Args:
        axes: axis name to the text or the list given; axes that were not given are absent.
        settings: fields of `Spec` that were given.
    Raises:
        UserError: a value that cannot be.
    """
    defaults = {axis.name: axis.default for axis in AXES.values()}
    given = {name: AXES[name].values(text) for name, text in axes.items()}
    grids = suite.grids if suite else ({},)
    merged = {**(suite.settings if suite else {}), **settings}
    name = suite.name if suite else None
    spec = Spec(tuple({**defaults, **grid, **given} for grid in grids), suite=name)
    return _checked(replace(spec, **merged))


def suite_names() -> tuple[str, ...]:
    """The suites this package ships, in alphabetical order."""
    folder = resources.files("lstm_harness.model") / "suites"
    return tuple(
        sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name[-5:] == ".toml")
    )


def named_suite(name: str) -> Suite:
    """A suite this package ships.

    Raises:
        UserError: unknown, with the nearest known name.
    """
    try:
        check_name("suite", name, suite_names())
    except ValueError as error:
        raise UserError(str(error)) from None
    text = (resources.files("lstm_harness.model") / "suites" / f"{name}.toml").read_text()
    return _parse(name, text, where=f"{name}.toml")


def suite_from_file(path: Path) -> Suite:
    """A TOML file of the form the shipped suites have.

    Raises:
        UserError: unreadable, not TOML, or with a key that is not known.
    """
    try:
        return _parse(path.stem, content_of(path).decode(), where=str(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give a TOML file") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not text; give a TOML file") from None


def _parse(name: str, text: str, where: str) -> Suite:
    try:
        content = tomllib.loads(text)
    except (RecursionError, ValueError) as error:  # a number of 5,000 digits is not a TOML error
        raise UserError(f"{where} is not TOML: {error}") from None
    _refuse_unknown(content, ("title", "source", "grid", "run"), where)
    grids = content.get("grid", [])
    if not isinstance(grids, list) or not grids or not all(isinstance(g, dict) for g in grids):
        raise UserError(f"{where} has no [[grid]]; expected one or more, each with axes")
    return Suite(
        name,
        str(content.get("title", name)),
        str(content.get("source", "")),
        tuple(_parse_grid(grid, where) for grid in grids),
        _parse_settings(content.get("run", {}), f"{where} [run]"),
    )


def _parse_grid(grid: dict[str, Any], where: str) -> Grid:
    _refuse_unknown(grid, (*AXES, *NOTES), f"{where} [[grid]]")
    return {
        name: (NOTES[name](given),) if name in NOTES else AXES[name].values(given)
        for name, given in grid.items()
    }


def _parse_settings(table: Any, where: str) -> Settings:
    if not isinstance(table, dict):
        raise UserError(f"{where} is {table!r}; expected a table of settings")
    _refuse_unknown(table, _SETTINGS, where)
    for name, value in table.items():
        kinds, expected = _SETTINGS[name]
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise UserError(f"{where}: {name} = {value!r}: expected {expected}")
    return table


def _refuse_unknown(table: dict[str, Any], known: Any, where: str) -> None:
    for key in table:
        try:
            check_name("key", key, known)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None


def _points(grid: Grid) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*_values(grid)):
        yield dict(zip(AXES, values, strict=True))


def _values(grid: Grid) -> list[tuple[Any, ...]]:
    """A grid's values, axis by axis; a grid that an earlier version stored has no later axes."""
    return [grid.get(name, axis.default) for name, axis in AXES.items()]


def _case(point: dict[str, Any], device: str) -> Case:
    problem = Problem(
        cell=point["cell"],
        seq_len=point["seq-len"],
        batch=point["batch"],
        input_size=point["input"] or point["hidden"],
        hidden_size=point["hidden"],
        num_layers=point["layers"],
        bidirectional=point["bidirectional"],
        bias=point["bias"],
        proj_size=point["proj"],
        heads=point["heads"],
        dtype=point["dtype"],
        precision=point["precision"],
        lengths=point["lengths"],
    )
    if reason := problem.reason_against(point["pass"]):
        raise ValueError(reason)
    dropout = 0.0 if point["pass"] == "inference" else point["dropout"]
    call = Call(point["batch-first"], point["autocast"], dropout)
    return Case(problem, point["pass"], point["launch"], point["cache"], device, call)


def _checked(spec: Spec) -> Spec:
    _refuse_outside("blocks", spec.blocks, 1, MOST_BLOCKS)
    _refuse_outside("min-samples", spec.min_samples, 1, 100_000)
    _refuse_outside("rel-ci", spec.rel_ci, 1e-6, 1.0)
    _refuse_outside("cell-timeout", spec.cell_timeout_s, 0.1, 1e6)
    _refuse_outside("seed", spec.seed, 0, 2**63 - 1)
    if spec.time_budget_s is not None:
        _refuse_outside("time-budget", spec.time_budget_s, 0.1, 1e7)
    if spec.threads is not None:
        _refuse_outside("threads", spec.threads, 1, 4096)
    if spec.device not in ("auto", *DEVICES):
        raise UserError(f"unknown device {spec.device!r}; known: auto, cpu, cuda")
    _refuse_unknown_cells(spec)
    return spec


def _refuse_unknown_cells(spec: Spec) -> None:
    """Refuse an unknown cell unless a plugin may define it; plugins are loaded only later."""
    try:
        for cell in spec.cells:
            check_name("cell", cell, CELLS)
    except ValueError as error:
        if not spec.plugins and not may_bring_cells():
            raise UserError(str(error)) from None


def _refuse_outside(flag: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        shown = str(value)[:40]
        raise UserError(f"--{flag} {shown}: expected a number from {low:g} to {high:g}")
