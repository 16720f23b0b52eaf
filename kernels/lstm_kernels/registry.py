"""What can run a problem: the table of backends, plugins and entry points.

Plugins and entry points bring cells too. Listing imports no backend; `load` imports the one it is
asked for.
"""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from lstm_kernels.cells import BUILT_IN as BUILT_IN_CELLS
from lstm_kernels.cells import CELLS, Cell, add_cells, to_data
from lstm_kernels.cells.code.trace import beyond_a_unit, traced
from lstm_kernels.names import check_name
from lstm_kernels.problem import PASSES, Problem

ENTRY_POINT_GROUP = "lstm_kernels.backends"
CELLS_GROUP = "lstm_kernels.cells"
# What the name of a plugin's module begins with.
PLUGIN = "lstm_plugin_"
# What a backend's object must have, and what may stand for it.
_PARTS = {"unsupported": ("unsupported",), "layer or stack": ("layer", "stack")}


@dataclass(frozen=True)
class Backend:
    """An implementation of recurrent layers, registered by name.

    `module` is the dotted name of the module that holds `unsupported` and `layer` or `stack`
    (`__name__` in a plugin); `package.module:attribute` names an object inside one.
    `requires` lists the packages it imports in addition to torch. `passes` are those it can do: one
    that has no gradients says `("inference",)`. A backend that replays its own CUDA graph cannot be
    captured in another: its `launches` are `("eager",)`. `raced` is False only for the oracle.
    `interpreter` names the environment variable that, set to 1, makes a CUDA-only backend run on a
    CPU too, interpreted: to check it, far too slowly to time it. `recompute` says that it can save
    less for the backward, on demand, `packed` that it takes a ragged batch as a PackedSequence
    holds it (see `lstm_kernels.stack` for both). `transforms` are those of torch.func that it
    supports, of `grad`, `vmap`, `jvp`: all if it consists of PyTorch's operations only. `operators`
    says that its kernels are operators of PyTorch too (`lstm_kernels.common.operators`), and names
    the dtypes that they compute in: torch.compile does not leave its layers alone. `any_cell` says
    that it runs every cell that is defined (`lstm_kernels.cells`) and whose step works unit by
    unit, `any_step` that it runs the others too, which multiply by W_hh again or normalise, and
    `norms` which norms of `cells` it computes otherwise; any other backend gets only PyTorch's four
    and those of `cells`. `copies` says that it computes with
    copies of the weights that it keeps, and that it also compares their content if asked
    (`lstm_kernels.stack`). `heads` says that it multiplies head by head if W_hh is block-diagonal;
    any other gets one head only. `w8` says that it computes with int8 weights in that precision;
    any other gets the rest. `own_masks` says that its `stack` draws the masks of dropout between
    layers otherwise than `torch.nn.functional.dropout` does.
    """

    name: str
    module: str
    summary: str
    devices: tuple[str, ...] = ("cpu", "cuda")
    requires: tuple[str, ...] = ()
    passes: tuple[str, ...] = PASSES
    launches: tuple[str, ...] = ("eager", "graph")
    raced: bool = True
    interpreter: str = ""
    recompute: bool = False
    packed: bool = False
    transforms: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    any_cell: bool = False
    any_step: bool = False
    norms: tuple[str, ...] = ()
    heads: bool = False
    cells: tuple[str, ...] = ()
    copies: bool = False
    w8: bool = False
    own_masks: bool = False


# The cells that PyTorch has, so every author of a backend knows them.
TORCH_CELLS = ("lstm", "gru", "rnn_tanh", "rnn_relu")

_OURS = "lstm_kernels.backends."
_ALL = ("grad", "vmap", "jvp")

