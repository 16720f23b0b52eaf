"""The compiled step compiles, and says so when it cannot."""

import weakref
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


def test_its_graph_ends_with_a_backward_that_keeps_nothing(
    make_layer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "_compiled_step", lambda: compiled._step)
    problem, arguments = make_layer("lstm", bidirectional=True)
    y, _, c_n = run(compiled, **arguments, problem=problem)
    part = lk.LSTM(1, 1)  # of its graph, as any object may be
    y.grad_fn.saved_tensors[-1].grad_fn.metadata["part"] = part
    part = weakref.ref(part)
    loss = y.sum() + c_n.sum()
    assert part() is not None
    first, again = (
        torch.autograd.grad(loss, arguments["x"], retain_graph=retain)[0]
        for retain in (True, False)
    )
    assert torch.equal(first, again)
    with pytest.raises(RuntimeError, match="a second time"):
        loss.backward()
    assert part() is None


def test_a_graph_is_kept_where_one_of_its_shape_was_not(make_layer: Any) -> None:
    problem, arguments = make_layer("rnn_tanh", seq_len=2, hidden_size=7)
    for keeps in (False, True):
        y, *_ = run(compiled, **arguments, problem=problem)
        y.sum().backward(retain_graph=keeps)
    assert arguments["x"].grad.isfinite().all()


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
