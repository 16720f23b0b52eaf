"""What the matrix does not reach: threads, processes, many chunks of steps, activations far out."""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numba", reason="numba_cpu needs numba")

import closeness
import numba
import numpy as np
import torch
from pointwise_cells import POINTWISE
from torch import Tensor
from waiting import PATIENCE_S

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.backends.numba_cpu import activations, compiling, kept, sequence, simd, team
from lstm_kernels.cells import (
    CELLS,
    cell,
    exp,
    log,
    maximum,
    minimum,
    relu,
    sigmoid,
    tanh,
    where,
)
from lstm_kernels.common.packing import packed, padded
from lstm_kernels.registry import TORCH_CELLS
from lstm_kernels.stack import Weights, run

SIZES = {"seq_len": 9, "batch": 8, "input_size": 20, "hidden_size": 37}
# So few pairs of step and row that weights are not packed: of two tiles, and of full vectors.
FEW_PAIRS = {"seq_len": 3, "batch": 7, "input_size": 150, "hidden_size": 257}
ONE_PAIR = {"seq_len": 1, "batch": 1, "input_size": 64, "hidden_size": 32}
# More pairs of step and row than a chunk has, and panels that are not full; and few pairs.
LAYERS = {
    "few steps": FEW_PAIRS,
    "one step": ONE_PAIR,
    "long": {"seq_len": 300, "batch": 3, "input_size": 5, "hidden_size": 19},
    "wide": {"seq_len": 3, "batch": 300, "input_size": 70, "hidden_size": 17},
    "large": {"seq_len": 40, "batch": 20, "input_size": 65, "hidden_size": 257},
}
VARIANTS = [name for name in POINTWISE if name not in TORCH_CELLS]
VARIANTS_SIZES = {
    "one step": {"seq_len": 1, "batch": 1, "input_size": 3, "hidden_size": 30},
    "few steps": FEW_PAIRS,
    "odd": {"seq_len": 9, "batch": 3, "input_size": 20, "hidden_size": 30},
    "many chunks": {"seq_len": 100, "batch": 3, "input_size": 7, "hidden_size": 257},
}
KERNELS = str(Path(lk.__file__).parents[1])
# Of a process that is told nothing, as those below are.
_KEPT_HERE = kept.is_used()

# One worker compiles for every test of this backend (see conftest).
pytestmark = pytest.mark.xdist_group("numba_cpu")


def run_packed(
    implementation: Any, x: Tensor, *, lengths: Tensor, **others: Any
) -> tuple[Tensor | None, ...]:
    """`run` on what is padded, packed in between."""
    y, *states = run(implementation, packed(x, lengths), lengths=lengths, **others)
    return padded(y, lengths), *states


def results(
    backend: str,
    problem: lk.Problem,
    arguments: dict[str, Any],
    lengths: Tensor | None = None,
    run: Callable[..., tuple[Tensor | None, ...]] = run,
) -> dict[str, Tensor]:
    """Outputs and every gradient, by name."""
    leaves = {name: t for name, t in arguments.items() if isinstance(t, Tensor)}
    for d, weights in enumerate(arguments["weights"]):
        named = weights._asdict().items()
        leaves |= {f"{name}_{d}": t for name, t in named if t is not None}
    returned = run(registry.load(backend), problem=problem, lengths=lengths, **arguments)
    outputs = dict(zip(("y", "h_n", "c_n"), returned, strict=True))
    outputs = {name: t for name, t in outputs.items() if t is not None}
    weighed = [torch.linspace(-1, 1.5, t.numel()).view_as(t).to(t) for t in outputs.values()]
    # A w_hh without rows has no part in anything.
    gradients = torch.autograd.grad(
        list(outputs.values()), list(leaves.values()), weighed, materialize_grads=True
    )
    return outputs | {f"d_{name}": t for name, t in zip(leaves, gradients, strict=True)}


