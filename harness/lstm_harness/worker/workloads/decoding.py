"""Sequences from a decoder: a beam search (greedy if its width is 1), and errors in them."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from lstm_harness.worker.workloads.layers import States

# From the symbols before [N, 1] and the states, logits [N, V] of the symbols after, and the states.
Next = Callable[[Tensor, States | None], tuple[Tensor, States]]


def search(
    follow: Next, begin: Tensor, end: int, most: int, width: int = 1
) -> tuple[list[list[int]], Tensor]:
    """The likeliest continuations that a beam finds.

    Args:
        follow: the decoder, of B*width rows: a sequence's beams lie side by side.
        begin: the symbol before the first, of each sequence, [B].
        end: the symbol after the last.
        most: steps after which it ends in any case.
        width: beams a sequence; 1 takes the likeliest symbol at every step.
    Returns:
        The symbols of each sequence without `end`, and their log probability [B].
    """
    first = torch.arange(len(begin), device=begin.device)[:, None] * width
    # At first only one beam of each sequence is alive, so that not all are the same.
    scores = torch.full((len(begin), width), -torch.inf, device=begin.device)
    scores[:, 0] = 0
    said = begin.repeat_interleave(width)[:, None]
    is_over = torch.zeros(len(said), dtype=torch.bool, device=begin.device)
    states: States | None = None
    for _ in range(most):
        logits, states = follow(said[:, -1:], states)
        further = logits.log_softmax(1)
        further[is_over] = -torch.inf
        further[is_over, end] = 0
        symbols = further.shape[1]
        every = (scores.view(-1, 1) + further).view(len(begin), -1)
        scores, best = every.topk(width)
        rows = (first + best // symbols).flatten()
        said = torch.cat([said[rows], (best % symbols).view(-1, 1)], 1)
        states, is_over = of_rows(states, rows), said[:, -1] == end
        if is_over.all():
            break
    told = said.view(len(begin), width, -1)[:, 0, 1:].tolist()
    return [each[: each.index(end)] if end in each else each for each in told], scores[:, 0]


def of_rows(states: States, rows: Tensor) -> States:
    """The states of some sequences of a batch."""
    if isinstance(states, Tensor):
        return states.index_select(1, rows)
    return tuple(state.index_select(1, rows) for state in states)


def error_rate(told: Iterable[Sequence[str]], right: Iterable[Sequence[Sequence[str]]]) -> float:
    """Edits a symbol of the right sequences.

    Args:
        right: for each decoded sequence all right ones: it is compared with the nearest, the one
            with the fewest edits a symbol.
    """
    nearest = []
    for each, ways in zip(told, right, strict=True):
        found = [(edits(each, way), len(way)) for way in ways]
        nearest.append(min(found, key=lambda one: one[0] / one[1]))
    wrong, symbols = map(sum, zip(*nearest, strict=True))
    return wrong / symbols


def edits(one: Sequence[object], other: Sequence[object]) -> int:
    """The fewest insertions, deletions and substitutions that turn one into the other."""
    above = list(range(len(other) + 1))
    for row, a in enumerate(one, 1):
        now = [row]
        for at, b in enumerate(other):
            now.append(min(above[at] + (a != b), above[at + 1] + 1, now[at] + 1))
        above = now
    return above[-1]
