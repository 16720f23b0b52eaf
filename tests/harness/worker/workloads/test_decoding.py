"""Beam search against every continuation there is, and the errors in sequences."""

from itertools import product

import pytest
import torch

from lstm_harness.worker.workloads.decoding import edits, error_rate, of_rows, search

END, SYMBOLS, MOST, B = 0, 4, 4, 3


def follow_of(width, seed=0):
    """A decoder whose logits depend on the sequence and the two symbols before, kept as states."""
    shape = (B, SYMBOLS, SYMBOLS, SYMBOLS)
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()
    rows = torch.arange(B).repeat_interleave(width)

    def follow(before, states):
        last = before[:, 0]
        two = torch.zeros_like(last) if states is None else states[0]
        return logits[rows, two, last], last[None]

    return follow, logits.log_softmax(3)


def probability(likely, row, symbols):
    """Of symbols and the end after them, where there is a step left for it."""
    told, found = (END, END, *symbols), 0.0
    for two, last, now in zip(told, told[1:], [*symbols, END][:MOST], strict=False):
        found += float(likely[row, two, last, now])
    return found


def begin():
    return torch.full((B,), END)


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_as_wide_as_there_are_prefixes_finds_the_likeliest(seed):
    follow, likely = follow_of(SYMBOLS**MOST, seed)
    told, scores = search(follow, begin(), END, MOST, SYMBOLS**MOST)
    # Of a shorter continuation, the end is a step too.
    every = [
        each for length in range(MOST + 1) for each in product(range(1, SYMBOLS), repeat=length)
    ]
    for row, (found, score) in enumerate(zip(told, scores, strict=True)):
        best = max(every, key=lambda each, row=row: probability(likely, row, each))
        assert tuple(found) == best
        assert float(score) == pytest.approx(probability(likely, row, best))


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_of_one_takes_the_likeliest_symbol_at_every_step(seed):
    follow, likely = follow_of(1, seed)
    told, scores = search(follow, begin(), END, MOST)
    for row, found in enumerate(told):
        before, expected = [END, END], []
        for _ in range(MOST):
            now = int(likely[row, before[-2], before[-1]].argmax())
            if now == END:
                break
            expected.append(now)
            before.append(now)
        assert found == expected
        assert float(scores[row]) == pytest.approx(probability(likely, row, expected))


@pytest.mark.parametrize("width", [1, 2, 3])
def test_the_score_is_the_log_probability_of_what_is_told(width):
    follow, likely = follow_of(width)
    told, scores = search(follow, begin(), END, MOST, width)
    for row, found in enumerate(told):
        assert float(scores[row]) == pytest.approx(probability(likely, row, found))


def test_rows_of_one_state_and_of_several():
    state = torch.arange(12.0).view(2, 3, 2)
    rows = torch.tensor([2, 0, 2])
    assert torch.equal(of_rows(state, rows), state[:, [2, 0, 2]])
    assert all(torch.equal(each, state[:, [2, 0, 2]]) for each in of_rows((state, state), rows))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3), ("ab", "ba", 2)],
)
def test_edits(one, other, expected):
    assert edits(one, other) == edits(other, one) == expected


def test_the_error_rate_is_edits_a_symbol_of_the_nearest_way():
    told = ["abcd", "xy"]
    # Of the second, one of two is wrong either way: nearer is the way with more symbols.
    right = [["abcd", "abce"], ["xz", "xyzz"]]
    assert error_rate(told, right) == pytest.approx((0 + 1) / (4 + 2))
    assert error_rate(told, [["abc"], ["xy"]]) == pytest.approx(1 / 5)
