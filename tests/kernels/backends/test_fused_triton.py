"""The Triton backend on a GPU, else interpreted: regimes, sizes, dtypes, lengths, gradients."""

import random
from collections.abc import Iterator
from itertools import combinations, product
from math import prod
from typing import Any
from unittest.mock import patch

import closeness
import numpy as np
import pytest
import torch
from hand_written_kernels import HAND_WRITTEN_SAVED
from pointwise_cells import POINTWISE
from small_layers import REGIMES, draw, errors, only, results
from torch import Tensor

import lstm_kernels as lk
from lstm_kernels.backends import fused_triton
from lstm_kernels.backends.fused_triton import parameters, sequence
from lstm_kernels.cells import cell, log
from lstm_kernels.cells.code.derive import derived
from lstm_kernels.registry import TORCH_CELLS
from lstm_kernels.stack import Weights

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FACTS = sequence.architecture_of(DEVICE)
DTYPES = ("float32", "float16", "bfloat16")
if DEVICE.type == "cuda":
    # A way to make float32 products, which a CPU has not.
    DTYPES = (*DTYPES, "tf32")
OPTIONS = {
    "cell": tuple(TORCH_CELLS),
    "bidirectional": (False, True),
    "ragged": (False, True),
    "dtype": DTYPES,
    # Interpreted, a step is as dear as a call.
    "seq_len": (1, 2, 9) if DEVICE.type == "cuda" else (1, 2, 4),
    "batch": (1, 3, 17),
    "hidden_size": (1, 16, 30, 64, 130, 257),
    "regime": REGIMES["triton"],
}
# The interpreter takes 20 to 100 ms a program and step: what a case may cost, in program steps, and
# what one may that every change runs.
MOST_PROGRAM_STEPS = 120
FEW_PROGRAM_STEPS = 24


@pytest.fixture(autouse=True)
def _poisoned() -> Iterator[None]:
    """Fill memory that nobody wrote with NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.ones(3, device=DEVICE).new_empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def chosen(case: tuple[Any, ...], pass_name: str = "forward") -> parameters.Parameters | None:
    """What the case's regime would launch, or None where the regime does not claim the size."""
    fields = dict(zip(OPTIONS, case, strict=True))
    regime = getattr(parameters, f"_{fields['regime']}")
    facts = () if fields["regime"] == "streamed" else (FACTS,)
    # The sample does not depend on how many programs share an SM.
    with patch.object(parameters, "MOST_RESIDENT", 1):
        return regime(problem_of(fields), pass_name, *facts)


def problem_of(fields: dict[str, Any]) -> lk.Problem:
    fields = dict(fields)
    fields.pop("regime")
    ragged = fields.pop("ragged")
    if fields["dtype"] == "tf32":
        fields |= {"dtype": "float32", "precision": "tf32"}
    lengths = f"uniform:0:{fields['seq_len']}" if ragged else "full"
    return lk.Problem(input_size=5, lengths=lengths, **fields)


def program_steps(case: tuple[Any, ...]) -> int:
    """Programs times steps of both passes."""
    fields = dict(zip(OPTIONS, case, strict=True))
    problem = problem_of(fields)
    total = 0
    for pass_name in ("forward", "backward"):
        launched = chosen(case, pass_name)
        assert launched is not None
        programs = launched.groups(problem) * launched.tiles(problem.batch) * problem.directions
        total += programs * (problem.seq_len + 1)
    return total


def covering_cases() -> list[tuple[Any, ...]]:
    """The same few cases every time: in every regime, every two values of two options meet.

    Values that meet in expensive cases alone meet in the cheapest of those.
    """
    cases = [
        case
        for case in product(*OPTIONS.values())
        if chosen(case) is not None and chosen(case, "backward") is not None
    ]
    cost = {case: program_steps(case) for case in cases}
    random.Random(0).shuffle(cases)
    cases.sort(key=lambda case: max(cost[case], MOST_PROGRAM_STEPS))
    pairs = {
        case: {(case[-1], *pair) for pair in combinations(enumerate(case[:-1]), 2)}
        for case in cases
    }
    missing = set().union(*pairs.values())
    sample = []
    affordable = [case for case in cases if cost[case] <= MOST_PROGRAM_STEPS]
    for pool in (affordable, cases):
        while best := max(pool, key=lambda case: len(pairs[case] & missing)):
            if not pairs[best] & missing:
                break
            sample.append(best)
            missing -= pairs[best]
    return sample


def name_of(case: tuple[Any, ...]) -> str:
    cell, bidirectional, ragged, dtype, T, B, H, regime = case
    parts = [regime, cell, f"T{T}", f"B{B}", f"H{H}", dtype]
    return "-".join(parts + ["bidirectional"] * bidirectional + ["ragged"] * ragged)


