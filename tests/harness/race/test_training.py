"""Curves trained by real workers: kept, gone on with, and told apart where a gradient is wrong."""

from dataclasses import replace

import pytest

from lstm_harness.analysis.training import contestants
from lstm_harness.model.errors import Interrupted, UserError
from lstm_harness.model.training import Curve, TrainingSpec
from lstm_harness.model.workloads import WORKLOADS
from lstm_harness.race import training
from lstm_harness.store import training_folder

SPEC = TrainingSpec(
    workload="adding",
    backends=("aten",),
    cells=("gru",),
    seeds=(3,),
    seconds=600.0,
    steps=30,
    device="cpu",
    threads=1,
)
PLUGIN = """
import os
from lstm_kernels import Backend
from lstm_kernels.backends import naive
from lstm_kernels.backends.naive import unsupported

BACKENDS = [Backend("wrong", __name__, "another w_hh", ("cpu",))]


def layer(x, h0, c0, weights, *, problem, lengths=None):
    spoilt = tuple(one._replace(w_hh=SPOILT) for one in weights)
    return naive.layer(x, h0, c0, spoilt, problem=problem, lengths=lengths)
"""


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """A point every 10 steps, and a device of the test's own."""
    adding = replace(WORKLOADS["adding"], interval=10)
    monkeypatch.setitem(WORKLOADS, "adding", adding)
    monkeypatch.setenv("LSTM_BENCH_LOCKS", str(tmp_path))


@pytest.fixture
def plugin(tmp_path):
    """A plugin whose backend does something to w_hh."""

    def make(spoilt):
        path = tmp_path / "wrong.py"
        path.write_text(PLUGIN.replace("SPOILT", spoilt))
        return str(path)

    return make


def silent(*_):
    pass


def test_a_curve_goes_on_where_it_was_and_is_the_one_it_would_have_been(tmp_path):
    whole = training_folder.load(training.train(SPEC, tmp_path / "whole", silent)).curves

    def until_the_second(number, total, curve, point, left_s):
        assert (number, total, curve) == (0, 1, Curve(3, "gru", "aten"))
        assert 0 <= left_s <= 600
        if point and point.step == 20:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"lstm-bench train --resume \S*cut"):
        training.train(SPEC, tmp_path / "cut", until_the_second)
    begun = training_folder.load(tmp_path / "cut")
    assert [point.step for point in begun.curves[0].points] == [10, 20]
    assert begun.curves[0].end is None
    with (tmp_path / "cut" / "curves.jsonl").open("ab") as file:
        file.write(b'{"curve": {"seed": 3, "ce')

    training.resume(tmp_path / "cut", silent)
    gone_on = training_folder.load(tmp_path / "cut")
    assert timeless(gone_on.curves) == timeless(whole)
    assert gone_on.curves[0].points[:2] == begun.curves[0].points
    assert [point.step for point in whole[0].points] == [10, 20, 30]
    assert whole[0].end.status == "ok"
    names = {entry.name for entry in (tmp_path / "cut").iterdir()}
    assert names == {"training.json", "curves.jsonl"}


@pytest.mark.slow
def test_without_its_checkpoint_a_curve_begins_anew_and_no_point_is_kept_twice(tmp_path):
    def until_the_second(number, total, curve, point, left_s):
        if point and point.step == 20:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        training.train(SPEC, tmp_path / "cut", until_the_second)
    (tmp_path / "cut" / training_folder.CHECKPOINT).unlink()
    training.resume(tmp_path / "cut", silent)
    (found,) = training_folder.load(tmp_path / "cut").curves
    assert [point.step for point in found.points] == [10, 20, 30]


def timeless(curves):
    """What does not depend on the clock."""
    points = [[replace(point, seconds=0.0) for point in one.points] for one in curves]
    return points, [replace(one.end, setup_seconds=None) for one in curves]


@pytest.mark.slow
def test_who_cannot_run_here_and_who_crashes_ends_with_the_reason(tmp_path, plugin):
    spec = replace(
        SPEC,
        backends=("cudnn", "wrong", "aten"),
        plugins=(plugin("os._exit(7)"),),
        steps=10,
    )
    cudnn, wrong, aten = training_folder.load(training.train(spec, tmp_path / "t", silent)).curves
    assert cudnn.end.status == "unsupported"
    assert cudnn.end.reason
    assert wrong.end.status == "crashed"
    assert "exit code 7" in wrong.end.reason
    assert aten.end.status == "ok"
    assert [len(one.points) for one in (cudnn, wrong, aten)] == [0, 0, 1]


def test_a_wrong_gradient_is_told_from_the_first_losses(tmp_path, plugin):
    # As a backward does that stops at each step; what is only scaled, Adam does not notice.
    wrong = plugin("one.w_hh.detach()")
    spec = replace(SPEC, backends=("aten", "naive", "wrong"), plugins=(wrong,), steps=20)
    found = training_folder.load(training.train(spec, tmp_path / "t", silent))
    told = contestants(found.curves, WORKLOADS["adding"])
    assert {one.backend: one.learns_otherwise for one in told} == {
        "aten": False,
        "naive": False,
        "wrong": True,
    }


def test_the_budget_ends_a_curve(tmp_path):
    spec = replace(SPEC, seconds=1e-3, steps=10_000)
    (found,) = training_folder.load(training.train(spec, tmp_path / "t", silent)).curves
    assert (found.end.status, len(found.points)) == ("out_of_time", 1)


def test_a_folder_that_is_used_and_a_name_that_nobody_has_are_refused_before(tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(UserError, match="already used"):
        training.train(SPEC, tmp_path / "used", silent)
    with pytest.raises(UserError, match="unknown backend 'atne'"):
        training.train(replace(SPEC, backends=("atne",)), tmp_path / "t", silent)
    with pytest.raises(UserError, match="unknown cell 'lsmt'"):
        training.train(replace(SPEC, cells=("lsmt",)), tmp_path / "t", silent)
    assert not (tmp_path / "t").exists()
