"""The adding problem: what is drawn, and what answers without remembering."""

import pytest
import torch
from text_tasks import BACKENDS, first_losses, gradients, made

from lstm_harness.worker.workloads import adding
from lstm_harness.worker.workloads.adding import STEPS


def test_two_numbers_are_marked_one_in_either_half_and_their_sum_is_asked_for():
    x, sums = made("adding").batch(5)
    numbers, marks = x.unbind(2)
    assert len(x) == STEPS == 100
    assert set(marks.unique().tolist()) == {0.0, 1.0}
    assert (marks[:50].sum(0) == 1).all()
    assert (marks[50:].sum(0) == 1).all()
    assert 0 <= numbers.min() < 0.01
    assert 0.99 < numbers.max() < 1
    for row, total in enumerate(sums):
        marked = numbers[marks[:, row] == 1, row]
        assert float(total) == pytest.approx(float(marked.sum()))


def test_a_step_and_a_seed_draw_the_same_again_and_others_draw_others():
    x, _ = made("adding").batch(5)
    assert torch.equal(x, made("adding").batch(5)[0])
    assert not torch.equal(x, made("adding").batch(6)[0])
    assert not torch.equal(x, made("adding", seed=1).batch(5)[0])


@torch.no_grad()
def test_what_answers_with_the_mean_is_the_baseline():
    task = made("adding")
    task.model.line.weight.zero_()
    task.model.line.bias.fill_(1.0)
    assert task.held_out(False) == {"mean squared error": pytest.approx(task.baseline())}
    assert task.baseline() == pytest.approx(1 / 6, abs=0.01)


def test_the_order_of_a_batch_changes_nothing():
    task = made("adding")
    x, sums = task.batch(0)
    loss = task.loss((x, sums)).mean
    loss.backward()
    found = gradients(task)
    order = torch.randperm(len(sums))
    turned = task.loss((x[:, order], sums[order])).mean
    turned.backward()
    torch.testing.assert_close(turned, loss, rtol=1e-6, atol=0)
    for name, other in gradients(task).items():
        torch.testing.assert_close(other, found[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_have_the_same_first_losses(backend, tmp_path, monkeypatch):
    monkeypatch.setattr(adding, "HELD_OUT", 10)
    real, found = (first_losses("adding", each, tmp_path) for each in ("naive", backend))
    assert found == pytest.approx(real, rel=1e-5)
