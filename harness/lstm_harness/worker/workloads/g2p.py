"""Grapheme to phoneme: an English word's letters in, its sounds out, an encoder and a decoder.

The encoder reads the letters from the last to the first; the decoder gets its last h at every
step, together with the phoneme before, so that any cell works. There is no attention. Source of the
data: CMUdict, without its stress marks; of the model, Cho et al. 2014, arXiv:1406.1078; of a
larger one on all of this data, Yao and Zweig 2015, arXiv:1506.00196.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import zip_longest
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lstm_harness.worker.workloads.cmudict_words import Ways, dictionary, split
from lstm_harness.worker.workloads.decoding import error_rate, search
from lstm_harness.worker.workloads.layers import Layers, States, ends
from lstm_harness.worker.workloads.task import Choices, Loss, draw

EMBEDDING, HIDDEN, BATCH, BEAM = 64, 192, 128, 5
# The symbols before a word's first phoneme and after its last one; the most phonemes of a word.
END, MOST_PHONEMES = 0, 15


class Pairs(NamedTuple):
    """Words, the last letter first, and their phonemes: padded [B, T], and lengths [B]."""

    letters: Tensor
    spelt: Tensor
    phonemes: Tensor
    said: Tensor


class Model(nn.Module):
    """An encoder and a decoder of one layer each."""

    def __init__(self, layers: Layers, phonemes: int) -> None:
        super().__init__()
        self.letters = nn.Embedding(27, EMBEDDING)
        self.encoder = layers(EMBEDDING, HIDDEN)
        self.phonemes = nn.Embedding(phonemes + 1, EMBEDDING)
        self.decoder = layers(EMBEDDING + HIDDEN, HIDDEN)
        self.line = nn.Linear(HIDDEN, phonemes + 1)

    def encode(self, letters: Tensor, spelt: Tensor) -> Tensor:
        """The encoding of words, [B, H]."""
        y, _ = self.encoder(self.letters(letters.T), spelt)
        return ends(y, spelt)

    def decode(
        self, words: Tensor, before: Tensor, said: Tensor | None, states: States | None = None
    ) -> tuple[Tensor, States]:
        """Logits [T, B, phonemes + 1] of what follows `before` [B, T], and the states."""
        embedded = self.phonemes(before.T)
        x = torch.cat([embedded, words.expand(len(embedded), -1, -1)], 2)
        y, states = self.decoder(x, said, states)
        return self.line(y), states


class GraphemeToPhoneme:
    """See `task.Task`."""

    learning_rate, clip = 3e-3, 1.0

    def __init__(self, layers: Layers, seed: int) -> None:
        self.learnt, self.unseen = split(dictionary())
        self._seed, self._device = seed, layers.device
        self._names = sorted({name for ways in self.learnt.values() for name in ways[0]})
        self.model = Model(layers, len(self._names)).to(layers.device)
        self.remembered: dict[str, Tensor] = {}
        self._learnt_pairs, self._unseen_pairs = map(self._paired, (self.learnt, self.unseen))

    def _paired(self, said: Mapping[str, Ways]) -> Pairs:
        numbers = {name: number for number, name in enumerate(self._names, 1)}
        letters = [[ord(letter) - 96 for letter in word[::-1]] for word in said]
        phonemes = [[numbers[name] for name in ways[0]] for ways in said.values()]
        return Pairs(*padded(letters), *padded(phonemes))

    def batch(self, step: int) -> Pairs:
        """New random words, each with its first pronunciation."""
        drawn = torch.randint(len(self.learnt), (BATCH,), generator=draw(self._seed, step))
        return Pairs(*(each[drawn] for each in self._learnt_pairs))

    def logits(self, batch: Pairs) -> Tensor:
        """Logits [T, B, phonemes + 1] of each next phoneme, from the word and those before."""
        before = nn.functional.pad(batch.phonemes[:, : int(batch.said.max())], (1, 0), value=END)
        letters = batch.letters[:, : int(batch.spelt.max())]
        words = self.model.encode(letters.to(self._device), batch.spelt)
        return self.model.decode(words, before.to(self._device), batch.said + 1)[0]

    def loss(self, batch: Pairs) -> Loss:
        """The cross entropy of the phonemes and the end, given the right ones before."""
        logits = self.logits(batch)
        after = nn.functional.pad(batch.phonemes, (0, 1), value=END)[:, : len(logits)].T
        is_asked = torch.arange(len(logits))[:, None] <= batch.said
        told, right = logits[is_asked.to(self._device)], after[is_asked].to(self._device)
        mean = nn.functional.cross_entropy(told, right)
        return Loss(mean, len(right), int((told.argmax(1) == right).sum()))

    def say(self, batch: Pairs, width: int = 1) -> tuple[Ways, Tensor]:
        """The phonemes of words and their log probability [B]; a beam width of 1 is greedy."""
        words = self.model.encode(batch.letters.to(self._device), batch.spelt)
        begin = torch.full_like(words[:, 0], END, dtype=torch.int64)
        words = words.repeat_interleave(width, 0)

        def follow(before: Tensor, states: States | None) -> tuple[Tensor, States]:
            logits, states = self.model.decode(words, before, None, states)
            return logits[0], states

        told, scores = search(follow, begin, END, MOST_PHONEMES + 1, width)
        return [tuple(self._names[number - 1] for number in each) for each in told], scores

    def held_out(self, last: bool) -> dict[str, float]:
        """The error rate on held-out words, decoded greedily; at the end by beams too."""
        metrics = {"phoneme error rate": 1}
        if last:
            metrics[f"phoneme error rate, beam of {BEAM}"] = BEAM
        told = {metric: self.say(self._unseen_pairs, width)[0] for metric, width in metrics.items()}
        return {metric: error_rate(ways, self.unseen.values()) for metric, ways in told.items()}

    def baseline(self) -> float:
        """The error rate of each letter's most frequent phoneme, in words with as many phonemes."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for word, (way, *_) in self.learnt.items():
            for letter, name in zip(word, way, strict=False) if len(word) == len(way) else ():
                counts[letter][name] += 1
        mostly = {letter: names.most_common(1)[0][0] for letter, names in counts.items()}
        told = ([mostly[letter] for letter in word] for word in self.unseen)
        return error_rate(told, self.unseen.values())

    def examples(self) -> list[str]:
        """A few words, the model's phonemes, and the right pronunciations."""
        told, _ = self.say(Pairs(*(each[:8] for each in self._unseen_pairs)))
        right = ["; ".join(map(" ".join, ways)) for ways in self.unseen.values()]
        rows = zip(self.unseen, told, right, strict=False)
        return [f"{word}: {' '.join(way)} ({ways})" for word, way, ways in rows]


def padded(sequences: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Sequences side by side, [B, T], END after each; and their lengths [B]."""
    rows = [*zip_longest(*sequences, fillvalue=END)]
    return torch.tensor(rows).T, torch.tensor([*map(len, sequences)])


def make(layers: Layers, choices: Choices, seed: int) -> GraphemeToPhoneme:
    """The task, its parameters drawn from PyTorch's own generator."""
    return GraphemeToPhoneme(layers, seed)