BUILT_IN = (
    Backend(
        "reference",
        _OURS + "reference",
        "float64, obvious loops: the oracle",
        raced=False,
        any_cell=True,
        any_step=True,
        heads=True,
    ),
    Backend(
        "per_gate",
        _OURS + "per_gate",
        "one product per gate and step",
        transforms=_ALL,
        any_cell=True,
        any_step=True,
        heads=True,
    ),
    Backend(
        "naive",
        _OURS + "naive",
        "the textbook PyTorch loop: two products a step",
        transforms=_ALL,
        any_cell=True,
        any_step=True,
        heads=True,
    ),
    Backend(
        "hoisted",
        _OURS + "hoisted",
        "input product of all steps at once, before the loop",
        transforms=_ALL,
        any_cell=True,
        any_step=True,
        heads=True,
    ),
    Backend(
        "compiled",
        _OURS + "compiled",
        "naive with its step under torch.compile",
        any_cell=True,
        any_step=True,
        heads=True,
    ),
    Backend(
        "graphed",
        _OURS + "graphed",
        "hoisted replayed from a CUDA graph",
        devices=("cuda",),
        launches=("eager",),
        any_cell=True,
        any_step=True,
        heads=True,
    ),
    Backend(
        "pointwise",
        _OURS + "pointwise",
        "hoisted with the gates' pointwise work in one fused Triton kernel",
        devices=("cuda",),
        requires=("triton",),
        interpreter="TRITON_INTERPRET",
        any_cell=True,
        heads=True,
    ),
    Backend(
        "triton",
        _OURS + "fused_triton",
        "fused kernels, recurrent weights on chip where they fit",
        devices=("cuda",),
        requires=("triton",),
        interpreter="TRITON_INTERPRET",
        recompute=True,
        operators=("float64", "float32", "float16", "bfloat16"),
        any_cell=True,
    ),
    Backend(
        "numba_cpu",
        _OURS + "numba_cpu",
        "Numba on a CPU: weights packed for cache and registers, a layer a kernel",
        devices=("cpu",),
        requires=("numba",),
        packed=True,
        operators=("float32", "float64"),
        any_cell=True,
        norms=("layer_norm", "batch_norm"),
        heads=True,
        copies=True,
        w8=True,
    ),
    Backend(
        "numba_cuda",
        _OURS + "fused_numba_cuda",
        "persistent kernels in Numba CUDA, recurrent weights in registers where they fit",
        devices=("cuda",),
        requires=("numba_cuda",),
        interpreter="NUMBA_ENABLE_CUDASIM",
        operators=("float32", "float64"),
        any_cell=True,
    ),
    Backend(
        "aten",
        _OURS + "torch_aten",
        "torch.nn with cuDNN off: PyTorch's native path",
        transforms=("grad",),
        copies=True,
        w8=True,
    ),
    Backend(
        "cudnn",
        _OURS + "torch_cudnn",
        "torch.nn with cuDNN on",
        devices=("cuda",),
        transforms=("grad",),
        own_masks=True,
    ),
    Backend(
        "onnxruntime",
        _OURS + "peer_onnxruntime",
        "ONNX Runtime's operators, weights as a session's constants",
        devices=("cpu",),
        requires=("onnx", "onnxruntime"),
        passes=("inference",),
        cells=("lstm_peephole", "lstm_cifg", "gru_reset_before"),
        copies=True,
        w8=True,
    ),
    Backend(
        "openvino",
        _OURS + "peer_openvino",
        "OpenVINO's sequences, weights as a compiled model's constants",
        devices=("cpu",),
        requires=("onnx", "openvino"),
        passes=("inference",),
        cells=("gru_reset_before",),
        copies=True,
    ),
    Backend(
        "jax",
        _OURS + "peer_jax",
        "a scan in JAX, compiled by XLA, with JAX's own gradients",
        devices=("cpu",),
        requires=("jax",),
        any_cell=True,
    ),
)

# The extra of this distribution that brings a package.
_EXTRA_OF = {
    "triton": "cuda",
    "numba_cuda": "cuda",
    "pynvml": "cuda",
    "onnx": "peers",
    "onnxruntime": "peers",
    "openvino": "peers",
    "jax": "peers",
}

_plugins: dict[str, Backend] = {}
_built_in = {backend.name: backend for backend in BUILT_IN}
_unavailable: dict[str, str] = {}
_entry_points: dict[str, Backend] | None = None
_has_read_cells = False


def registered() -> dict[str, Backend]:
    """Every known backend by name: built-in ones first, then entry points, then plugins."""
    return _built_in | _from_entry_points() | _plugins


def backends() -> tuple[str, ...]:
    """The names of every known backend."""
    return tuple(registered())


def unavailable() -> dict[str, str]:
    """Entry points and plugin files that failed to import: source to error."""
    _from_entry_points()
    brought_cells()
    return dict(_unavailable)


def brought_cells() -> dict[str, Cell]:
    """The known cells that are not this package's: of entry points, of plugins, of a caller."""
    global _has_read_cells
    if not _has_read_cells:
        _has_read_cells = True
        for point in entry_points(group=CELLS_GROUP):
            _add_cells_of(point)
    return {name: cell for name, cell in CELLS.items() if name not in BUILT_IN_CELLS}