def doubled(problem: lk.Problem, arguments: dict[str, Any]) -> tuple[lk.Problem, dict[str, Any]]:
    def double(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.detach().double().requires_grad_()

    weights = tuple(Weights(*map(double, one)) for one in arguments["weights"])
    tensors = {name: double(t) for name, t in arguments.items() if name != "weights"}
    fields = problem.to_dict() | {"dtype": "float64"}
    return lk.Problem.from_dict(fields), {**tensors, "weights": weights}


def tame(arguments: dict[str, Any], hidden_size: int) -> None:
    """Have gates away from 0 and 1, and no chaos, whatever H is."""
    for tensor in chain(*arguments["weights"]):
        if tensor is not None:
            tensor.data /= max(hidden_size, 64) ** 0.5 / 1.5


def assert_equal(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    assert got.keys() == want.keys()
    assert not [name for name, tensor in want.items() if not torch.equal(got[name], tensor)]


@pytest.fixture(autouse=True)
def _threads_whatever_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "WORTH_MEETING", 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "bidirectional"])
@pytest.mark.parametrize("sizes", LAYERS.values(), ids=LAYERS)
def test_layers_equal_float64_torch(
    cell: str,
    sizes: dict[str, int],
    bidirectional: bool,
    dtype: str,
    make_layer: Any,
    assert_same: Any,
) -> None:
    problem, arguments = make_layer(cell, **sizes, bidirectional=bidirectional, dtype=dtype)
    tame(arguments, sizes["hidden_size"])
    got = results("numba_cpu", problem, arguments)
    want = results("aten", *doubled(problem, arguments))
    assert_same(got, want, bound=closeness.LAYER[dtype])


