"""bfloat16 on numba_cpu, multiplied in pairs: by AMX's tiles, or by dot products.

On a CPU that has neither, the same tests hold what is computed in float32 instead.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numba", reason="numba_cpu needs numba")

import llvmlite.binding as llvm
import torch
from by_oracle import results, widened
from closeness import relative_errors
from compiled_elsewhere import X86_64
from other_cpus import assembly
from pointwise_cells import POINTWISE
from torch import Tensor

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.backends.numba_cpu import pairing, sequence, team
from lstm_kernels.stack import run

PRODUCT = pairing.product_of("bfloat16").name
SIZES = {
    "one": {"seq_len": 1, "batch": 1, "input_size": 1, "hidden_size": 1},
    # Units and inputs that fill no 32, and rows that fill no tile.
    "odd": {"seq_len": 7, "batch": 19, "input_size": 33, "hidden_size": 17},
    "full": {"seq_len": 5, "batch": 32, "input_size": 64, "hidden_size": 64},
    # More pairs of step and row than a chunk has.
    "chunks": {"seq_len": 130, "batch": 9, "input_size": 20, "hidden_size": 48},
    "wide": {"seq_len": 3, "batch": 300, "input_size": 70, "hidden_size": 47},
    "large": {"seq_len": 12, "batch": 20, "input_size": 65, "hidden_size": 257},
}
# What a layer rounds to bfloat16 are its inputs, its outputs and what it multiplies: a few
# roundings of 2^-9. The worst tensor was off by 0.005, but for slstm's.
BOUND = 0.015
WITH_RELU = ("rnn_relu", "indrnn")

# One worker compiles for every test of these kernels (see conftest), which may be those of float32.
pytestmark = pytest.mark.xdist_group("numba_cpu" if PRODUCT == "fma" else "numba_cpu in pairs")


@pytest.fixture(autouse=True)
def _threads_whatever_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "WORTH_MEETING", 0)


def errors_of(problem: lk.Problem, arguments: dict[str, Any]) -> dict[str, float]:
    """Relative errors of every output and gradient against float64, what is not finite infinite."""
    got = results("numba_cpu", problem, arguments)
    assert {tensor.dtype for tensor in got.values()} == {torch.bfloat16}
    want = results("reference", *widened(problem, arguments))
    return relative_errors({name: tensor.double() for name, tensor in got.items()}, want)


def tame(problem: lk.Problem, arguments: dict[str, Any]) -> None:
    """Make what h meets so small that rounding errors do not grow from step to step.

    Nor is a unit so near 0 that rounding decides whether it has a gradient.
    """
    with torch.no_grad():
        for one in arguments["weights"]:
            one.w_hh.mul_(1.2 * problem.hidden_size**-0.5)
            if one.per_unit is not None:
                one.per_unit.abs_().mul_(0.5)
            if problem.cell in WITH_RELU and one.b_ih is not None:
                one.b_ih.add_(6.0)


def assert_right(problem: lk.Problem, arguments: dict[str, Any]) -> None:
    """Every tensor is near float64's, or nearer than PyTorch's own loop is in bfloat16."""
    tame(problem, arguments)
    errors = errors_of(problem, arguments)
    wrong = {name for name, error in errors.items() if not error <= BOUND}
    if wrong:
        naive = results("naive", problem, arguments)
        want = results("reference", *widened(problem, arguments))
        others = relative_errors({name: tensor.double() for name, tensor in naive.items()}, want)
        assert not [name for name in wrong if not errors[name] <= others[name]]


@pytest.mark.parametrize("form", ["one-way", "bidirectional", "ragged"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_lstm_equals_float64(sizes: dict[str, int], form: str, make_layer: Any) -> None:
    # The oracle has no gradients where no sequence has a step.
    fewest = 0 if sizes["batch"] > 1 else 1
    lengths = f"uniform:{fewest}:{sizes['seq_len']}" if form == "ragged" else "full"
    of = {"dtype": "bfloat16", "bidirectional": form != "one-way", "lengths": lengths}
    assert_right(*make_layer("lstm", **sizes, **of))


@pytest.mark.slow
@pytest.mark.parametrize("lengths", ["full", "uniform"])
@pytest.mark.parametrize("sizes", ["one", "odd", "chunks"])
@pytest.mark.parametrize("cell", [name for name in POINTWISE if name != "lstm"])
def test_every_cell_equals_float64(cell: str, sizes: str, lengths: str, make_layer: Any) -> None:
    if lengths == "uniform":
        lengths = f"uniform:1:{SIZES[sizes]['seq_len']}"
    of = {"dtype": "bfloat16", "bidirectional": True, "lengths": lengths}
    assert_right(*make_layer(cell, **SIZES[sizes], **of))


@pytest.mark.parametrize("of", [{"bias": False}, {"num_layers": 2}, {"proj_size": 5}], ids=str)
def test_forms_of_a_network_equal_float64(of: dict[str, Any], make_layer: Any) -> None:
    assert_right(*make_layer("lstm", **SIZES["odd"], dtype="bfloat16", **of))


def test_gradients_of_chunks_add_up(make_layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, arguments = make_layer("lstm", **SIZES["odd"], dtype="bfloat16", lengths="uniform:1:7")
    want = results("numba_cpu", problem, arguments)
    monkeypatch.setattr(sequence, "PAIRED_CHUNK_ROWS", 20)
    monkeypatch.setattr(sequence, "CHUNK_ROWS", 20)
    got = results("numba_cpu", problem, arguments)
    errors = relative_errors(got, {name: tensor.double() for name, tensor in want.items()})
    # A sum over chunks is rounded in float32, and to bfloat16 once.
    assert max(errors.values()) < 2**-8


@pytest.mark.parametrize("hidden_size", [17, 48])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_what_one_sequence_has_reaches_no_other(
    cell: str, hidden_size: int, make_layer: Any
) -> None:
    # A tile multiplies sixteen rows, whatever the sixteenth is, and 32 columns.
    sizes = SIZES["odd"] | {"hidden_size": hidden_size}
    problem, arguments = make_layer(cell, **sizes, dtype="bfloat16")
    want = results("numba_cpu", problem, arguments)
    with torch.no_grad():
        arguments["x"][:, 5] = torch.nan
        arguments["h0"][:, 11] = torch.inf
    got = results("numba_cpu", problem, arguments)
    others = [row for row in range(problem.batch) if row not in (5, 11)]
    for name in ("y", "h_n", "d_x", "d_h0"):
        assert torch.equal(got[name][:, others], want[name][:, others])
    assert got["y"][:, 5].isnan().all()


@pytest.mark.parametrize("hidden_size", [16, 48])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_memory_that_nobody_wrote_is_not_seen(
    cell: str, hidden_size: int, make_layer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = SIZES["odd"] | {"hidden_size": hidden_size}
    problem, arguments = make_layer(cell, **sizes, dtype="bfloat16", bidirectional=True)
    want = results("numba_cpu", problem, arguments)

    def poisoned(*shape: Any, empty: Any = torch.empty, **of: Any) -> Tensor:
        made: Tensor = empty(*shape, **of)
        made.view(torch.uint8).fill_(0xFF)
        return made

    monkeypatch.setattr(torch, "empty", poisoned)
    got = results("numba_cpu", problem, arguments)
    assert not [name for name, tensor in got.items() if not torch.equal(tensor, want[name])]


def test_padding_is_never_read(make_layer: Any) -> None:
    problem, arguments = make_layer(
        "lstm", **SIZES["odd"], dtype="bfloat16", lengths="uniform:1:7", bidirectional=True
    )
    with torch.no_grad():
        for row, length in enumerate(problem.sequence_lengths()):
            arguments["x"][length:, row] = torch.nan
    got = results("numba_cpu", problem, arguments)
    assert not [name for name, tensor in got.items() if not tensor.isfinite().all()]
    for row, length in enumerate(problem.sequence_lengths()):
        assert not got["y"][length:, row].any()
        assert not got["d_x"][length:, row].any()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_threads_and_repeats_give_the_same_bits(
    count: int, make_layer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, arguments = make_layer("lstm", **SIZES["odd"], dtype="bfloat16", bidirectional=True)
    want = results("numba_cpu", problem, arguments)
    monkeypatch.setattr(team, "threads", lambda: count)
    for _ in range(100 if count == 2 else 5):
        got = results("numba_cpu", problem, arguments)
        assert not [name for name, tensor in got.items() if not torch.equal(tensor, want[name])]


def test_an_inference_has_the_bits_of_a_training_forward(make_layer: Any) -> None:
    problem, arguments = make_layer("lstm", **SIZES["chunks"], dtype="bfloat16")
    want = results("numba_cpu", problem, arguments)
    with torch.no_grad():
        outputs = run(registry.load("numba_cpu"), **arguments, problem=problem)
    for name, output in zip(("y", "h_n", "c_n"), outputs, strict=True):
        assert torch.equal(output, want[name])


def test_torchs_own_products_are_as_they_were(make_layer: Any) -> None:
    # oneDNN multiplies in tiles too, on the same threads.
    a, b = (torch.randn(256, 256).bfloat16() for _ in range(2))
    before = a @ b
    results("numba_cpu", *make_layer("lstm", **SIZES["full"], dtype="bfloat16"))
    assert torch.equal(a @ b, before)


def test_what_multiplies_is_told() -> None:
    problem = lk.Problem("lstm", 4, 2, 8, 8, dtype="bfloat16")
    (made,) = registry.load("numba_cpu").kernels_used(problem)
    told = {"amx": "AMX", "dot": "dot products", "fma": "tiles of"}
    assert told[PRODUCT] in made


def test_other_numbers_are_not_multiplied_in_pairs() -> None:
    of = {pairing.product_of(dtype).name for dtype in ("float16", "float32", "float64")}
    assert of == {"fma"}


@pytest.mark.slow
@pytest.mark.skipif(PRODUCT == "fma", reason="this CPU has no products of pairs")
@pytest.mark.parametrize("missing", [["amx-bf16"], ["amx-bf16", "avx512bf16"]], ids=str)
def test_a_cpu_that_has_less_is_right_too(missing: list[str]) -> None:
    cases = [
        lk.Problem("lstm", **SIZES["odd"], dtype="bfloat16", bidirectional=True),
        lk.Problem("gru", **SIZES["odd"], dtype="bfloat16", lengths="uniform:1:7"),
        lk.Problem("lstm", **SIZES["wide"], dtype="bfloat16"),
    ]
    support = Path(__file__).parents[2] / "support"
    environment = os.environ | {
        "NUMBA_CPU_NAME": llvm.get_host_cpu_name(),
        "NUMBA_CPU_FEATURES": ",".join(
            [llvm.get_host_cpu_features().flatten(), *(f"-{name}" for name in missing)]
        ),
        "PYTHONPATH": os.pathsep.join([str(Path(lk.__file__).parents[1]), str(support)]),
    }
    told = subprocess.run(
        [sys.executable, support / "numba_cpu_layers.py", json.dumps([asdict(c) for c in cases])],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    for layer in json.loads(told.stdout)["layers"]:
        assert max(layer["errors"].values()) < BOUND
        assert layer["same_bits"]


@pytest.mark.slow
@pytest.mark.parametrize("pass_name", ["forward", "backward"])
@pytest.mark.parametrize(
    ("cpu", "product", "instruction"),
    [("sapphirerapids", "amx", "tdpbf16ps"), ("znver4", "dot", "vdpbf16ps")],
)
def test_the_code_for_a_cpu_that_has_it(
    cpu: str, product: str, instruction: str, pass_name: str
) -> None:
    (text,) = assembly(X86_64, cpu, (pass_name, "bfloat16", "lstm", product))
    assert instruction in text
    # Rounding is an instruction, too, and no call of the compiler's library.
    assert "vcvtneps2bf16" in text
    assert "__truncsfbf2" not in text
