"""The compiled step compiles, and says so when it cannot."""

from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.backends import compiled
from lstm_kernels.stack import run

# The worker that has torch.compile's own modules imported already (see conftest).
pytestmark = pytest.mark.xdist_group("compiled-lstm")

PROBLEM = lk.Problem("lstm", 5, 2, 3, 4)


@pytest.fixture
def _compiler(skip_where_refused: Any) -> None:
    skip_where_refused("compiled", PROBLEM)


@pytest.mark.usefixtures("_compiler")
def test_one_compile_serves_all_steps(make_layer: Any) -> None:
    problem, arguments = make_layer("lstm", hidden_size=13)
    arguments["h0"].requires_grad_(False)
    arguments["c0"].requires_grad_(False)
    before = counters["stats"]["unique_graphs"]
    run(registry.load("compiled"), **arguments, problem=problem)
    assert counters["stats"]["unique_graphs"] == before + 1
    run(registry.load("compiled"), **arguments, problem=problem)
    assert counters["stats"]["unique_graphs"] == before + 1


@pytest.mark.usefixtures("_compiler")
def test_past_its_limit_it_raises_and_never_runs_eager(
    make_layer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "MAX_SHAPES", 1)
    for hidden in (17, 18):
        problem, arguments = make_layer("gru", hidden_size=hidden)
        raised = None
        try:
            run(registry.load("compiled"), **arguments, problem=problem)
        except torch._dynamo.exc.FailOnRecompileLimitHit as error:
            raised = error
    assert raised is not None


@pytest.mark.usefixtures("_compiler")
def test_dynamos_own_limits_are_put_back(make_layer: Any) -> None:
    before = torch._dynamo.config.recompile_limit
    problem, arguments = make_layer("rnn_tanh")
    run(registry.load("compiled"), **arguments, problem=problem)
    assert torch._dynamo.config.recompile_limit == before


@pytest.mark.parametrize("output", [0, 1, 2], ids=["y", "h_n", "c_n"])
def test_create_graph_is_refused_whatever_is_differentiated(
    make_layer: Any, monkeypatch: pytest.MonkeyPatch, output: int
) -> None:
    # It refuses before anything compiled would run.
    monkeypatch.setattr(compiled, "_compiled_step", lambda: compiled._step)
    problem, arguments = make_layer("lstm", bidirectional=True)
    loss = run(compiled, **arguments, problem=problem)[output].sum()
    with pytest.raises(RuntimeError, match="use backend='naive'"):
        torch.autograd.grad(loss, arguments["x"], create_graph=True)
    loss.backward()
    assert arguments["x"].grad is not None


@pytest.mark.slow
@pytest.mark.usefixtures("_compiler")
def test_torch_compile_is_wrong_where_it_is_not_refused(
    make_layer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a GRU, autograd sees no second derivative at all. No refusal is needed once this fails."""
    monkeypatch.setattr(compiled, "refuse_second_derivatives", lambda *_: None)
    problem, arguments = make_layer("gru", seq_len=1)
    x = arguments["x"]
    for tensor in (arguments["h0"], *arguments["weights"][0][:4]):
        tensor.requires_grad_(False)
    y, _, _ = run(compiled, **arguments, problem=problem)
    (d_x,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    assert torch.autograd.grad(d_x.square().sum(), x, allow_unused=True) == (None,)


def test_a_missing_compiler_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert compiled.unsupported(PROBLEM, "cpu") == (
        "torch.compile needs a C++ compiler on a CPU; "
        "$CXX names 'no-such-compiler', which is not there"
    )
    monkeypatch.delenv("CXX")
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert "it looks for 'g++'" in str(compiled.unsupported(PROBLEM, "cpu"))


def test_no_compiler_is_needed_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert compiled.unsupported(PROBLEM, "cuda") is None