@pytest.mark.parametrize("lengths", ["full", "ragged"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "bidirectional"])
@pytest.mark.parametrize("sizes", VARIANTS_SIZES.values(), ids=VARIANTS_SIZES)
@pytest.mark.parametrize("cell", VARIANTS)
def test_variants_equal_float64_autograd(
    cell: str,
    sizes: dict[str, int],
    bidirectional: bool,
    dtype: str,
    lengths: str,
    make_layer: Any,
    assert_same: Any,
) -> None:
    problem, arguments = make_layer(cell, **sizes, bidirectional=bidirectional, dtype=dtype)
    tame(arguments, sizes["hidden_size"])
    T, B = problem.seq_len, problem.batch
    steps = torch.tensor([T, 0, T // 2] * B)[:B] if lengths == "ragged" else None
    got = results("numba_cpu", problem, arguments, steps)
    want = results("reference", *doubled(problem, arguments), steps)
    assert_same(got, want, bound=closeness.LAYER[dtype])


@cell(gates="n r", states="h c d e", per_unit="u v", apart="n")
def of_two_gates(p, h, c, d, e, u, v):
    """The gates of W_hh in another order, and states that the backward has no use for."""
    d = minimum(log(2 + sigmoid(p.n_x)), u * d) - p.r
    e = where(p.r < 0.1, e, 1 - p.n_h)
    c = maximum(c, v * p.n_h) / (1 + exp(-relu(d)))
    return tanh(p.r + h - c), c, d, e + p.n_x


@cell(gates="a b", states="h c", per_unit="u", from_x="b")
def of_one_gate_from_h(p, h, c, u):
    """Fewer products of h than of x."""
    c = sigmoid(p.b) * c + u
    return tanh(p.a + c), c


@cell(gates="a b c d", states="h", apart="a b c d")
def of_eight_slots(p, h):
    """As many pre-activations as there can be."""
    whole = sigmoid(p.a_x) * p.a_h + p.b_x * tanh(p.b_h)
    return tanh(whole + p.c_x * sigmoid(p.c_h) - p.d_h) * sigmoid(p.d_x + p.d_h)


@cell(gates="a", states="h c", positive="c")
def of_a_quotient(p, h, c):
    """No number where all is zero, as it is where units are padded."""
    c = c * sigmoid(p.a)
    return tanh(p.a / c), c


@cell(gates="a b c d e", states="h")
def of_five_gates(p, h):
    """One too many."""
    return tanh(p.a + p.b + p.c + p.d + p.e)


# Each compiles for ten seconds: what every change runs is the cell of test_cells.py, which has a
# gate in parts, a state that no gradient looks at, and a quotient.
@pytest.mark.slow
@pytest.mark.parametrize(
    "defined",
    [of_two_gates, of_a_quotient, of_one_gate_from_h, of_eight_slots],
    ids=lambda defined: defined.name,
)
def test_a_cell_of_ones_own_equals_float64_autograd(
    defined: Any, make_layer: Any, assert_same: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CELLS, defined.name, defined)
    problem, arguments = make_layer(defined.name, **SIZES, bidirectional=True)
    lengths = torch.tensor([3, 0, 9, 1, 9, 8, 5, 2])
    got = results("numba_cpu", problem, arguments, lengths)
    want = results("reference", problem, arguments, lengths)
    assert_same(got, want, bound=closeness.LAYER["float64"])


def test_a_cell_of_five_gates_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CELLS, of_five_gates.name, of_five_gates)
    problem = lk.Problem(of_five_gates.name, 2, 2, 2, 2)
    reason = registry.unsupported("numba_cpu", problem, "cpu")
    assert reason == "cell 'of_five_gates' has 5 gates, and a panel holds 4"


@pytest.mark.parametrize("lengths", [[3, 0, 9, 1, 9, 0, 5, 2], [0] * 8], ids=["some", "none"])
def test_ragged_sequences_are_as_alone_and_padding_is_never_read(
    cell: str, lengths: list[int], make_layer: Any, assert_same: Any
) -> None:
    problem, arguments = make_layer(cell, **SIZES, bidirectional=True)
    with torch.no_grad():
        for row, length in enumerate(lengths):
            arguments["x"][length:, row] = torch.nan
    got = results("numba_cpu", problem, arguments, torch.tensor(lengths))
    assert not [name for name, tensor in got.items() if not tensor.isfinite().all()]
    want = results("naive", problem, arguments, torch.tensor(lengths))
    assert_same(got, want, bound=closeness.LAYER["float64"])
    for row, length in enumerate(lengths):
        assert not got["d_x"][length:, row].any()
        assert not got["y"][length:, row].any()


@pytest.mark.parametrize(
    "sizes",
    [SIZES, SIZES | {"seq_len": 90}, FEW_PAIRS | {"batch": 8}],
    ids=["one chunk", "many chunks", "few steps"],
)
def test_a_packed_batch_gives_the_bits_of_a_padded_one(
    cell: str, sizes: dict[str, int], make_layer: Any
) -> None:
    problem, arguments = make_layer(cell, **sizes, bidirectional=True, num_layers=2)
    T = problem.seq_len
    lengths = torch.tensor(sorted([T, T, T - 1, T // 2, 3, 2, 1, 1], reverse=True))
    want = results("numba_cpu", problem, arguments, lengths)
    assert_equal(results("numba_cpu", problem, arguments, lengths, run_packed), want)


@pytest.mark.parametrize(
    ("dtype", "sizes"),
    [("float32", SIZES), ("float64", SIZES), ("float16", SIZES), ("float32", FEW_PAIRS)],
    ids=["float32", "float64", "float16", "few steps"],
)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_threads_and_repeats_give_the_same_bits(
    cell: str,
    count: int,
    dtype: str,
    sizes: dict[str, int],
    make_layer: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem, arguments = make_layer(cell, **sizes, bidirectional=True, dtype=dtype)
    T, B = problem.seq_len, problem.batch
    lengths = torch.tensor([3, 0, T, 1, T, T - 1, 2, 2])[:B]
    want = results("numba_cpu", problem, arguments, lengths)
    monkeypatch.setattr(team, "threads", lambda: count)
    for _ in range(100 if count == 2 else 5):
        assert_equal(results("numba_cpu", problem, arguments, lengths), want)


def test_a_kernel_runs_on_torchs_threads_and_no_more_than_there_are_cores() -> None:
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    assert team.threads() == cores
    torch.set_num_threads(cores + 1)
    assert team.threads() == cores
    torch.set_num_threads(1)
    assert team.threads() == 1


@pytest.mark.parametrize(
    ("cell", "inputs", "hidden_size", "count"),
    [("lstm", 64, 64, 1), ("lstm", 4, 128, 4), ("lstm", 512, 64, 4), ("indrnn", 600, 128, 4)],
)
def test_a_step_too_small_for_two_threads_gets_one(
    cell: str,
    inputs: int,
    hidden_size: int,
    count: int,
    make_layer: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(team, "threads", lambda: 4)
    counts = []
    run_by = team.run
    monkeypatch.setattr(team, "run", lambda *a: (counts.append(a[2]), run_by(*a)))
    sizes = {"seq_len": 2, "batch": 1, "input_size": inputs, "hidden_size": hidden_size}
    problem, arguments = make_layer(cell, **sizes, dtype="float32")
    results("numba_cpu", problem, arguments)
    assert counts == [count] * 2
    (told,) = registry.load("numba_cpu").kernels_used(problem)
    assert told.endswith(f"{count} threads")


def test_many_python_threads_at_once(make_layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "threads", lambda: 2)
    layers = [make_layer(cell, **SIZES, dtype="float32") for cell in ("lstm", "gru", "rnn_tanh")]
    wanted = [results("numba_cpu", *layer) for layer in layers]
    with ThreadPoolExecutor(4) as pool:
        run_at_once = list(pool.map(lambda layer: results("numba_cpu", *layer), layers * 5))
    for got, want in zip(run_at_once, wanted * 5, strict=True):
        assert_equal(got, want)


def test_a_backward_in_another_thread(make_layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "threads", lambda: 2)
    problem, arguments = make_layer("gru", **SIZES, dtype="float32")
    want = results("numba_cpu", problem, arguments)["d_x"]
    y, h_n, _ = run(registry.load("numba_cpu"), problem=problem, **arguments)
    weights = [torch.linspace(-1, 1.5, t.numel()).view_as(t) for t in (y, h_n)]
    thread = threading.Thread(target=torch.autograd.backward, args=((y, h_n), weights))
    thread.start()
    thread.join()
    assert torch.equal(arguments["x"].grad, want)


@pytest.mark.parametrize(
    ("changed", "pairs"),
    [({}, 25), ({"hidden_size": 1024}, 73), ({"hidden_size": 4096}, 14), ({"input_size": 1}, 16)],
)
def test_weights_of_few_steps_are_as_they_are(changed: dict[str, int], pairs: int) -> None:
    backend = registry.load("numba_cpu")
    for seq_len, expected in ((pairs, True), (pairs + 1, False)):
        sizes = FEW_PAIRS | changed | {"seq_len": seq_len, "batch": 1}
        problem = lk.Problem("lstm", **sizes)
        assert sequence.is_unpacked(problem, seq_len) is expected
        (told,) = backend.kernels_used(problem)
        assert ("weights as they are" in told) is expected
        assert not sequence.is_unpacked(replace(problem, cell="lstm_layernorm"), seq_len)


@pytest.mark.parametrize("sizes", [SIZES, FEW_PAIRS], ids=["packed", "few steps"])
def test_weights_changed_in_place_count(sizes: dict[str, int], make_layer: Any) -> None:
    problem, arguments = make_layer("lstm", **sizes)
    before = results("numba_cpu", problem, arguments)
    arguments["weights"][0].w_hh.data.zero_()
    after = results("numba_cpu", problem, arguments)
    assert not torch.equal(before["y"], after["y"])
    torch.testing.assert_close(after["y"], results("naive", problem, arguments)["y"])


def test_only_the_gradients_that_are_asked_for(make_layer: Any) -> None:
    problem, arguments = make_layer("lstm", **SIZES, bidirectional=True)
    want = results("numba_cpu", problem, arguments)
    arguments["x"].requires_grad_(False)
    first, second = arguments["weights"]
    for frozen in (first.w_ih, second.w_hh, second.b_ih):
        frozen.requires_grad_(False)
    asked = {"w_hh_0": first.w_hh, "w_ih_1": second.w_ih, "b_hh_1": second.b_hh}
    outputs = run(registry.load("numba_cpu"), problem=problem, **arguments)
    weights = [torch.linspace(-1, 1.5, t.numel()).view_as(t).to(t) for t in outputs]
    gradients = torch.autograd.grad(outputs, list(asked.values()), weights)
    assert_equal(
        {f"d_{name}": gradient for name, gradient in zip(asked, gradients, strict=True)},
        {f"d_{name}": want[f"d_{name}"] for name in asked},
    )


APPLIED: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "sigmoid": (activations.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "tanh": (activations.tanh, np.tanh),
    "exp": (activations.exp, np.exp),
    "log": (activations.log, np.log),
}


@pytest.fixture(scope="module", params=[(n, d) for n in APPLIED for d in ("float32", "float64")])
def activation(request: pytest.FixtureRequest) -> Any:
    """One of ours over an array, its dtype, and NumPy's in 80 bits."""
    name, dtype = request.param
    function, exact = APPLIED[name]
    return over_arrays(function, dtype), dtype, exact


def over_arrays(function: Any, dtype: str) -> Any:
    """A function of vectors, over an array."""
    itemsize = np.dtype(dtype).itemsize
    step = simd.VECTOR_BYTES // itemsize

    @numba.njit
    def over(values, address, to):
        for i in range(0, len(values), step):
            at = i * itemsize
            simd.store(to + at, function(simd.load(simd.zero(values[0]), address + at)))

    def apply(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        padded = np.zeros(-(-len(values) // step) * step, dtype)
        padded[: len(values)] = values
        applied = np.empty_like(padded)
        over(padded, padded.ctypes.data, applied.ctypes.data)
        return applied[: len(values)]

    return apply


def test_activations_are_accurate_near_zero_and_far_out(activation: Any) -> None:
    apply, dtype, exact = activation
    draw = np.random.default_rng(0)
    tiny = 10.0 ** draw.uniform(-30, 0, 1000)
    x = np.concatenate([draw.uniform(-80, 80, 100_000), draw.normal(0, 1, 10_000), tiny, -tiny])
    x = (np.abs(x) if exact is np.log else x).astype(dtype)
    want = exact(x.astype(np.longdouble))
    error = np.abs(apply(x) - want) / np.abs(want)
    bound = closeness.ACTIVATION_ROUNDINGS * np.finfo(dtype).eps
    closeness.assert_within(bound, {"the worst activation": error.max()}, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gates_never_leave_their_range(dtype: str) -> None:
    x = np.linspace(-100, 100, 1 << 18).astype(dtype)
    for function, low, high in ((activations.sigmoid, 0, 1), (activations.tanh, -1, 1)):
        applied = over_arrays(function, dtype)(x)
        assert applied.min() >= low
        assert applied.max() == high


def test_activations_saturate_and_keep_nan(activation: Any) -> None:
    apply, dtype, exact = activation
    x = np.array([np.inf, 1e30, 100, 0, -100, -1e30, -np.inf, np.nan], dtype)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        want = exact(x)
    applied = apply(x)
    np.testing.assert_allclose(applied[:-1], want[:-1], rtol=1e-6, atol=2 * np.finfo(dtype).tiny)
    assert np.isnan(applied[-1])


PREPARE = """
import sys, torch
from lstm_kernels import registry
from lstm_kernels.backends.numba_cpu import sequence
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Weights
torch.manual_seed(0)
torch.set_num_threads(2)
sequence.WORTH_MEETING = 0
problem = Problem("lstm", 5, 3, 4, 20)
draw = lambda *shape: torch.randn(shape) * 0.5
weights = (Weights(draw(80, 4), draw(80, 20), draw(80), draw(80)),)
arguments = draw(5, 3, 4), draw(1, 3, 20), draw(1, 3, 20), weights
def infer():
    return registry.load("numba_cpu").layer(*arguments, problem=problem)[0]
"""
COLD = """
import hashlib
from lstm_kernels.backends.numba_cpu.compiled import compiled
with torch.no_grad():
    print(hashlib.sha256(infer().numpy().tobytes()).hexdigest())
print(compiled("forward", "float32", "fma", "lstm").is_loaded, "numba" in sys.modules)
"""
FORKED = """
import os
want = infer()
torch.mm(torch.ones(500, 500), torch.ones(500, 500))
weights[0].w_hh.requires_grad_()
if os.fork() == 0:
    y = infer()
    y.sum().backward()
    same = torch.equal(y, want) and bool(weights[0].w_hh.grad.isfinite().all())
    os._exit(0 if same else 1)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def start(code: str, cache: Path | None = None) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": KERNELS}
    if cache:
        environment |= {"NUMBA_CACHE_DIR": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE + code], env=environment, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_processes_that_start_at_once_on_an_empty_cache_agree(tmp_path: Path) -> None:
    with torch.no_grad():
        scope: dict[str, Any] = {}
        exec(PREPARE, scope)
        want = hashlib.sha256(scope["infer"]().numpy().tobytes()).hexdigest()
    done = [
        p.communicate(timeout=PATIENCE_S)[0].split() for p in [start(COLD, tmp_path) for _ in "123"]
    ]
    assert [digest for digest, *_ in done] == [want] * 3
    kept = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    later = start(COLD, tmp_path)
    is_loaded, needs_numba = str(_KEPT_HERE), str(not _KEPT_HERE)
    assert later.communicate(timeout=PATIENCE_S)[0].split() == [want, is_loaded, needs_numba]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == kept


def test_a_kernel_is_compiled_where_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def cfunc(_: Any, *, cache: bool, **options: Any) -> Any:
        def compile_it(function: Any) -> Any:
            asked.append(cache)
            if cache:
                raise RuntimeError("cannot cache function 'f': no locator available for file 'f'")
            return function

        return compile_it

    monkeypatch.setattr(numba, "cfunc", cfunc)
    monkeypatch.setattr(kept, "is_used", lambda: False)
    made = compiling.make("name", "forward", "float32", "fma", CELLS["lstm"])
    assert made.__name__.startswith("name_")
    assert asked == [True, False]


def test_a_forked_child_does_not_wait_for_its_parents_threads() -> None:
    forked = start(FORKED)
    try:
        assert forked.wait(timeout=PATIENCE_S) == 0
    finally:
        forked.kill()
