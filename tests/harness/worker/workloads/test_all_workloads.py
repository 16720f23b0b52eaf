"""Every workload begins alike on every backend, with every choice that it has."""

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from lstm_harness.analysis.openings import GROWTH, ROUNDING
from lstm_harness.model.training import Curve, TrainingSpec
from lstm_harness.model.workloads import WORKLOADS
from lstm_harness.worker.training import Training

STEPS = 20
BACKENDS = ("aten", pytest.param("numba_cpu", marks=pytest.mark.xdist_group("numba_cpu")))


def losses(spec, cell, place, steps=STEPS):
    """The losses of the first steps, each with its dropout and its clipping."""
    training = Training(spec, Curve(0, cell, spec.backends[0]), "cpu", place)
    return training.go_on(steps).opening


def assert_near(found, wanted):
    """No loss parts further than rounding explains at its step."""
    for step, (one, other) in enumerate(zip(found, wanted, strict=True), 1):
        assert one == pytest.approx(other, rel=ROUNDING * GROWTH**step), step


def spec_of(workload, backend, **choices):
    return TrainingSpec(workload, (backend,), ("lstm",), (0,), 600.0, device="cpu", **choices)


@cache
def expected(workload, cell):
    """What `naive` makes of it; its checkpoint is nobody's."""
    with tempfile.TemporaryDirectory() as folder:
        return losses(spec_of(workload, "naive"), cell, Path(folder) / "c.pt")


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("workload", WORKLOADS)
def test_the_first_losses_are_naives(workload, backend, tmp_path):
    found = losses(spec_of(workload, backend), "lstm", tmp_path / "c.pt")
    assert len(found) == STEPS
    assert_near(found, expected(workload, "lstm"))


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["gru", "rnn_tanh", "lstm_peephole"])
@pytest.mark.parametrize("workload", ["japanese-vowels", "g2p", "emoji-caption", "char-lm"])
def test_other_cells_too(workload, cell, tmp_path):
    steps = 3
    found = losses(spec_of(workload, "hoisted"), cell, tmp_path / "c.pt", steps)
    wanted = losses(spec_of(workload, "naive"), cell, tmp_path / "d.pt", steps)
    assert_near(found, wanted)


@pytest.mark.parametrize(
    "workload",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "emoji-caption" else ())
        for name, each in WORKLOADS.items()
        if each.is_ragged
    ],
)
def test_steps_past_the_end_change_nothing_where_they_are_computed(workload, tmp_path):
    packed, masked = (
        losses(spec_of(workload, "aten", packed=packed), "lstm", tmp_path / f"{packed}.pt", 3)
        for packed in (True, False)
    )
    assert_near(masked, packed)


@pytest.mark.parametrize("workload", ["adding", "char-lm", "japanese-vowels"])
def test_a_curve_is_the_same_in_one_go_and_from_its_checkpoint(workload, tmp_path):
    spec, curve = spec_of(workload, "aten"), Curve(5, "lstm", "aten")
    whole = Training(spec, curve, "cpu", tmp_path / "whole.pt")
    wanted = [whole.go_on(2), whole.go_on(2)]
    begun = Training(spec, curve, "cpu", tmp_path / "cut.pt")
    first = begun.go_on(2)
    torch.manual_seed(99)
    gone_on = Training(spec, curve, "cpu", tmp_path / "cut.pt")
    assert gone_on.last == first
    assert [timeless(each) for each in (first, gone_on.go_on(2))] == list(map(timeless, wanted))


def test_another_curves_checkpoint_is_left_alone(tmp_path):
    spec, place = spec_of("adding", "aten"), tmp_path / "c.pt"
    Training(spec, Curve(5, "lstm", "aten"), "cpu", place).go_on(2)
    other = Training(spec, Curve(6, "lstm", "aten"), "cpu", place)
    assert other.last is None
    assert other.go_on(2).step == 2


def timeless(point):
    return replace(point, seconds=0.0)
