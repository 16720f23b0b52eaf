"""`lstm-bench inspect`: what a backend's kernels consist of, size by size, without a GPU.

With `--source` it shows the code that a backend has for a cell, generated from its definition.

It works for a backend whose module has `launches_for(problem, arch)` (see
`lstm_kernels.gpu.launching`). The backend is imported into this process: only its choice
of what to launch runs.
"""

import os
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstm_harness.model.errors import UserError
from lstm_harness.model.spec import Spec
from lstm_kernels import CELLS, Problem, registry
from lstm_kernels.cells.code.emit import TORCH, source_of
from lstm_kernels.gpu.machine_code import ARCHITECTURES, architecture
from lstm_kernels.names import check_name

if TYPE_CHECKING:
    from lstm_kernels.gpu.launching import Inspectable

HOOK = "launches_for"

# The default axes: the sizes between which kernels change.
DEFAULT_AXES = {
    "axis_hidden": "64,128,256,512,768,1024,2048",
    "axis_dtype": "float16,bfloat16,float32",
    "axis_batch": "16",
    "axis_seq_len": "64",
}
Rows = list[dict[str, Any]]
Hook = Callable[[Problem, str], list["Inspectable"]]
Tell = Callable[[int, int, str], None]


def kernel_rows(backend: str, spec: Spec, archs: str, tell: Tell) -> Rows:
    """What every kernel of a backend consists of, for every problem on every architecture.

    Args:
        archs: names with commas between, like sm_80,sm_90.
        tell: called before each problem with how many are done, how many there are, and a label.
    Returns:
        a row a kernel, in the order of architectures, problems and launches. A `status` of "ok"
        comes with the facts; "unsupported" (the backend refuses) and "error" with a `reason`.
    Raises:
        UserError: nothing can be inspected.
    """
    for variable in ("TRITON_INTERPRET", "NUMBA_ENABLE_CUDASIM"):
        if os.environ.get(variable, "").lower() in ("1", "true", "on", "yes", "y", "t"):
            raise UserError(f"{variable} is set, so nothing is compiled; unset {variable}")
    names = _arch_names(archs)
    hook = _hook(backend, spec.plugins)
    problems = tuple(dict.fromkeys(case.computed for case in spec.cases("cuda")))
    known: dict[str, dict[str, Any]] = {}
    rows: Rows = []
    for number, (arch, problem) in enumerate((a, p) for a in names for p in problems):
        tell(number, len(names) * len(problems), f"{problem.label()} on {arch}")
        place = {"arch": arch, "problem": problem.to_dict()}
        reason = registry.unknown_kind(backend, problem)
        refused: Rows = [{"status": "unsupported", "reason": reason}] if reason else []
        found = refused or _problem(hook, problem, arch, known)
        rows += [{"kernel": None, **place} | row for row in found]
    return rows


def cell_sources(backend: str, spec: Spec) -> dict[str, str]:
    """The source that a backend has for each cell, by the cell's name.

    In PyTorch's dialect, or in that of the backend's module, if it has a `DIALECT`.

    Raises:
        UserError: there is no such source.
    """
    module = _module(backend, spec.plugins)
    if not registry.get(backend).any_cell:
        known = ", ".join(b.name for b in registry.registered().values() if b.any_cell)
        raise UserError(
            f"backend {backend!r} has no code generated from a cell's definition; "
            f"backends that have: {known}"
        )
    dialect = getattr(module, "DIALECT", TORCH)
    try:
        names = [check_name("cell", name, CELLS) for name in spec.cells]
    except ValueError as error:
        raise _unknown(error) from None
    for name in names:
        reason = registry.unknown_kind(backend, Problem(name, 1, 1, 1, 1))
        if reason is not None:
            raise UserError(f"backend {backend!r} does not run cell {name!r}: {reason}")
    return {name: source_of(CELLS[name], dialect) for name in names}


def _arch_names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise UserError(f"--arch is empty; expected names: {','.join(ARCHITECTURES)}")
    try:
        return tuple(architecture(name).name for name in names)
    except ValueError as error:
        raise UserError(f"--arch: {error}") from None


def _hook(backend: str, plugins: tuple[str, ...]) -> Hook:
    module = _module(backend, plugins)
    if not hasattr(module, HOOK):
        raise UserError(
            f"backend {backend!r} has no kernels of its own to inspect: its module has no "
            f"{HOOK}(problem, arch)"
        )
    return getattr(module, HOOK)  # type: ignore[no-any-return] # a stranger's module has no types


def _module(backend: str, plugins: tuple[str, ...]) -> Any:
    """The module of a backend, imported with the plugins."""
    for path in plugins:
        _add_plugin(path)
    try:
        missing = registry.missing(backend)
    except ValueError as error:
        raise _unknown(error) from None
    if missing:
        how = registry.how_to_get(missing)
        raise UserError(f"backend {backend!r} needs {', '.join(missing)}: {how}")
    try:
        return registry.load(backend)
    except Exception as error:  # noqa: BLE001 - a stranger's module may raise anything
        cause = f"{type(error).__name__}: {error}"
        raise UserError(f"backend {backend!r} cannot be imported: {cause}") from None


def _unknown(error: ValueError) -> UserError:
    """The error for an unknown name; it may belong to a file that failed."""
    broken = [f"{source} failed: {why}" for source, why in registry.unavailable().items()]
    return UserError("; ".join([*broken, str(error)]))


def _add_plugin(path: str) -> None:
    if not Path(path).is_file():
        raise UserError(f"--plugin {path}: no such file; give the path of a Python file")
    try:
        registry.add_plugin(path)
    except ValueError as error:
        raise UserError(f"--plugin {path}: {error}") from None
    except SystemExit as error:
        raise UserError(f"--plugin {path}: it exits when imported: {error}") from None


def _problem(hook: Hook, problem: Problem, arch: str, known: dict[str, dict[str, Any]]) -> Rows:
    from lstm_kernels.stack import Unsupported

    launches: dict[str, Inspectable] = {}
    try:
        for launch in hook(problem, arch):
            launches.setdefault(launch.key(arch), launch)
    except Unsupported as refusal:
        return [{"status": "unsupported", "reason": str(refusal)}]
    except Exception as error:  # noqa: BLE001 - a stranger's hook may raise anything; it is shown
        return [{"status": "error", "reason": f"{HOOK} failed: {_cause(error)}"}]
    return [_row(key, launch, arch, known) for key, launch in launches.items()]


def _row(
    key: str, launch: "Inspectable", arch: str, known: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """One kernel's row; a kernel that another problem compiled is taken from `known`."""
    from lstm_kernels.gpu.machine_code import facts

    row = {
        "kernel": launch.name,
        "regime": launch.regime,
        "parameters": dict(launch.parameters),
        "constants": launch.constants(),
        "grid": list(launch.grid),
    }
    try:
        if key not in known:
            image = launch.compile(arch)
            timing = {"compile_ms": round(image.compile_ms, 1), "cached": image.cached}
            known[key] = facts(image) | timing
    except Exception as error:  # noqa: BLE001 - compilers raise what they like; it is shown
        return row | {"status": "error", "reason": f"does not compile: {_cause(error)}"}
    resident = known[key]["blocks_per_sm"] * architecture(arch).sm_count
    fits = prod(launch.grid) <= resident
    return row | known[key] | {"grid_is_resident": fits, "status": "ok", "reason": ""}


def _cause(error: Exception) -> str:
    """An error in one line: its type, and the last line that is not empty."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"
