"""What no interpreter can show: repeats, hangs, graphs, streams, and torch.nn's modules on CUDA."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import closeness
import pytest
import torch
from places import ROOT
from torch import Tensor

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.registry import TORCH_CELLS

small_layers = pytest.importorskip("small_layers")

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="torch finds no CUDA device here"
)

DEVICE = torch.device("cuda")
BROKEN_FLAG = ROOT / "tests" / "gpu" / "broken_flag.py"
REPEATS = 100

# Several programs, batch tiles and chunks of the state; `own` needs all weights in one SM.
SIZES = {"own": 100, "held": 300, "streamed": 300}
DTYPES = {"triton": "float16", "numba_cuda": "float32"}
PROBLEM = lk.Problem(
    "lstm",
    seq_len=40,
    batch=35,
    input_size=24,
    hidden_size=300,
    bidirectional=True,
    lengths="uniform:0:40",
)
FUSED = [
    (backend, regime) for backend, regimes in small_layers.REGIMES.items() for regime in regimes
]
ON_CUDA = [
    backend.name
    for backend in registry.registered().values()
    if "cuda" in backend.devices and backend.name != "reference"
]


@pytest.fixture(params=FUSED, ids="-".join)
def regime(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """A fused backend, and the regime that its layers run in."""
    backend, regime = request.param
    for package in registry.get(backend).requires:
        pytest.importorskip(package, reason=f"{backend} needs {package}")
    with small_layers.only(backend, regime):
        yield backend, regime


def layer_in(regime: tuple[str, str], **fields: Any) -> Any:
    """A layer that runs in that regime both ways."""
    backend, name = regime
    usual = {"hidden_size": SIZES[name], "dtype": DTYPES[backend]}
    problem = replace(PROBLEM, **usual | fields)
    assert small_layers.regimes_of(backend, problem, DEVICE) == [name] * 2
    return small_layers.Layer.draw(problem, DEVICE, backend)


def alone(layer: Any) -> dict[str, Tensor]:
    """Its results with the device to itself."""
    torch.cuda.synchronize()
    results = {name: tensor.clone() for name, tensor in layer.run().items()}
    torch.cuda.synchronize()
    return results


def differing(got: dict[str, Tensor], want: dict[str, Tensor]) -> set[str]:
    assert got.keys() == want.keys()
    return {name for name, tensor in want.items() if not torch.equal(got[name], tensor)}


class Load:
    """Work for the SMs on streams of its own: products that fill the device, waits that hold on."""

    def __init__(self) -> None:
        self.streams = [torch.cuda.Stream() for _ in range(4)]
        self.operand = torch.randn(2048, 2048, device=DEVICE, dtype=torch.float16)

    def queue(self, *, products: int, wait_cycles: int = 0) -> None:
        for stream in self.streams:
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(products):
                    torch.mm(self.operand, self.operand)
                if wait_cycles:
                    torch.cuda._sleep(wait_cycles)


@contextmanager
def on_stream(stream: torch.cuda.Stream) -> Iterator[None]:
    """Work on it, after what is queued on the current one and before what comes next there."""
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream().wait_stream(stream)


@pytest.mark.parametrize("poll_limit", ["4096", "as it is"])
@pytest.mark.parametrize("backend_name", small_layers.REGIMES)
def test_a_broken_flag_is_an_error_and_no_hang(backend_name: str, poll_limit: str) -> None:
    limit = [] if poll_limit == "as it is" else [poll_limit]
    done = subprocess.run(
        [sys.executable, str(BROKEN_FLAG), backend_name, *limit],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "ended in an error after" in done.stdout


def test_a_captured_layer_is_the_same(regime: tuple[str, str]) -> None:
    layer = layer_in(regime)
    want = alone(layer)
    side = torch.cuda.Stream()
    with on_stream(side):
        layer.run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = layer.run()
    for _ in range(3):
        for tensor in got.values():
            tensor.fill_(torch.nan)
        graph.replay()
        assert not differing(got, want)


def test_a_second_stream_gives_the_same(regime: tuple[str, str]) -> None:
    layer = layer_in(regime)
    want = alone(layer)
    with on_stream(torch.cuda.Stream()):
        got = layer.run()
    assert not differing(got, want)


def test_a_layer_waits_for_held_sms_and_is_the_same(regime: tuple[str, str]) -> None:
    layer = layer_in(regime)
    want = alone(layer)
    load = Load()
    for _ in range(3):
        load.queue(products=20, wait_cycles=100_000_000)
        with on_stream(torch.cuda.Stream()):
            got = layer.run()
        load.queue(products=20)
        assert not differing(got, want)


def test_layers_on_two_streams_at_once_are_the_same(regime: tuple[str, str]) -> None:
    """Either may need more than half of the SMs: neither may wait for programs that never start."""
    layers = [layer_in(regime), layer_in(regime, cell="gru", lengths="full")]
    wanted = [alone(layer) for layer in layers]
    streams = [torch.cuda.Stream() for _ in layers]
    rounds: list[list[dict[str, Tensor]]] = []
    for _ in range(20):
        rounds.append([])
        for layer, stream in zip(layers, streams, strict=True):
            with torch.cuda.stream(stream):
                rounds[-1].append(layer.run())
    torch.cuda.synchronize()
    for pair in rounds:
        assert [differing(*each) for each in zip(pair, wanted, strict=True)] == [set()] * 2


@pytest.mark.parametrize("cell", TORCH_CELLS)
def test_repeats_are_bit_identical_on_a_busy_device(regime: tuple[str, str], cell: str) -> None:
    layer = layer_in(regime, cell=cell)
    want = alone(layer)
    assert all(tensor.isfinite().all() for tensor in want.values())
    load = Load()
    wrong: dict[str, int] = {}
    for _ in range(REPEATS):
        load.queue(products=2)
        for name in differing(layer.run(), want):
            wrong[name] = wrong.get(name, 0) + 1
    assert not wrong, f"of {REPEATS} repeats, so many differed: {wrong}"


@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_repeats_in_float32_are_bit_identical(precision: str) -> None:
    pytest.importorskip("triton")
    with small_layers.only("triton", "held"):
        layer = layer_in(("triton", "held"), dtype="float32", precision=precision)
        want = alone(layer)
        for _ in range(REPEATS):
            assert not differing(layer.run(), want)


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("name", ON_CUDA)
def test_equals_torch_nn(
    name: str,
    cell: str,
    ragged: bool,
    make_pair: Any,
    run_module: Any,
    assert_same: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two layers, both directions, against torch.nn on the CPU in float64."""
    T, B, inputs, H = 7, 5, 6, 40
    problem = lk.Problem(cell, T, B, inputs, H, num_layers=2, bidirectional=True)
    for package in registry.get(name).requires:
        pytest.importorskip(package, reason=f"{name} needs {package}")
    reason = registry.load(name).unsupported(problem, "cuda")
    if reason is not None:
        pytest.skip(f"{name}: {reason}")
    # cuDNN's default for float32 is TF32.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    theirs, ours = make_pair(cell, name, inputs, H, num_layers=2, bidirectional=True)
    x = torch.randn(T, B, inputs)
    states = tuple(torch.randn(4, B, H) for _ in range(1 + (cell == "lstm")))
    lengths = torch.tensor([3, 7, 1, 7, 2]) if ragged else None
    want = run_module(theirs.double(), x.double(), tuple(s.double() for s in states), lengths)
    ours = ours.to(DEVICE)
    got = run_module(ours, x.to(DEVICE), tuple(s.to(DEVICE) for s in states), lengths)
    assert ours.chosen_backend == name
    assert_same(got, want)


