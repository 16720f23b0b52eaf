"""What the kernel tests share: the registry's CPU backends, and how two results are compared."""

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import closeness
import interpreted
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import lstm_kernels as lk
from lstm_kernels import measured, preference, registry
from lstm_kernels.registry import TORCH_CELLS
from lstm_kernels.stack import Weights

_ON_CPU = [b for b in registry.registered().values() if "cpu" in b.devices]
_CPU = [b.name for b in _ON_CPU if "backward" in b.passes]
# They compile, for tenths of a second or seconds, for every new step shape or sequence: test_grid
# and their own tests show them right, and what all backends share is run with them by
# `make test-all`.
_COMPILING = ("compiled", "jax")
_EAGER = [name for name in _CPU if name not in _COMPILING]
# These live on CUDA; here they are interpreted, milliseconds a launch, and get smaller tests.
_INTERPRETED = [
    b.name for b in registry.registered().values() if b.interpreter in interpreted.VARIABLES
]
_COMPILED = [pytest.param(name, marks=pytest.mark.slow) for name in _COMPILING if name in _CPU]
# What a test is run for, by the name of the argument it takes.
BACKENDS = {
    "backend": [*_COMPILED, *_EAGER, *_INTERPRETED],
    "eager_backend": _EAGER,
    "eager_or_slow_backend": [
        *_EAGER,
        *_COMPILED,
        *(pytest.param(name, marks=pytest.mark.slow) for name in _INTERPRETED),
    ],
    "compiled_backend": ["compiled"],
    "compiling_backend": [name for name in _COMPILING if name in _CPU],
    "interpreted_backend": _INTERPRETED,
    # Whoever has no gradients is another matter: test_inference_only.
    "inference_backend": [b.name for b in _ON_CPU if "backward" not in b.passes],
    "operator_backend": [b.name for b in registry.registered().values() if b.operators],
}
CELLS = list(TORCH_CELLS)
MODULES = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}

Results = dict[str, Tensor]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for argument, names in BACKENDS.items():
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, names, indirect=True)
    marks = metafunc.definition.iter_markers("parametrize")
    if "cell" in metafunc.fixturenames and not any("cell" in mark.args[0] for mark in marks):
        metafunc.parametrize("cell", CELLS)


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is slow
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if _is_dear(item, parameters):
            item.add_marker(pytest.mark.slow)
        # What `run` does about a layer is the same for all; one of the interpreted shows it.
        of_run = item.path.name == "test_stack.py"
        if of_run and parameters.get("backend") in _INTERPRETED[1:]:
            item.add_marker(pytest.mark.slow)
        # Every change runs each case of the grid on one of them, in turn.
        of_grid = item.path.name == "test_grid.py"
        if of_grid and parameters.get("interpreted_backend") in _INTERPRETED:
            turn = item.callspec.indices["case"] % len(_INTERPRETED)
            if parameters["interpreted_backend"] != _INTERPRETED[turn]:
                item.add_marker(pytest.mark.slow)
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        for group in _compiled_together(parameters):
            item.add_marker(pytest.mark.xdist_group(group))


def _compiled_together(parameters: dict[str, Any]) -> Iterator[str]:
    """The group of an item that compiles, for --dist loadgroup.

    One worker compiles for every test that uses it: a step shape of a cell, and the few kernels of
    numba_cpu. Random cells are nobody else's, and lie in shares.
    """
    if "share" in parameters:
        return
    # `on` and `of` are a backend and a cell where any cell is run.
    names = {parameters.get(argument) for argument in (*BACKENDS, "on")}
    if "compiled" in names:
        cell = parameters.get("cell") or parameters.get("of") or parameters.get("name") or "lstm"
        if "case" in parameters:
            cell = parameters["case"][0][0]
        yield f"compiled-{str(cell).lower()}"
    if "numba_cpu" in names:
        yield "numba_cpu"


