"""The Numba CUDA backend on a GPU, else simulated: regimes, blocks, sizes, lengths, gradients."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import closeness
import numpy as np
import pytest
import torch
from covering import covering_sample
from pointwise_cells import POINTWISE
from small_layers import REGIMES, draw, errors, only, regimes_of, simulated
from torch import Tensor

import lstm_kernels as lk
from lstm_kernels.gpu.machine_code import ARCHITECTURES
from lstm_kernels.stack import Weights

pytest.importorskip("numba.cuda", reason="the Numba CUDA backend needs numba-cuda")
backend = pytest.importorskip("lstm_kernels.backends.fused_numba_cuda")
exchange = pytest.importorskip("lstm_kernels.backends.fused_numba_cuda.exchange")
launches = pytest.importorskip("lstm_kernels.backends.fused_numba_cuda.launches")
memory = pytest.importorskip("lstm_kernels.backends.fused_numba_cuda.memory")
parameters = pytest.importorskip("lstm_kernels.backends.fused_numba_cuda.parameters")
sequence = pytest.importorskip("lstm_kernels.backends.fused_numba_cuda.sequence")

ON_CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_CUDA else "cpu")

OPTIONS: dict[str, tuple[Any, ...]] = {
    "cell": tuple(POINTWISE),
    "bidirectional": (False, True),
    "ragged": (False, True),
    "bias": (True, False),
    "dtype": ("float32", "float64"),
    "seq_len": (1, 2, 9) if ON_CUDA else (1, 2, 4),
    "batch": (1, 3, 8, 17) if ON_CUDA else (1, 3, 5),
    "hidden_size": (1, 16, 30, 257, 512, 1030) if ON_CUDA else (1, 5, 16, 22),
    "regime": REGIMES["numba_cuda"],
}
if not ON_CUDA:
    # Lanes and parts of a simulated block, and SMs: fewer of these make more turns.
    OPTIONS |= {"block": ((8, 1), (8, 2), (4, 3), (12, 2)), "sm_count": (6, 11, 200)}


@pytest.fixture(autouse=True)
def _poisoned() -> Iterator[None]:
    """Fill memory that nobody wrote with NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.ones(3, device=DEVICE).new_empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def problem_of(fields: dict[str, Any]) -> lk.Problem:
    fields = {name: fields[name] for name in fields if name not in ("regime", "block", "sm_count")}
    lengths = f"uniform:0:{fields['seq_len']}" if fields.pop("ragged") else "full"
    return lk.Problem(input_size=5, lengths=lengths, **fields)


def name_of(case: tuple[Any, ...]) -> str:
    cell, bidirectional, ragged, bias, dtype, T, B, H, regime, *block = case
    parts = [regime, cell, dtype, f"T{T}", f"B{B}", f"H{H}", *(f"{each}" for each in block)]
    return "-".join(
        parts + ["bidirectional"] * bidirectional + ["ragged"] * ragged + ["no-bias"] * (not bias)
    )


def assert_right(problem: lk.Problem) -> None:
    closeness.assert_within(
        closeness.LAYER[problem.dtype], errors(backend, problem, DEVICE), problem
    )


@pytest.mark.parametrize("case", covering_sample(OPTIONS), ids=name_of)
def test_equals_float64(case: tuple[Any, ...]) -> None:
    fields = dict(zip(OPTIONS, case, strict=True))
    problem = problem_of(fields)
    with ExitStack() as contexts:
        if not ON_CUDA:
            contexts.enter_context(simulated(*fields["block"], fields["sm_count"]))
        contexts.enter_context(only("numba_cuda", fields["regime"]))
        # Few simulated SMs may not hold a layer.
        if problem.h_gates == 0 or fields["regime"] == "streamed":
            assert regimes_of("numba_cuda", problem, DEVICE) == ["streamed"] * 2
        elif ON_CUDA:
            assert regimes_of("numba_cuda", problem, DEVICE) == ["held"] * 2
        assert_right(problem)


@pytest.mark.skipif(ON_CUDA, reason="runs as it is on a GPU")
@pytest.mark.parametrize(
    ("cell", "dtype"), [("lstm", "float32"), ("gru", "float32"), ("lstm", "float64")]
)
def test_the_blocks_of_a_gpu_are_right(cell: str, dtype: str) -> None:
    """256 threads, and weights that overflow from registers into shared memory."""
    problem = lk.Problem(cell, 1, 2, 3, 14, bidirectional=True, dtype=dtype)
    with simulated(32, 8, 4, registers=(4,) if cell == "lstm" else (32,)):
        assert parameters.choose(problem, "forward", parameters.SIMULATOR).regime == "held"
        assert_right(problem)