@pytest.mark.parametrize("name", ON_CUDA)
def test_a_gradient_penalty_equals_float64_on_the_cpu_or_is_refused(
    name: str, cell: str, make_pair: Any, assert_same: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cuDNN and torch.compile give first derivatives alone, and say so."""
    T, B, inputs, H = 5, 3, 6, 40
    for package in registry.get(name).requires:
        pytest.importorskip(package, reason=f"{name} needs {package}")
    reason = registry.load(name).unsupported(lk.Problem(cell, T, B, inputs, H), "cuda")
    if reason is not None:
        pytest.skip(f"{name}: {reason}")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    _, ours = make_pair(cell, name, inputs, H, bidirectional=True)
    _, theirs = make_pair(cell, "naive", inputs, H, bidirectional=True)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(T, B, inputs)

    def penalised(module: torch.nn.RNNBase, x: Tensor) -> dict[str, Tensor]:
        x = x.clone().requires_grad_()
        y, _ = module(x)
        (d_x,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        d_x.square().sum().backward()
        return {parameter: p.grad for parameter, p in module.named_parameters()}

    ours = ours.to(DEVICE)
    if name == "cudnn":
        with pytest.raises(RuntimeError, match="Double backwards"):
            penalised(ours, x.to(DEVICE))
        return
    assert_same(penalised(ours, x.to(DEVICE)), penalised(theirs.double(), x.double()))


@pytest.mark.parametrize("name", ON_CUDA)
def test_autocast_gives_torch_nns_dtypes_and_values(name: str, cell: str, make_pair: Any) -> None:
    T, B, inputs, H = 5, 3, 6, 40
    problem = lk.Problem(cell, T, B, inputs, H, bidirectional=True, dtype="float16")
    for package in registry.get(name).requires:
        pytest.importorskip(package, reason=f"{name} needs {package}")
    reason = registry.load(name).unsupported(problem, "cuda")
    if reason is not None:
        pytest.skip(f"{name}: {reason}")
    x = torch.randn(T, B, inputs, device=DEVICE)
    found = []
    for module in make_pair(cell, name, inputs, H, bidirectional=True):
        module, leaf = module.to(DEVICE), x.clone().requires_grad_()
        with torch.autocast("cuda", torch.float16):
            y, last = module(leaf)
        last = last if isinstance(last, tuple) else (last,)
        (y.float().pow(2).sum() + sum(state.float().sum() for state in last)).backward()
        results = [y, *last, leaf.grad, *(p.grad for p in module.parameters())]
        found.append(dict(enumerate(results)))
    want, got = found
    assert {i: t.dtype for i, t in got.items()} == {i: t.dtype for i, t in want.items()}
    # Either may be that far from what is exact.
    errors = closeness.relative_errors(got, want)
    closeness.assert_within(2 * closeness.LAYER["float16"], errors, f"{name} {cell}")