def _is_dear(item: pytest.Item, parameters: dict[str, Any]) -> bool:
    """Whether an item takes long, and another shows nearly the same."""
    # Where a cell is dear, interpreted or compiled for each dtype, one shows what all share; the
    # grid's sample has every cell.
    named = {parameters.get("backend"), parameters.get("operator_backend")}
    of_cell = not named.isdisjoint((*_INTERPRETED, "numba_cpu"))
    of_cell = of_cell or item.path.name == "test_numba_cpu.py"
    # Interpreted, finite differences take seconds; one backend shows one shape, which has both
    # directions and lengths. All gradients, and theirs, are held to float64 naive's beside that.
    of_shape = item.path.name == "test_gradients.py" and "gradcheck" in item.name
    of_shape = of_shape and parameters.get("backend") in _INTERPRETED
    shown = (_INTERPRETED[-1:], "ragged")
    # Its kernels take eight seconds: a plain cell is rnn_tanh, and relu is in test_cells's own.
    if "rnn_relu" in item.name and "numba_cpu" in parameters.values():
        return True
    return (of_cell and parameters.get("cell", "lstm") != "lstm") or (
        of_shape and ([parameters.get("backend")], parameters.get("shape")) != shown
    )


@pytest.fixture(autouse=True, scope="module")
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        # Parameters that were tuned on this machine, and what was measured on it or comes with the
        # package for its like, are not what is tested.
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(measured, "SHIPPED", tmp_path_factory.mktemp("shipped"))
        preference.forget()
        for name, value in interpreted.VARIABLES.items():
            patch.setenv(name, value)
        # Kernels compiled for another instruction set must not be taken for this one's.
        capability = torch.backends.cpu.get_cpu_capability()
        # Nor may one user's folder be in another's way.
        name = f"lstm-bench-tests-inductor-{os.getuid()}-{capability}"
        cache = Path(tempfile.gettempdir()) / name
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(cache))
        # A pool of compilers is as many processes that import torch, for a few small kernels.
        patch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
        yield
    preference.forget()


@pytest.fixture(autouse=True)
def _repeatable() -> Iterator[None]:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        # torch.nn says so itself, of the same module it is compared with.
        warnings.filterwarnings("ignore", message="LSTM with projections is not supported")
        yield


@pytest.fixture
def skip_where_refused() -> Callable[[str, lk.Problem], None]:
    """Skip, with the backend's own reason, where it refuses the problem."""

    def check(backend: str, problem: lk.Problem) -> None:
        reason = registry.load(backend).unsupported(problem, "cpu")
        if reason is not None:
            pytest.skip(f"{backend}: {reason}")

    return check


@pytest.fixture
def backend(request: pytest.FixtureRequest, skip_where_refused: Any) -> str:
    """Every backend that runs at all on this machine's CPU, as it is or interpreted."""
    name: str = request.param
    for package in registry.get(name).requires:
        pytest.importorskip(package, reason=f"{name} needs {package}")
    skip_where_refused(name, lk.Problem("lstm", seq_len=2, batch=2, input_size=2, hidden_size=2))
    return name


# The same, of some of them.
eager_backend = eager_or_slow_backend = compiled_backend = interpreted_backend = backend
compiling_backend = backend
operator_backend = inference_backend = backend


@pytest.fixture
def dtype(backend: str) -> str:
    """The most precise dtype a backend runs."""
    small = lk.Problem("lstm", seq_len=2, batch=2, input_size=2, hidden_size=2, dtype="float64")
    return "float32" if registry.load(backend).unsupported(small, "cpu") else "float64"


@pytest.fixture
def rounding(dtype: str) -> float:
    """What two ways to the same result may differ by, relatively, in that dtype."""
    return closeness.SAME[dtype]


@pytest.fixture
def make_pair() -> Callable[..., tuple[torch.nn.RNNBase, torch.nn.RNNBase]]:
    """torch.nn's module for a cell, and ours on a backend with the same parameters."""

    def make(
        cell: str, backend: str, *sizes: int, **settings: Any
    ) -> tuple[torch.nn.RNNBase, torch.nn.RNNBase]:
        if cell == "rnn_relu":
            settings["nonlinearity"] = "relu"
        theirs = getattr(torch.nn, MODULES[cell])(*sizes, **settings)
        ours = getattr(lk, MODULES[cell])(*sizes, **settings, backend=backend)
        ours.load_state_dict(theirs.state_dict())
        return theirs, ours

    return make


