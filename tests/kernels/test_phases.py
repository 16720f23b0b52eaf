"""Backends that tell their phases: what they compute stays the same, and what they note is time."""

import time

import pytest
import torch
from small_layers import draw, lengths_of, results

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.phases import note_backward

CPU = torch.device("cpu")
OF_HOISTED = ["x W_ih^T", "steps", "backward: steps", "backward: x W_ih^T"]
FORWARD = ["packing", "x W_ih^T", "steps: products", "steps: gates", "meeting"]
BACKWARD = [f"backward: {of}" for of in ("packing", "steps: products", "steps: gates", "meeting")]
BACKWARD += ["backward: dx", "backward: dW, db"]
OF_NUMBA_CPU = [*FORWARD, *BACKWARD]
# A cell, and what else a problem has; each is other kernels of numba_cpu.
KINDS = {
    "plain": ("lstm", {}),
    "both ways, ragged": ("lstm", {"bidirectional": True, "lengths": "uniform:0:9"}),
    "by head": ("lstm", {"heads": 2}),
    "normed over units": ("lstm_layernorm", {}),
    "normed over the batch": ("lstm_batchnorm", {}),
    "bfloat16": ("gru", {"dtype": "bfloat16"}),
}


class Told:
    """Collects notes."""

    def __init__(self):
        self.notes = []

    def __call__(self, phase, ns=None):
        self.notes.append((phase, ns))

    @property
    def names(self):
        return list(dict.fromkeys(phase for phase, _ in self.notes))


def problem_of(kind):
    cell, more = KINDS[kind]
    sizes = {"seq_len": 9, "batch": 3, "input_size": 5, "hidden_size": 34}
    return lk.Problem(cell, **sizes, **more)


def phases_of(backend):
    module = registry.load(backend)
    if not hasattr(module, "in_phases"):
        pytest.skip(f"{backend} tells no phases")
    return module


def checked(backend, problem):
    """What a backend notes of a layer's passes, whose results are as without notes, to the bit."""
    module, told = phases_of(backend), Told()
    asked = {"dtype": getattr(torch, problem.dtype), "device": CPU}
    want = results(module, problem, **asked)
    started = time.perf_counter_ns()
    found = results(module.in_phases(told), problem, **asked)
    elapsed = time.perf_counter_ns() - started
    assert {name: torch.equal(found[name], want[name]) for name in want} == dict.fromkeys(
        want, True
    )
    assert sum(ns or 0 for _, ns in told.notes) < elapsed
    return told


def test_a_layer_with_notes_is_the_same_layer(eager_backend):
    told = checked(eager_backend, problem_of("plain"))
    assert set(told.names) <= {*OF_HOISTED, *OF_NUMBA_CPU}


@pytest.mark.parametrize("kind", KINDS)
def test_hoisted(kind):
    # What autograd makes last in one direction it makes before the other's.
    assert set(checked("hoisted", problem_of(kind)).names) == set(OF_HOISTED)


@pytest.mark.parametrize(
    "kind",
    [kind if kind == "plain" else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS],
)
@pytest.mark.xdist_group("numba_cpu")
def test_numba_cpu(kind):
    pytest.importorskip("numba", reason="numba_cpu needs numba")
    told = checked("numba_cpu", problem_of(kind))
    assert told.names == OF_NUMBA_CPU
    assert all(ns > 0 for _, ns in told.notes)


@pytest.mark.xdist_group("numba_cpu")
def test_numba_cpu_with_int8_weights(skip_where_refused):
    pytest.importorskip("numba", reason="numba_cpu needs numba")
    problem = lk.Problem("lstm", 9, 3, 5, 34, precision="w8")
    skip_where_refused("numba_cpu", problem)
    module, told = registry.load("numba_cpu"), Told()
    given = draw(problem, dtype=torch.float32, device=CPU)
    with torch.no_grad():
        want, found = (
            each.layer(**given, problem=problem, lengths=lengths_of(problem))
            for each in (module, module.in_phases(told))
        )
    assert all(torch.equal(a, b) for a, b in zip(found, want, strict=True))
    assert told.names == FORWARD


@pytest.mark.xdist_group("numba_cpu")
def test_numba_cpu_projected_on_two_threads(monkeypatch):
    pytest.importorskip("numba", reason="numba_cpu needs numba")
    from lstm_kernels.backends.numba_cpu import sequence, team

    monkeypatch.setattr(sequence, "WORTH_MEETING", 0)
    monkeypatch.setattr(team, "threads", lambda: 2)
    problem = lk.Problem("lstm", 9, 3, 5, 34, proj_size=7)
    module, told = registry.load("numba_cpu"), Told()
    x, states = torch.randn(9, 3, 5), (torch.randn(1, 3, 7), torch.randn(1, 3, 34))
    shapes = ((136, 5), (136, 7), (136,), (136,), (7, 34))
    weights = (lk.stack.Weights(*(0.2 * torch.randn(shape) for shape in shapes)),)
    with torch.no_grad():
        want, found = (
            each.layer(x, *states, weights, problem=problem)
            for each in (module, module.in_phases(told))
        )
    assert all(torch.equal(a, b) for a, b in zip(found, want, strict=True))
    assert told.names == FORWARD


def line(host_ns, began, last, *sums):
    return [host_ns, began, last, *sums, *[0] * (13 - len(sums))]


def test_what_threads_wrote_becomes_times():
    pytest.importorskip("numba", reason="numba_cpu needs numba")
    from lstm_kernels.backends.numba_cpu.noting import phases_of, tick_ns

    first, later = line(1_000, 500, 700, 200), line(90_000, 44_500, 44_900, 100, 300)
    # 100 us by the host's clock and 44,400 ticks lie between the first's begin and the later's end.
    assert tick_ns(first, later, 101_000) == pytest.approx(100_000 / 44_400)
    other = line(90_100, 44_520, 44_900, 50, 310, 0, 0, 20)
    idle = line(0, 0, 0)
    assert phases_of([later, other, idle], 2.0) == {
        "packing": 150.0,
        "x W_ih^T": 610.0,
        "meeting": 20.0,
    }


def test_a_phase_of_the_backward_ends_with_a_gradient():
    told = Told()
    x = torch.ones(3)
    note_backward(told, "nothing", x)
    leaf = x.clone().requires_grad_()
    twice = 2 * leaf
    note_backward(told, "the sum", twice)
    twice.sum().backward()
    assert told.notes == [("the sum", None)]
    assert leaf.grad.tolist() == [2, 2, 2]