def assert_right(problem: lk.Problem, **options: Any) -> None:
    bound = closeness.LAYER["tf32" if problem.precision == "tf32" else problem.dtype]
    closeness.assert_within(bound, errors(fused_triton, problem, DEVICE, **options), problem)


def marked(case: tuple[Any, ...]) -> Any:
    few = DEVICE.type == "cuda" or program_steps(case) <= FEW_PROGRAM_STEPS
    return pytest.param(case, marks=[] if few else pytest.mark.slow)


@pytest.mark.parametrize("case", map(marked, covering_cases()), ids=name_of)
def test_equals_float64(case: tuple[Any, ...]) -> None:
    fields = dict(zip(OPTIONS, case, strict=True))
    problem = problem_of(fields)
    with only("triton", fields["regime"]):
        for pass_name in ("forward", "backward"):
            assert parameters.choose(problem, pass_name, FACTS).regime == fields["regime"]
        assert_right(problem)


def regimes_of(cell: str) -> tuple[str, ...]:
    return REGIMES["triton"] if lk.CELLS[cell].h_blocks else ("alone",)


# Of the cells that PyTorch has not, what every change runs: four states and a division on one SM,
# parameters a unit whose gradients are carried from launch to launch, columns that no slot has, and
# no product at all.
TELLING = (
    ("slstm", "own"),
    ("lstm_peephole", "streamed"),
    ("lstm_cifg", "held"),
    ("indrnn", "alone"),
)
# Beside the sample: every cell in every regime, and more sequences than the smaller tile holds.
IN_FLOAT64 = [
    pytest.param(cell, regime, fields, marks=pytest.mark.slow if slow else [])
    for cell in POINTWISE
    for regime in regimes_of(cell)
    for fields, slow in (
        (
            {"hidden_size": 30, "bidirectional": True, "lengths": "uniform:0:3"},
            cell != "lstm" and (cell, regime) not in TELLING,
        ),
        ({"hidden_size": 16, "batch": 17}, True),
    )
]


@pytest.mark.parametrize(("cell", "regime", "fields"), IN_FLOAT64)
def test_computes_in_float64(cell: str, regime: str, fields: dict[str, Any]) -> None:
    sizes = {"seq_len": 3, "batch": 3, "input_size": 5} | fields
    problem = lk.Problem(cell, **sizes, dtype="float64")
    with only("triton", regime):
        for pass_name in ("forward", "backward"):
            assert parameters.choose(problem, pass_name, FACTS).regime == regime
        assert_right(problem)


# Every cell in every regime; of PyTorch's every change runs one of the two lengths of each.
RECOMPUTED = [
    pytest.param(cell, regime, lengths, marks=[] if fast else pytest.mark.slow)
    for i, cell in enumerate(name for name in POINTWISE if derived(lk.CELLS[name]).saved)
    for j, regime in enumerate(regimes_of(cell))
    for k, lengths in enumerate(("full", "uniform:0:4"))
    for fast in [
        (i + j + k) % 2 if cell in TORCH_CELLS else (cell, regime, k) == ("slstm", "own", 1)
    ]
]


@pytest.mark.parametrize(("cell", "regime", "lengths"), RECOMPUTED)
def test_recompute(cell: str, regime: str, lengths: str) -> None:
    problem = lk.Problem(cell, 4, 3, 5, 16, bidirectional=True, lengths=lengths)
    with only("triton", regime):
        assert_right(problem, recompute=True)


@pytest.mark.parametrize("regime", REGIMES["triton"])
def test_recompute_in_float64(regime: str) -> None:
    problem = lk.Problem("lstm", 4, 3, 5, 16, lengths="uniform:0:4", dtype="float64")
    with only("triton", regime):
        assert_right(problem, recompute=True)


@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 4), ("rnn_relu", 0)])
def test_recompute_saves_no_gates(cell: str, gates: int) -> None:
    problem = lk.Problem(cell, 4, 3, 5, 16)

    def saved_elements(**options: bool) -> int:
        shapes: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            shapes[tensor.data_ptr()] = tensor.numel()
            return tensor

        arguments = draw(problem, dtype=torch.float32, device=DEVICE)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            kept = fused_triton.layer(**arguments, problem=problem, **options)
        assert kept[0].requires_grad
        return sum(shapes.values())

    less = saved_elements() - saved_elements(recompute=True)
    assert less == gates * problem.seq_len * problem.batch * problem.hidden_size


@pytest.mark.parametrize(("cell", "recompute"), HAND_WRITTEN_SAVED)
def test_no_more_is_saved_than_by_kernels_written_by_hand(cell: str, recompute: bool) -> None:
    problem = lk.Problem(cell, 4, 3, 5, 16)
    shapes = sequence.saved_shapes(problem, 4, 3, recompute=recompute)
    values = sum(prod(shape) for shape in shapes if shape is not None)
    assert values <= HAND_WRITTEN_SAVED[cell, recompute] * prod((4, 3, 16))


