"""The Triton backend on a GPU, else interpreted: regimes, sizes, dtypes, lengths, gradients."""

import random
from collections.abc import Iterator
from itertools import combinations, product
from typing import Any

import pytest
import torch
from torch import Tensor

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.backends import fused_triton
from lstm_kernels.backends.fused_triton import parameters, sequence
from lstm_kernels.stack import Weights

# KERNELS.md, section 5: bounds on the relative L2 error of every tensor.
BOUNDS = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FACTS = sequence.architecture_of(DEVICE)
if DEVICE.type == "cuda":
    # A way to make float32 products, which a CPU has not.
    BOUNDS["tf32"] = 2e-3
REGIMES = ("own", "held", "streamed")

OPTIONS = {
    "cell": tuple(lk.CELLS),
    "bidirectional": (False, True),
    "ragged": (False, True),
    "dtype": tuple(BOUNDS),
    "seq_len": (1, 2, 9),
    "batch": (1, 3, 17),
    "hidden_size": (1, 16, 30, 64, 130, 257),
    "regime": REGIMES,
}
# The interpreter takes 20 to 100 ms a program and step: what a case may cost, in program steps.
MOST_PROGRAM_STEPS = 120


@pytest.fixture(autouse=True)
def _poisoned() -> Iterator[None]:
    """Fill memory that nobody wrote with NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.ones(3, device=DEVICE).new_empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def use_regime(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have layers run in one regime, whatever their size."""

    def use(regime: str) -> None:
        for other in REGIMES[: REGIMES.index(regime)]:
            monkeypatch.setattr(parameters, f"_{other}", lambda *_: None)

    return use


def chosen(case: tuple[Any, ...], pass_name: str = "forward") -> parameters.Parameters | None:
    """What the case's regime would launch, or None where the regime does not claim the size."""
    fields = dict(zip(OPTIONS, case, strict=True))
    regime = getattr(parameters, f"_{fields['regime']}")
    facts = () if fields["regime"] == "streamed" else (FACTS,)
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
        found = chosen(case, pass_name)
        assert found is not None
        programs = found.groups(problem) * found.tiles(problem.batch) * problem.directions
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


def draw(problem: lk.Problem, *, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Arguments of `layer`, the problem's own numbers whatever the dtype; gates not saturated."""
    generator = torch.Generator().manual_seed(0)
    own = getattr(torch, problem.dtype)

    def numbers(*shape: int, scale: float = 1.0) -> Tensor:
        drawn = torch.randn(shape, generator=generator) * scale
        return drawn.to(own).to(device, dtype).requires_grad_()

    T, B, H = problem.seq_len, problem.batch, problem.hidden_size
    rows, scale = problem.gates * H, 0.6 * H**-0.5
    weights = tuple(
        Weights(
            numbers(rows, problem.input_size, scale=0.4),
            numbers(rows, H, scale=scale),
            numbers(rows, scale=0.3),
            numbers(rows, scale=0.3),
        )
        for _ in range(problem.directions)
    )
    return {
        "x": numbers(T, B, problem.input_size),
        "h0": numbers(problem.directions, B, H, scale=0.5),
        "c0": numbers(problem.directions, B, H, scale=0.5) if problem.has_cell_state else None,
        "weights": weights,
    }


def lengths_of(problem: lk.Problem) -> Tensor | None:
    return None if problem.lengths == "full" else torch.tensor(problem.sequence_lengths())


def results(
    backend: Any,
    problem: lk.Problem,
    *,
    dtype: torch.dtype,
    device: torch.device,
    **options: Any,
) -> dict[str, Tensor]:
    """Outputs, last states and every gradient, by name, on the CPU."""
    arguments = draw(problem, dtype=dtype, device=device)
    lengths = lengths_of(problem)
    outputs = backend.layer(**arguments, problem=problem, lengths=lengths, **options)
    found = dict(zip(("y", "h_n", "c_n"), outputs, strict=True))
    found = {name: tensor for name, tensor in found.items() if tensor is not None}
    generator = torch.Generator().manual_seed(1)
    loss = sum(
        (out.cpu().double() * torch.randn(out.shape, generator=generator)).sum()
        for out in found.values()
    )
    loss.backward()
    leaves = {name: arguments[name] for name in ("x", "h0", "c0")}
    for direction, weights in enumerate(arguments["weights"]):
        leaves |= {f"{name}.{direction}": w for name, w in weights._asdict().items()}
    for name, leaf in leaves.items():
        if leaf is not None:
            # Where no sequence has a step, no weight takes part.
            found[f"d_{name}"] = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
    return {name: tensor.detach().cpu() for name, tensor in found.items()}


def errors(problem: lk.Problem, **options: Any) -> dict[str, float]:
    """Relative L2 errors against float64, by tensor."""
    dtype, cpu = getattr(torch, problem.dtype), torch.device("cpu")
    got = results(fused_triton, problem, dtype=dtype, device=DEVICE, **options)
    want = results(registry.load("reference"), problem, dtype=torch.float64, device=cpu)
    assert got.keys() == want.keys()
    found = {}
    for name, tensor in want.items():
        assert got[name].shape == tensor.shape, name
        # As in conftest: a gradient may nearly cancel.
        size = max(float(tensor.norm()), 0.1)
        found[name] = float((got[name].double() - tensor).norm()) / size
    return found


def assert_right(problem: lk.Problem, **options: Any) -> None:
    bound = BOUNDS["tf32" if problem.precision == "tf32" else problem.dtype]
    wrong = {name: e for name, e in errors(problem, **options).items() if not e <= bound}
    assert not wrong, f"relative errors over {bound}: {wrong}"


@pytest.mark.parametrize("case", covering_cases(), ids=name_of)
def test_equals_float64(case: tuple[Any, ...], use_regime: Any) -> None:
    fields = dict(zip(OPTIONS, case, strict=True))
    problem = problem_of(fields)
    use_regime(fields["regime"])
    for pass_name in ("forward", "backward"):
        assert parameters.choose(problem, pass_name, FACTS).regime == fields["regime"]
    assert_right(problem)
