"""Japanese vowels: the data's own facts, and that no padding and no order changes what is said."""

import sys

import pytest
import torch
import workload_checks as checks

from lstm_harness.worker.workloads import japanese_vowels

NAME = "japanese-vowels"


@pytest.fixture(scope="module")
def task():
    return checks.made(NAME)


@pytest.mark.parametrize(
    ("part", "counts"),
    [("TRAIN", [30] * 9), ("TEST", [31, 35, 88, 44, 29, 24, 40, 50, 29])],
)
def test_the_files_have_what_the_archive_says_of_them(part, counts):
    sequences, speakers = japanese_vowels.read(part)
    lengths = [len(each) for each in sequences]
    assert speakers.bincount().tolist() == counts
    assert {each.shape[1] for each in sequences} == {12}
    assert (min(lengths), max(lengths)) == ((7, 26) if part == "TRAIN" else (7, 29))


def test_a_file_is_read_channel_by_channel():
    sequences, _ = japanese_vowels.read("TRAIN")
    assert sequences[0][:3, 0].tolist() == pytest.approx([1.860936, 1.891651, 1.939205])
    assert sequences[0][:3, 1].tolist() == pytest.approx([-0.207383, -0.193249, -0.239664])


def test_the_package_is_not_imported(task):
    assert "sktime" not in sys.modules


def test_an_epoch_has_every_sequence_once_and_not_by_speakers(task):
    batches = [task.batch(step) for step in range(9)]
    assert all(len(batch.speakers.unique()) > 4 for batch in batches)
    speakers = torch.cat([batch.speakers for batch in batches])
    assert speakers.bincount().tolist() == [30] * 9
    sums = torch.cat([batch.x.sum((0, 2)) for batch in batches])
    assert len(sums.unique()) == 270


def test_what_is_learnt_from_is_standardised(task):
    batches = [task.batch(step) for step in range(9)]
    steps = torch.cat(
        [x[: lengths[b], b] for x, lengths, _ in batches for b in range(len(lengths))]
    )
    torch.testing.assert_close(steps.mean(0), torch.zeros(12), rtol=0, atol=1e-5)
    torch.testing.assert_close(steps.std(0), torch.ones(12))


def test_batches_follow_from_the_seed(task):
    checks.check_batches(task, checks.made(NAME), checks.made(NAME, seed=1))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("packed", [True, False])
def test_padding_changes_no_logit(cell, packed):
    task = checks.made(NAME, cell)
    x, lengths, _ = task.batch(0)
    expected = checks.logits(task, x, lengths)
    # Past a sequence's end may be anything.
    longer = torch.cat([x, torch.full_like(x[:5], 7.0)])
    past = torch.arange(len(longer))[:, None] >= lengths
    longer[past] = 7.0
    padded = checks.made(NAME, cell, packed=packed)
    torch.testing.assert_close(checks.logits(padded, longer, lengths), expected, **checks.NOISE)


def test_a_sequence_alone_has_the_logits_it_has_in_a_batch(task):
    x, lengths, _ = task.batch(0)
    expected = checks.logits(task, x, lengths)
    for row in int(lengths.argmin()), int(lengths.argmax()):
        alone = checks.logits(task, x[: lengths[row], [row]], lengths[[row]])
        torch.testing.assert_close(alone, expected[[row]], **checks.NOISE)


def test_the_order_in_a_batch_changes_no_logit(task):
    x, lengths, _ = task.batch(0)
    order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(0))
    turned = checks.logits(task, x[:, order], lengths[order])
    expected = checks.logits(task, x, lengths)[order]
    torch.testing.assert_close(turned, expected, **checks.NOISE)


@pytest.mark.parametrize("backend", ["aten", "numba_cpu"])
def test_backends_begin_alike(backend):
    checks.check_opening(NAME, backend)


def test_accuracy_is_of_the_held_out_and_beside_it_is_the_most_frequent_speakers(task, monkeypatch):
    assert task.baseline() == 88 / 370
    _, _, speakers = task._held_out
    told = torch.nn.functional.one_hot(speakers, 9).float()
    # The first ten, of speaker 1, are taken for speaker 2.
    told[:10] = told[:10].roll(1, 1)
    monkeypatch.setattr(task.model, "forward", lambda x, lengths: told)
    assert task.held_out(False)["accuracy"] == 360 / 370
    assert len(task.examples()) == 9


def test_without_the_package_one_line_says_what_to_type(monkeypatch):
    checks.check_missing(
        monkeypatch,
        NAME,
        "sktime",
        "workload 'japanese-vowels' needs sktime, but sktime is not installed; "
        "pip install 'lstm-bench[workloads]'",
    )
