"""The copying problem: what is drawn, and what is asked for."""

import pytest
import torch
from text_tasks import BACKENDS, first_losses, gradients, made

from lstm_harness.model.workloads import WORKLOADS
from lstm_harness.worker.workloads import copy_memory
from lstm_harness.worker.workloads.copy_memory import BLANK, BLANKS, MARK, TOLD, Drawn


def test_ten_symbols_then_blanks_and_a_mark_before_the_answers():
    told, symbols = made("copy").batch(5)
    assert torch.equal(told[:TOLD], symbols)
    assert symbols.unique().tolist() == list(range(8))
    assert len(told) == TOLD + BLANKS + TOLD == 40
    assert (told[TOLD : TOLD + BLANKS] == BLANK).all()
    assert (told[TOLD + BLANKS] == MARK).all()
    assert (told[TOLD + BLANKS + 1 :] == BLANK).all()
    assert f"after {BLANKS} steps" in WORKLOADS["copy"].summary


def test_a_step_and_a_seed_draw_the_same_again_and_others_draw_others():
    told, _ = made("copy").batch(5)
    assert torch.equal(told, made("copy").batch(5).told)
    assert not torch.equal(told, made("copy").batch(6).told)
    assert not torch.equal(told, made("copy", seed=1).batch(5).told)


@torch.no_grad()
def test_what_says_one_symbol_always_is_the_baseline():
    task = made("copy")
    mostly = int(task._held_out.symbols.flatten().bincount().argmax())
    task.model.line.weight.zero_()
    task.model.line.bias.copy_(torch.eye(8)[mostly])
    assert task.held_out(False) == {"share recalled": pytest.approx(task.baseline())}
    assert task.baseline() == pytest.approx(1 / 8, abs=0.02)


def test_the_order_of_a_batch_changes_nothing():
    task = made("copy")
    batch = task.batch(0)
    loss = task.loss(batch)
    loss.mean.backward()
    found = gradients(task)
    order = torch.randperm(batch.told.shape[1])
    turned = task.loss(Drawn(*(each[:, order] for each in batch)))
    turned.mean.backward()
    assert turned[1:] == loss[1:]
    torch.testing.assert_close(turned.mean, loss.mean, rtol=1e-6, atol=0)
    for name, other in gradients(task).items():
        torch.testing.assert_close(other, found[name], rtol=1e-4, atol=1e-7)


def test_an_answer_follows_from_the_symbols_far_before():
    task = made("copy")
    batch = task.batch(0)
    other = batch.told.clone()
    other[0] = (other[0] + 1) % 8
    assert (task.model(other) - task.model(batch.told))[-1].abs().max() > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_have_the_same_first_losses(backend, tmp_path, monkeypatch):
    monkeypatch.setattr(copy_memory, "HELD_OUT", 10)
    real, found = (first_losses("copy", each, tmp_path) for each in ("naive", backend))
    assert found == pytest.approx(real, rel=1e-5)