@pytest.mark.skipif(ON_CUDA, reason="a GPU has the SMs that it has")
@pytest.mark.parametrize("cell", ["lstm", "rnn_relu"])
def test_turns_of_tiles_and_directions(cell: str) -> None:
    """A layer of which neither both directions nor all sequences fit at once."""
    sizes = {"lstm": ((8, 1, 5), 5), "rnn_relu": ((4, 3, 6), 16)}
    simulator, hidden = sizes[cell]
    problem = lk.Problem(cell, 2, 5, 3, hidden, bidirectional=True, lengths="uniform:0:2")
    with simulated(*simulator):
        chosen = parameters.choose(problem, "forward", parameters.SIMULATOR)
        assert chosen.tiles(problem.batch) > chosen.tiles_at_once(problem, simulator[-1])
        assert chosen.directions == 1
        assert_right(problem)


@pytest.mark.skipif(ON_CUDA, reason="a GPU has blocks of its own")
def test_the_sample_meets_what_blocks_can_be() -> None:
    properties = set()
    for case in covering_sample(OPTIONS):
        fields = dict(zip(OPTIONS, case, strict=True))
        problem = problem_of(fields)
        with simulated(*fields["block"], fields["sm_count"]):
            chosen = parameters.choose(problem, "forward", parameters.SIMULATOR)
        if fields["regime"] == chosen.regime == "held":
            properties |= {
                ("rows of a tile", chosen.tile > 1),
                ("weights in shared memory", chosen.in_shared > 0),
                ("idle lanes", chosen.lanes > chosen.units * problem.h_gates),
            }
    assert {name for name, met in properties if met} == {name for name, _ in properties}