def may_bring_cells() -> bool:
    """Whether an installed package says that it has cells, without importing it."""
    return bool(entry_points(group=CELLS_GROUP))


def cell_named(name: object) -> str:
    """The name of a cell of this package or of another, checked.

    Raises:
        ValueError: unknown, with the nearest known name.
    """
    if isinstance(name, str) and name in CELLS:
        return name
    return check_name("cell", name, CELLS | brought_cells())


def get(name: str) -> Backend:
    """The backend of that name.

    Raises:
        ValueError: unknown, with the nearest known name.
    """
    built_in = _built_in.get(name)
    if built_in is not None:  # what a layer asks for at every call
        return built_in
    known = registered()
    return known[check_name("backend", name, known)]


def load(name: str) -> Any:
    """Import and return the object that holds a backend's `unsupported` and `layer` or `stack`.

    Raises:
        ModuleNotFoundError: a package that it requires is not installed, with what to type.
    """
    module_name, _, attribute = get(name).module.partition(":")
    lacking = missing(name) if module_name not in sys.modules else ()
    if lacking:
        needs = f"backend {name!r} needs {', '.join(lacking)}: {how_to_get(lacking)}"
        raise ModuleNotFoundError(needs, name=lacking[0])
    module = importlib.import_module(module_name)
    return getattr(module, attribute) if attribute else module


def unsupported(name: str, problem: Problem, device: str) -> str | None:
    """The reason that a backend does not run a problem, or None, from its own module.

    It is not asked about a cell that it does not know, which it would mistake for another, nor
    about heads, whose weights it would mistake for those of one, nor about int8 weights.

    Raises:
        AttributeError: it defines no `unsupported`, or neither `layer` nor `stack`.
    """
    reason = unknown_kind(name, problem) or _nothing_to_normalise(problem)
    if reason is not None:
        return reason
    found = load(name)
    if name not in _built_in:  # what a layer asks for at every call
        _refuse_unfinished(name, found)
    return found.unsupported(problem, device)  # type: ignore[no-any-return] # a module's


def _refuse_unfinished(name: str, found: Any) -> None:
    absent = [told for told, names in _PARTS.items() if not any(hasattr(found, n) for n in names)]
    if absent:
        raise AttributeError(
            f"backend {name!r} defines no {' and no '.join(absent)}; "
            "docs/add-a-backend.md has one to copy"
        )


def unknown_kind(name: str, problem: Problem) -> str | None:
    """The reason that a backend does not run such a cell, heads or precision, or None."""
    backend = get(name)
    return (
        _unknown_cell(backend, problem)
        or lacks_heads(backend, problem)
        or lacks_w8(backend, problem)
    )


def _nothing_to_normalise(problem: Problem) -> str | None:
    if problem.mixes_batch and problem.batch == 1:
        return f"{problem.cell} normalises over the batch, so it needs 2 sequences or more"
    return None


def _unknown_cell(backend: Backend, problem: Problem) -> str | None:
    if problem.cell in (*TORCH_CELLS, *backend.cells):
        return None
    if not backend.any_cell:
        known = ", ".join(TORCH_CELLS)
        more = f" and {', '.join(backend.cells)}" if backend.cells else ""
        return f"it has PyTorch's cells ({known}){more}, and this is {problem.cell}"
    beyond = None if _runs_step(backend, problem.definition) else beyond_a_unit(problem.definition)
    if beyond is None:
        return None
    return f"it runs cells that work unit by unit after the products, and {problem.cell} {beyond}"


def _runs_step(backend: Backend, cell: Cell) -> bool:
    """Whether a backend runs what a cell does that is not unit by unit, if it does."""
    return backend.any_step or (
        bool(backend.norms) and set(traced(cell).functions) <= set(backend.norms)
    )


def lacks_heads(backend: Backend, problem: Problem) -> str | None:
    """The reason that a backend does not run a problem's heads, by its record, or None."""
    if problem.heads > 1 and not backend.heads:
        return "it multiplies by the whole of W_hh, so it has no heads"
    return None


def lacks_w8(backend: Backend, problem: Problem) -> str | None:
    """The reason that a backend does not run a problem's int8 weights, by its record, or None."""
    if problem.precision == "w8" and not backend.w8:
        return f"{backend.name} has no int8 weights, and this is precision w8"
    return None


def missing(name: str) -> tuple[str, ...]:
    """The packages that a backend requires and that are not installed, without an import."""
    return tuple(package for package in get(name).requires if not _is_installed(package))