@pytest.fixture
def run_module() -> Callable[..., Results]:
    """Outputs, last states and every gradient of a module, by name.

    The loss weighs every output element differently, so that no gradient error cancels.
    """

    def run(
        module: torch.nn.RNNBase, x: Tensor, states: tuple[Tensor, ...], lengths: Tensor | None
    ) -> Results:
        x = x.clone().requires_grad_()
        states = tuple(state.clone().requires_grad_() for state in states)
        module.zero_grad()
        packed = lengths is not None
        inputs = (
            pack_padded_sequence(x, lengths, module.batch_first, enforce_sorted=False)
            if packed
            else x
        )
        y, last = module(inputs, states if len(states) == 2 else states[0])
        if isinstance(y, PackedSequence):
            y = y.data
        last = last if isinstance(last, tuple) else (last,)
        _weighed(y, *last).backward()
        results = {"y": y, "h_n": last[0], "d_x": x.grad, "d_h0": states[0].grad}
        if len(last) == 2:
            results |= {"c_n": last[1], "d_c0": states[1].grad}
        return results | {f"d_{name}": p.grad for name, p in module.named_parameters()}

    return run


@pytest.fixture
def assert_same() -> Callable[..., None]:
    """Every tensor within a relative L2 error; a missing one, a shape or a NaN fails too."""

    def check(
        got: Results, expected: Results, bound: float = closeness.LAYER["float32"], case: Any = ""
    ) -> None:
        closeness.assert_within(bound, closeness.relative_errors(got, expected), case)

    return check


@pytest.fixture
def make_layer(
    request: pytest.FixtureRequest,
) -> Callable[..., tuple[lk.Problem, dict[str, Any]]]:
    """A problem and random arguments for `stack.run`: the level below the modules.

    They lie on the CPU, or on the DEVICE that the test's module names.
    """
    device = getattr(request.module, "DEVICE", "cpu")

    def make(cell: str, **fields: Any) -> tuple[lk.Problem, dict[str, Any]]:
        sizes = {"seq_len": 6, "batch": 4, "input_size": 3, "hidden_size": 5} | fields
        problem = lk.Problem(cell, **{"dtype": "float64"} | sizes)
        dtype = getattr(torch, problem.dtype)

        def draw(*shape: int) -> Tensor:
            return (torch.randn(shape, dtype=dtype) * 0.5).to(device).requires_grad_()

        weights = []
        for index in range(problem.num_layers):
            one = problem.layer(index)
            H, S, units = one.hidden_size, one.state_size, len(one.definition.per_unit)
            rows, rows_h = one.gates * H, one.h_gates * H
            for _ in range(one.directions):
                biases = (draw(rows), draw(rows_h)) if one.bias else (None, None)
                w_hr = draw(S, H) if one.proj_size else None
                per_unit = draw(units * H) if units else None
                products = draw(rows, one.input_size), draw(rows_h, one.met_size)
                weights.append(Weights(*products, *biases, w_hr, per_unit))
        states = problem.num_layers * problem.directions
        h0 = draw(states, problem.batch, problem.state_size)
        c0 = None
        if problem.has_cell_state:
            c0 = draw(states, problem.batch, problem.cell_state_size)
            with torch.no_grad():
                for columns in problem.definition.positive_columns(problem.hidden_size):
                    c0[..., columns].abs_().add_(0.5)
        x = draw(problem.seq_len, problem.batch, problem.input_size)
        return problem, {"x": x, "h0": h0, "c0": c0, "weights": tuple(weights)}

    return make


def _weighed(*outputs: Tensor) -> Tensor:
    total = outputs[0].new_zeros(())
    for output in outputs:
        weight = torch.linspace(-1, 1.5, output.numel(), dtype=output.dtype, device=output.device)
        total = total + (output * weight.view_as(output)).sum()
    return total
