"""int8 weights on numba_cpu: what is rounded where, on every CPU, thread count and length."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

pytest.importorskip("numba", reason="numba_cpu needs numba")

import llvmlite.binding as llvm
import torch
from closeness import relative_error, relative_errors
from compiled_elsewhere import X86_64
from other_cpus import HOST, answer, assembly
from pointwise_cells import POINTWISE
from small_layers import draw, lengths_of
from torch import Tensor

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.backends.numba_cpu import int8_weights, memory, sequence, team
from lstm_kernels.backends.numba_cpu.registers import registers

SIZES = {
    "one": {"seq_len": 1, "batch": 1, "input_size": 1, "hidden_size": 1},
    "odd": {"seq_len": 7, "batch": 19, "input_size": 33, "hidden_size": 17},
    # More pairs of step and row than a chunk has.
    "chunks": {"seq_len": 130, "batch": 9, "input_size": 20, "hidden_size": 48},
    "large": {"seq_len": 5, "batch": 20, "input_size": 65, "hidden_size": 257},
}
BOUND = 4e-2
# A number that lies between two of int8 may be rounded to the other one in float64.
BETWEEN = 1e-3

pytestmark = [
    pytest.mark.xdist_group("numba_cpu"),
    pytest.mark.skipif(not registers().int8, reason="this CPU multiplies no int8"),
]


@pytest.fixture(autouse=True)
def _threads_whatever_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "WORTH_MEETING", 0)


def problem_of(cell: str, sizes: str, **fields: Any) -> lk.Problem:
    return lk.Problem(cell, **SIZES[sizes], precision="w8", **fields)


def given_to(problem: lk.Problem, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """The same numbers in either dtype."""
    given = draw(replace(problem, dtype="float32"), dtype=dtype, device=torch.device("cpu"))
    return given | {"lengths": lengths_of(problem)}


def outputs(backend: str, problem: lk.Problem, given: dict[str, Any]) -> dict[str, Tensor]:
    with torch.no_grad():
        made = registry.load(backend).layer(**given, problem=problem)
    named = dict(zip(("y", "h_n", "c_n"), made, strict=True))
    return {name: tensor for name, tensor in named.items() if tensor is not None}


def errors(problem: lk.Problem) -> dict[str, float]:
    exact = replace(problem, dtype="float64", precision="ieee")
    want = outputs("reference", exact, given_to(problem, torch.float64))
    return relative_errors(outputs("numba_cpu", problem, given_to(problem)), want)


def rounded(rows: Tensor) -> Tensor:
    """Rows as int8 has them, each by its largest element."""
    scale = rows.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127
    return (rows / scale).round() * scale


def lstm_of_int8(given: dict[str, Any]) -> Tensor:
    """Y of one direction in float64, with everything that is multiplied rounded."""
    x, (w,) = given["x"], given["weights"]
    h, c = given["h0"][0], given["c0"][0]
    w_ih, w_hh, ys = rounded(w.w_ih), rounded(w.w_hh), []
    for t in range(len(x)):
        made = rounded(x[t]) @ w_ih.t() + w.b_ih + rounded(h) @ w_hh.t() + w.b_hh
        i, f, g, o = made.chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        ys.append(h)
    return torch.stack(ys)


@pytest.mark.parametrize("sizes", SIZES)
def test_weights_and_activations_alone_are_rounded(sizes: str) -> None:
    problem = problem_of("lstm", sizes)
    with torch.no_grad():
        want = lstm_of_int8(given_to(problem, torch.float64))
    assert relative_error(outputs("numba_cpu", problem, given_to(problem))["y"], want) < BETWEEN


@pytest.mark.parametrize("lengths", ["full", "uniform"])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_it_is_near_float64(cell: str, sizes: str, lengths: str) -> None:
    if lengths == "uniform":
        lengths = f"uniform:0:{SIZES[sizes]['seq_len']}"
    problem = problem_of(cell, sizes, bidirectional=True, lengths=lengths)
    assert max(errors(problem).values()) < BOUND


@pytest.mark.slow
@pytest.mark.parametrize("cell", [name for name in POINTWISE if name not in ("lstm", "gru")])
def test_every_cell_is_near_float64(cell: str) -> None:
    for sizes in ("one", "odd"):
        assert max(errors(problem_of(cell, sizes, bidirectional=True)).values()) < BOUND


def test_no_bias_is_no_bias() -> None:
    assert max(errors(problem_of("lstm", "odd", bias=False)).values()) < BOUND


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_threads_and_repeats_give_the_same_bits(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bidirectional in (False, True):
        problem = problem_of("lstm", "odd", bidirectional=bidirectional, lengths="uniform:0:7")
        given = given_to(problem)
        want = outputs("numba_cpu", problem, given)
        monkeypatch.setattr(team, "threads", lambda: count)
        for _ in range(100 if count == 2 else 5):
            got = outputs("numba_cpu", problem, given)
            assert not [name for name in got if not torch.equal(got[name], want[name])]
        monkeypatch.undo()
        monkeypatch.setattr(sequence, "WORTH_MEETING", 0)


def test_what_one_sequence_has_reaches_no_other() -> None:
    problem = problem_of("lstm", "odd")
    given = given_to(problem)
    want = outputs("numba_cpu", problem, given)
    with torch.no_grad():
        given["x"][:, 5] = torch.nan
        given["x"][:, 7] *= 1e30
        given["h0"][:, 11] = torch.inf
    got = outputs("numba_cpu", problem, given)
    others = [row for row in range(problem.batch) if row not in (5, 7, 11)]
    for name in ("y", "h_n"):
        assert torch.equal(got[name][:, others], want[name][:, others])
    assert got["y"][:, 5].isnan().all()
    assert got["y"][:, 7].isfinite().all()


@pytest.mark.parametrize("value", [0.0, 1e-38])
def test_rows_of_zeros_are_zeros(value: float) -> None:
    problem = problem_of("lstm", "odd")
    given = given_to(problem)
    with torch.no_grad():
        given["x"].fill_(value)
        given["h0"].fill_(value)
        given["weights"][0].w_hh[3].fill_(value)
    exact = given_to(problem, torch.float64)
    for name in ("x", "h0"):
        exact[name] = given[name].double()
    exact["weights"] = tuple(lk.Weights._make(_double(t) for t in w) for w in given["weights"])
    want = outputs("reference", replace(problem, dtype="float64", precision="ieee"), exact)
    got = outputs("numba_cpu", problem, given)
    assert max(relative_errors(got, want).values()) < BOUND


def _double(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().double()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_memory_that_nobody_wrote_is_not_seen(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_of(cell, "odd", bidirectional=True, lengths="uniform:1:7")
    given = given_to(problem)
    want = outputs("numba_cpu", problem, given)

    def poisoned(*shape: Any, empty: Any = torch.empty, **of: Any) -> Tensor:
        made: Tensor = empty(*shape, **of)
        made.view(torch.uint8).fill_(0xFF)
        return made

    monkeypatch.setattr(torch, "empty", poisoned)
    memory.empty_cache()
    got = outputs("numba_cpu", problem, given)
    assert not [name for name in got if not torch.equal(got[name], want[name])]


def test_weights_are_quantised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = int8_weights._packs
    monkeypatch.setattr(int8_weights, "_packs", lambda *of: made.append(of) or real(*of))
    problem = problem_of("lstm", "odd", bidirectional=True)
    given = given_to(problem)
    for _ in range(3):
        outputs("numba_cpu", problem, given)
    assert len(made) == 1
    outputs("numba_cpu", problem, given | {"x": given["x"] * 2})
    assert len(made) == 1


def test_a_packed_batch_has_the_same_bits() -> None:
    problem = problem_of("lstm", "odd", lengths="uniform:1:7")
    given = given_to(problem)
    order = torch.argsort(given["lengths"], descending=True, stable=True)
    lengths = given["lengths"][order]
    alive = torch.arange(problem.seq_len)[:, None] < lengths
    padded = given | {"x": given["x"][:, order], "lengths": lengths}
    packed = padded | {"x": padded["x"][alive]}
    want, got = (outputs("numba_cpu", problem, of) for of in (padded, packed))
    assert torch.equal(got["y"], want["y"][alive])
    assert torch.equal(got["h_n"], want["h_n"])


def test_a_cpu_that_multiplies_no_int8_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    without = registers()._replace(int8="")
    monkeypatch.setattr(int8_weights, "registers", lambda: without)
    reason = registry.unsupported("numba_cpu", problem_of("lstm", "odd"), "cpu")
    assert reason == "its int8 products need AVX2, and kernels are compiled for a CPU without it"


def test_what_multiplies_is_told() -> None:
    (made,) = registry.load("numba_cpu").kernels_used(problem_of("lstm", "odd"))
    assert {"vnni": "dot products of int8", "words": "16-bit numbers"}[registers().int8] in made


CASES = [
    problem_of("lstm", "odd", bidirectional=True),
    problem_of("gru", "odd", lengths="uniform:1:7"),
    problem_of("lstm", "large"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("vnni", "vector_bytes", "also_missing"),
    [("avx512vnni", 64, ()), ("avxvnni", 32, ("avx512f",))],
)
def test_without_vnni_it_has_the_same_bits(
    vnni: str, vector_bytes: int, also_missing: tuple[str, ...]
) -> None:
    if not HOST.get(vnni):
        pytest.skip(f"this CPU has no {vnni}")
    here, there = elsewhere(*also_missing), elsewhere(*also_missing, vnni)
    assert (here["int8"], there["int8"]) == ("vnni", "words")
    assert here["vector_bytes"] == there["vector_bytes"] == vector_bytes
    assert [each["bits"] for each in there["layers"]] == [each["bits"] for each in here["layers"]]
    assert max(each["error"] for each in here["layers"]) < BOUND


@pytest.mark.slow
@pytest.mark.skipif(registers().vector_bytes < 32, reason="this CPU has no AVX2")
def test_avx2_is_right_too() -> None:
    told = elsewhere("avx512f", "avx512vnni", "avxvnni")
    assert (told["int8"], told["vector_bytes"]) == ("words", 32)
    assert max(each["error"] for each in told["layers"]) < BOUND


def elsewhere(*missing: str) -> dict[str, Any]:
    """What numba_cpu computes for this CPU without some features."""
    features = [HOST.flatten(), *(f"-{name}" for name in missing)]
    found: dict[str, Any] = answer(
        "numba_cpu_w8.py",
        json.dumps([asdict(case) for case in CASES]),
        NUMBA_CPU_NAME=llvm.get_host_cpu_name(),
        NUMBA_CPU_FEATURES=",".join(features),
    )
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cpu", "instruction"),
    [("znver4", "vpdpbusd"), ("alderlake", "vpdpbusd"), ("haswell", "vpmaddwd")],
)
def test_the_code_for_a_cpu_that_has_it(cpu: str, instruction: str) -> None:
    (text,) = assembly(X86_64, cpu, ("forward_w8", "float32", "lstm", "fma"))
    assert instruction in text