def test_a_repeat_is_bit_identical() -> None:
    batch = 17 if DEVICE.type == "cuda" else 3
    problem = lk.Problem("lstm", 3, batch, 5, 30, bidirectional=True, lengths="uniform:0:3")
    with only("triton", "held"):
        first, second = (
            results(fused_triton, problem, dtype=torch.float32, device=DEVICE) for _ in range(2)
        )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_past_a_sequences_end_nothing_is_read_and_y_is_zero() -> None:
    problem = lk.Problem("lstm", 5, 3, 4, 16, bidirectional=True)
    arguments = draw(problem, dtype=torch.float32, device=DEVICE)
    lengths = torch.tensor([5, 0, 2], device=DEVICE)
    past = torch.arange(5, device=DEVICE).unsqueeze(1) >= lengths
    with torch.no_grad():
        arguments["x"][past] = torch.nan
    y, h_n, c_n = fused_triton.layer(**arguments, problem=problem, lengths=lengths)
    assert not y[past].any()
    assert torch.equal(h_n[:, 1], arguments["h0"][:, 1])
    (y.sum() + h_n.sum() + c_n.sum()).backward()
    leaves = [arguments["x"], arguments["h0"], *(w for ws in arguments["weights"] for w in ws)]
    assert all(leaf.grad.isfinite().all() for leaf in leaves if leaf is not None)
    assert not arguments["x"].grad[past].any()


def test_strided_weights_and_frozen_ones() -> None:
    problem = lk.Problem("gru", 3, 2, 4, 16)
    arguments = draw(problem, dtype=torch.float32, device=DEVICE)
    (weights,) = arguments["weights"]
    plain = fused_triton.layer(**arguments, problem=problem)[0]

    def strided(tensor: Tensor) -> Tensor:
        wide = torch.stack([tensor.detach(), torch.full_like(tensor, torch.nan)], dim=-1)
        return wide[..., 0]

    arguments["weights"] = (Weights._make(None if w is None else strided(w) for w in weights),)
    y, _, _ = fused_triton.layer(**arguments, problem=problem)
    assert torch.equal(y, plain)
    y.sum().backward()
    assert arguments["x"].grad.isfinite().all()
    assert weights.w_hh.grad is None


def test_what_it_refuses() -> None:
    def reason(**fields: Any) -> str | None:
        return fused_triton.unsupported(lk.Problem("lstm", 2, 2, 4, 8, **fields), str(DEVICE))

    assert reason() is None
    assert reason(dtype="float64") is None
    assert reason(proj_size=3) is None


def test_a_cell_of_more_slots_than_a_product_has_columns_is_refused(monkeypatch: Any) -> None:
    @cell(gates="a b c d", states="h", apart="d")
    def of_five(p, h):
        return p.a * p.b + p.c * p.d_x - p.d_h

    monkeypatch.setitem(lk.CELLS, "of_five", of_five)
    problem = lk.Problem("of_five", 2, 2, 4, 8)
    reason = fused_triton.unsupported(problem, str(DEVICE))
    assert reason == "cell 'of_five' has 5 pre-activations a unit; the triton backend has 4"


def test_what_stands_for_no_unit_is_in_no_product(monkeypatch: Any) -> None:
    """Where all that is read is 0, this cell's state is NaN; of each unit there is, it is not."""

    @cell(gates="a", states="h c", positive="c")
    def of_a_logarithm(p, h, c):
        return log(c - 1) + p.a, c

    monkeypatch.setitem(lk.CELLS, "of_a_logarithm", of_a_logarithm)
    problem = lk.Problem("of_a_logarithm", 3, 2, 5, 30)
    arguments = draw(problem, dtype=torch.float32, device=DEVICE)
    arguments["c0"] = arguments["c0"].detach() + 2
    with only("triton", "own"), np.errstate(all="ignore"):
        assert parameters.choose(problem, "forward", FACTS).regime == "own"
        y, h_n, _ = fused_triton.layer(**arguments, problem=problem)
        (y.sum() + h_n.sum()).backward()
    assert y.isfinite().all()
    assert arguments["x"].grad.isfinite().all()


def test_modules_take_recompute_where_the_backend_has_it() -> None:
    torch.manual_seed(0)
    plain = lk.LSTM(4, 8, backend="triton", device=DEVICE)
    thrifty = lk.LSTM(4, 8, backend="triton", recompute=True, device=DEVICE)
    thrifty.load_state_dict(plain.state_dict())
    x = torch.randn(3, 2, 4, device=DEVICE)
    for module in (plain, thrifty):
        module(x)[0].square().sum().backward()
    assert "recompute=True" in repr(thrifty)
    for one, other in zip(plain.parameters(), thrifty.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    with pytest.raises(ValueError, match="backend 'naive' has no recompute; expected one of"):
        lk.LSTM(4, 8, backend="naive", recompute=True)