SIZES = [
    (cell, H, B, bidirectional)
    for cell in (name for name in POINTWISE if lk.CELLS[name].h_blocks)
    for H in (1, 30, 64, 256, 512, 768, 1024, 1100, 1536, 2048)
    for B in (1, 2, 3, 4, 8, 16, 33, 100)
    for bidirectional in (False, True)
]


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("pass_name", ["forward", "backward"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_held_fits_and_is_resident(arch: str, pass_name: str, dtype: str) -> None:
    on = ARCHITECTURES[arch]
    held = 0
    for cell, H, B, bidirectional in SIZES:
        problem = lk.Problem(cell, 8, B, H, H, bidirectional=bidirectional, dtype=dtype)
        picked = parameters.choose(problem, pass_name, on)
        if picked.regime == "streamed":
            continue
        held += 1
        name = f"{problem.label()}: {picked}"
        at_once = picked.tiles_at_once(problem, on.sm_count)
        assert at_once >= 1, name
        assert picked.groups(problem) * at_once * picked.directions <= on.sm_count, name
        assert picked.shared_bytes(problem, pass_name) <= on.shared_per_block, name
        assert picked.threads <= parameters.ON_CUDA[dtype].threads, name
        assert picked.units * picked.tile <= picked.threads, name
        assert picked.units * problem.h_gates <= picked.lanes, name
        assert picked.parts * (picked.registers + picked.in_shared) >= H, name
        # Vectors, sums and weights in shared memory each start at 16 bytes.
        assert picked.lanes % 4 == picked.registers % 4 == picked.in_shared % 4 == 0, name
    assert held > len(SIZES) / (2 if dtype == "float32" else 3)


def test_a_float64_takes_twice_the_room() -> None:
    problem = lk.Problem("lstm", 8, 4, 512, 512)
    double = replace(problem, dtype="float64")
    for pass_name in ("forward", "backward"):
        picked = parameters.choose(double, pass_name, ARCHITECTURES["sm_90"])
        vectors = picked.tile * (4 if pass_name == "backward" else 1)
        # Where vectors lie is told in as many bytes.
        bases = 64 * -(-vectors // 4)
        shared_bytes = [picked.shared_bytes(each, pass_name) - bases for each in (problem, double)]
        assert shared_bytes[1] == 2 * shared_bytes[0] > 0


@pytest.mark.parametrize("hidden", [256, 512, 768, 1024])
@pytest.mark.parametrize("batch", [1, 2, 4, 8])
def test_an_h100_holds_these_in_registers(hidden: int, batch: int) -> None:
    problem = lk.Problem("lstm", 64, batch, hidden, hidden)
    for pass_name in ("forward", "backward"):
        picked = parameters.choose(problem, pass_name, ARCHITECTURES["sm_90"])
        assert (picked.regime, picked.in_shared) == ("held", 0)
        assert picked.turns(problem, 132) == 1


def first_launch(problem: lk.Problem, **changed: Any) -> Any:
    """The first launch of a simulated inference, some of its arguments changed."""
    arguments = draw(problem, dtype=torch.float32, device=DEVICE)
    x, h0, c0 = (arguments[name].detach() for name in ("x", "h0", "c0"))
    weights = tuple(Weights(*(w.detach() for w in ws[:4])) for ws in arguments["weights"])
    to = sequence.new_forward(problem, x, h0, c0, weights, None, saves=False)
    sequence.parts_from_x(x, weights, to.from_x)
    chosen = parameters.choose(problem, "forward", parameters.SIMULATOR)
    launch = next(launches.held_forward(problem, chosen, to, parameters.SIMULATOR, saves=False))
    return replace(launch, arguments=launch.arguments | changed)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_told_is_marked_and_nothing_else(dtype: str) -> None:
    told = torch.zeros(2, 3, 4, 5, dtype=getattr(torch, dtype), device=DEVICE)
    lengths = torch.tensor([3, 0, 2, 1], device=DEVICE)
    exchange.mark_not_yet(told, lengths)
    marked = (told.view(torch.int32).view(*told.shape, -1) == memory.NOT_YET - (1 << 32)).all(-1)
    alive = torch.arange(3, device=DEVICE).unsqueeze(1) < lengths
    assert torch.equal(marked, alive.unsqueeze(-1).expand_as(told))
    assert told[~marked].eq(0).all()
    assert told[marked].isnan().all()
    exchange.mark_not_yet(told, lengths.new_empty(0))
    assert (told.view(torch.int32) == memory.NOT_YET - (1 << 32)).all()


@pytest.mark.skipif(ON_CUDA, reason="compiled there, and not to be called")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_not_yet_alone_is_replaced(dtype: str) -> None:
    bits = {"float32": "u4", "float64": "u8"}[dtype]
    not_yet = memory.NOT_YET_BITS[np.dtype(dtype).itemsize]
    numbers = [0.0, -0.0, 1.5, np.inf, np.nan]
    others = [np.array(n, dtype).view(bits)[()] for n in numbers] + [not_yet ^ 1, not_yet - 1]
    for each in others:
        value = np.array(each, bits).view(dtype)[()]
        assert not memory.is_not_yet(value)
        assert memory.other_than_not_yet(value).view(bits) == each
    value = np.array(not_yet, bits).view(dtype)[()]
    assert memory.is_not_yet(value)
    instead = memory.other_than_not_yet(value)
    assert np.isnan(instead)
    assert instead.dtype == dtype
    assert not memory.is_not_yet(instead)
    for at in range(4):
        four = [numbers[0]] * 4
        four[at] = value
        assert memory.some_not_yet(*map(np.dtype(dtype).type, four)) == (at in range(4))
    assert not memory.some_not_yet(*map(np.dtype(dtype).type, numbers[:4]))


@pytest.mark.skipif(ON_CUDA, reason="tests/gpu/broken_flag.py does it")
@pytest.mark.parametrize("hidden", [7, 8])
def test_a_block_that_waits_in_vain_ends_in_an_error(hidden: int) -> None:
    problem = lk.Problem("lstm", 3, 1, 4, hidden)
    # The first block's second step waits for the others' first, and they have not begun.
    launch = first_launch(problem, waits=1, last=3, poll_limit=5)
    exchange.mark_not_yet(launch.arguments["y"], launch.arguments["lengths"])
    with pytest.raises(RuntimeError, match="trap"):
        launch.run()


def test_strided_weights_and_a_state_off_its_boundary() -> None:
    problem = lk.Problem("gru", 3, 2, 4, 8)
    arguments = draw(problem, dtype=torch.float32, device=DEVICE)
    (weights,) = arguments["weights"]
    plain = backend.layer(**arguments, problem=problem)[0]

    def strided(tensor: Tensor) -> Tensor:
        wide = torch.stack([tensor.detach(), torch.full_like(tensor, torch.nan)], dim=-1)
        return wide[..., 0]

    h0 = arguments["h0"].detach()
    odd = torch.cat([torch.zeros(1, device=DEVICE), h0.flatten()])[1:].view_as(h0)
    assert odd.data_ptr() % 16
    arguments |= {"weights": (Weights._make(w if w is None else strided(w) for w in weights),)}
    y, _, _ = backend.layer(**arguments | {"h0": odd}, problem=problem)
    assert torch.equal(y, plain)
    y.sum().backward()
    assert arguments["x"].grad.isfinite().all()
    assert weights.w_hh.grad is None


def test_what_it_refuses() -> None:
    def reason(**fields: Any) -> str | None:
        return backend.unsupported(lk.Problem("lstm", 2, 2, 4, 8, **fields), str(DEVICE))

    assert reason() is None
    assert reason(dtype="float64") is None
    assert reason(proj_size=3, dtype="bfloat16") is None
    if ON_CUDA:
        assert "tf32" in str(reason(precision="tf32"))
    tf32 = lk.Problem("lstm", 2, 2, 4, 8, precision="tf32")
    with pytest.raises(lk.stack.Unsupported, match="tf32"):
        backend.launches_for(tf32, "sm_90")
