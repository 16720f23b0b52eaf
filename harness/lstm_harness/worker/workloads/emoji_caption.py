"""Emoji captions: a picture of 72x72 pixels, and its English name, word by word.

A convolution turns the picture into the decoder's h before its first step, and into c if h and c
are the cell's states; others, such as sLSTM's normaliser, start at 0. In training, the decoder gets
the real words (teacher forcing); for a held-out picture it gets its own words, always the
likeliest.

A tenth of all pictures is held out, drawn once. Half of all show a skin tone; for nearly all of
these the training set has the same subject in another tone, so the model must combine known subject
and tone. Many others, such as flags, have words that no other picture has: nothing predicts those.
Token accuracy counts all: the share of the words of the real captions, with their ends, predicted
in the same place. The baseline predicts in every place the most frequent word; all captions differ.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from lstm_harness.worker.workloads.emoji_pictures import captions, pictures
from lstm_harness.worker.workloads.layers import Layers, States, is_step
from lstm_harness.worker.workloads.task import Choices, Loss, draw, rows_of
from lstm_kernels import CELLS

BATCH, HIDDEN, WORD_SIZE, MOST_WORDS = 32, 128, 64, 12
# The words before and after a caption, and a word that is not in the training data, so it is never
# predicted.
END, UNKNOWN = 0, -1


class Captioned(NamedTuple):
    """Pictures, bytes [B, 3, 72, 72], words [T, B], END past each, and lengths with one END [B]."""

    pictures: Tensor
    words: Tensor
    lengths: Tensor


class Model(nn.Module):
    """A convolution, a decoder of one layer, and a linear map from its h to the words."""

    def __init__(self, layers: Layers, words: int) -> None:
        super().__init__()
        states = CELLS[layers.cell].states
        self._given = 2 if states == ("h", "c") else 1
        self._zeros = len(states) - self._given
        self.picture = nn.Sequential(
            *(nn.Conv2d(3, 16, 6, stride=3, padding=2), nn.GroupNorm(4, 16), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.GroupNorm(4, 32), nn.ReLU()),
            *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.GroupNorm(4, 64), nn.ReLU()),
            *(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 6 * 6, self._given * HIDDEN)),
            nn.Tanh(),
        )
        self.words = nn.Embedding(words, WORD_SIZE)
        self.layers = layers(WORD_SIZE, HIDDEN)
        self.line = nn.Linear(HIDDEN, words)

    def states(self, pictures: Tensor) -> States:
        """The decoder's before its first step, [1, B, H] each, of pictures [B, 3, 72, 72]."""
        given = self.picture(0.5 - pictures / 255)[None].chunk(self._given, 2)
        zeros = [torch.zeros_like(given[0])] * self._zeros
        states = tuple(state.contiguous() for state in (*given, *zeros))
        return states if len(states) > 1 else states[0]

    def forward(self, pictures: Tensor, words: Tensor, lengths: Tensor) -> Tensor:
        """The logits [T, B, V] of every word, of the words [T, B] that come before each."""
        y, _ = self.layers(self.words(words), lengths, self.states(pictures))
        logits: Tensor = self.line(y)
        return logits

    def said(self, pictures: Tensor) -> Tensor:
        """The words [12, B] of its own captions: always the likeliest; after END anything."""
        states, words = self.states(pictures), pictures.new_full((1, len(pictures)), END).long()
        said = []
        for _ in range(MOST_WORDS):
            y, states = self.layers(self.words(words), None, states)
            words = self.line(y).argmax(2)
            said.append(words)
        return torch.cat(said)


class EmojiCaption:
    """See `task.Task`."""

    learning_rate, clip = 1e-3, 1.0

    def __init__(self, layers: Layers, seed: int) -> None:
        named = captions()
        self._pictures, texts = pictures(named), list(named.values())
        order, held_out = torch.randperm(len(texts), generator=draw(0, 0)), len(texts) // 10
        self._learnt_from, self.texts = order[held_out:], [texts[row] for row in order[:held_out]]
        self.known = ["", *sorted({word for row in self._learnt_from for word in texts[row]})]
        numbers = {word: number for number, word in enumerate(self.known)}
        self._captions = [
            torch.tensor([*(numbers.get(word, UNKNOWN) for word in text), END]) for text in texts
        ]
        self._seed, self._device = seed, layers.device
        self._held_out = self._rows(order[:held_out])
        self.model = Model(layers, len(self.known)).to(layers.device)
        self.remembered: dict[str, Tensor] = {}

    def _rows(self, rows: Tensor) -> Captioned:
        chosen = [self._captions[row] for row in rows]
        words = pad_sequence(chosen, padding_value=END).to(self._device)
        lengths = torch.tensor([len(each) for each in chosen])
        return Captioned(self._pictures[rows].to(self._device), words, lengths)

    def batch(self, step: int) -> Captioned:
        """The next 32 in an order drawn for each epoch."""
        rows = rows_of(step, BATCH, len(self._learnt_from), self._seed)
        return self._rows(self._learnt_from[rows])

    def loss(self, batch: Captioned) -> Loss:
        """The cross entropy of a word, in nats."""
        seen, words, lengths = batch
        there = _there(words, lengths)
        before = torch.cat([torch.full_like(words[:1], END), words[:-1]])
        logits, wanted = self.model(seen, before, lengths)[there], words[there]
        right = int((logits.argmax(1) == wanted).sum())
        return Loss(nn.functional.cross_entropy(logits, wanted), len(wanted), right)

    def held_out(self, last: bool) -> dict[str, float]:
        """Token accuracy, and the share of captions that are right from word to end."""
        seen, words, lengths = self._held_out
        right = (self.model.said(seen)[: len(words)] == words) & _there(words, lengths)
        whole = int((right.sum(0).cpu() == lengths).sum()) / len(lengths)
        return {"token accuracy": int(right.sum()) / int(lengths.sum()), "whole captions": whole}

    def baseline(self) -> float:
        """The accuracy of the most frequent word in each place of the training captions."""
        learnt, (_, words, lengths) = self._rows(self._learnt_from), self._held_out
        there = _there(learnt.words, learnt.lengths)
        most = [row[has].bincount().argmax() for row, has in zip(learnt.words, there, strict=True)]
        right = (torch.stack(most)[: len(words), None] == words) & _there(words, lengths)
        return int(right.sum()) / int(lengths.sum())

    def examples(self) -> list[str]:
        """A few captions, and the model's answers."""
        rows = self.model.said(self._held_out.pictures[:12]).T.tolist()
        said = [[self.known[word] for word in row[: [*row, END].index(END)]] for row in rows]
        return [": ".join(map(" ".join, each)) for each in zip(self.texts, said, strict=False)]


def _there(words: Tensor, lengths: Tensor) -> Tensor:
    """The places where a caption has a word or its end: bool [T, B]."""
    return is_step(len(words), lengths, words)[..., 0].bool()


def make(layers: Layers, choices: Choices, seed: int) -> EmojiCaption:
    """The task, its parameters drawn from PyTorch's own generator."""
    return EmojiCaption(layers, seed)