def how_to_get(packages: Collection[str]) -> str:
    """What to type for packages that are missing: one of our extras, if it has them."""
    extras = sorted({_EXTRA_OF[package] for package in packages if package in _EXTRA_OF})
    ours = [f"'lstm-bench[{','.join(extras)}]'"] if extras else []
    return " ".join(["pip install", *ours, *(each for each in packages if each not in _EXTRA_OF)])


def _is_installed(package: str) -> bool:
    """Whether a package can be found, by its top-level name: looking inside would import it."""
    top = package.partition(".")[0]
    return bool(top) and importlib.util.find_spec(top) is not None


def add_plugin(path: str | Path) -> tuple[Backend, ...]:
    """Register the `BACKENDS` and `CELLS` of a Python file; it needs at least one of them.

    A file that fails to import is listed in `unavailable`.

    Returns:
        The backends it added; empty where it failed.
    Raises:
        ValueError: the file does not exist, or takes a name that another backend or cell has.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise ValueError(f"plugin {str(path)!r} is not a file; give the path of a Python file")
    try:
        module = _import_file(file)
        added = tuple(getattr(module, "BACKENDS", ()))
        cells = _cells_of(module, file)
        _check_records(added)
        _check_cells(cells)
    except Exception as error:  # noqa: BLE001 - a stranger's file may raise anything; it is kept and shown
        _unavailable[str(path)] = f"{type(error).__name__}: {error}"
        return ()
    add_cells(cells, file.name)
    for backend in added:
        if registered().get(backend.name, backend) != backend:
            raise ValueError(f"plugin {str(path)!r}: the name {backend.name!r} is taken")
        _plugins[backend.name] = backend
    return added


def _cells_of(module: Any, file: Path) -> tuple[Any, ...]:
    if not hasattr(module, "BACKENDS") and not hasattr(module, "CELLS"):
        raise AttributeError(f"{file.name} defines neither BACKENDS nor CELLS")
    return _several(getattr(module, "CELLS", ()), Cell)


def _several(given: Any, kind: type[Any]) -> tuple[Any, ...]:
    """A tuple of one or several."""
    return (given,) if isinstance(given, kind) else tuple(given)


def _check_cells(cells: tuple[Any, ...]) -> None:
    """Refuse anything but a cell with a valid step, while its source is still known."""
    for cell in cells:
        if not isinstance(cell, Cell):
            raise TypeError(f"CELLS holds {cell!r}; expected what @cell returns")
        to_data(cell)


def _import_file(file: Path) -> Any:
    digest = hashlib.sha256(str(file).encode()).hexdigest()[:8]
    name = f"{PLUGIN}{file.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _from_entry_points() -> dict[str, Backend]:
    global _entry_points
    if _entry_points is None:
        _entry_points = {}
        for point in entry_points(group=ENTRY_POINT_GROUP):
            for backend in _load_entry_point(point):
                _add_entry_point(point, backend, _entry_points)
    return _entry_points


def _add_entry_point(point: EntryPoint, backend: Backend, found: dict[str, Backend]) -> None:
    """Register a package's backend, unless its name would hide another."""
    if backend.name in found or backend.name in _built_in:
        _unavailable[point.value] = f"the name {backend.name!r} is taken"
    else:
        found[backend.name] = backend


def _load_entry_point(point: EntryPoint) -> tuple[Backend, ...]:
    try:
        records = _several(point.load(), Backend)
        _check_records(records)
    except Exception as error:  # noqa: BLE001 - a stranger's package may raise anything; it is kept and shown
        _unavailable[point.value] = f"{type(error).__name__}: {error}"
        return ()
    return records


def _add_cells_of(point: EntryPoint) -> None:
    """Register a package's cells, unless a name belongs to another."""
    try:
        cells = _several(point.load(), Cell)
        _check_cells(cells)
        add_cells(cells, point.value)
    except Exception as error:  # noqa: BLE001 - a stranger's package may raise anything; it is kept and shown
        _unavailable[point.value] = f"{type(error).__name__}: {error}"


def _check_records(records: tuple[Any, ...]) -> None:
    for record in records:
        if not isinstance(record, Backend):
            raise TypeError(f"BACKENDS holds {record!r}; expected lstm_kernels.Backend records")
        lists = ("devices", "requires", "passes", "launches", "transforms", "operators", "cells")
        for field in lists:
            if isinstance(getattr(record, field), str):
                given = getattr(record, field)
                raise TypeError(
                    f"{field}={given!r} of {record.name!r} is a text; write ({given!r},)"
                )
