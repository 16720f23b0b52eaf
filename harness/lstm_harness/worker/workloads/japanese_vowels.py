"""Japanese vowels: which of nine men spoke, from 7 to 29 steps of 12 cepstrum coefficients.

The files are in the order of the speakers: batches are drawn from all of them, by the seed. The
split is the data's own: 270 sequences to learn from, 370 held out. Every channel is standardised
by its mean and deviation over the training steps. Source: Kudo, Toyama and Shimbo 1999,
"Multidimensional curve classification using passing-through regions".
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from lstm_harness.worker.workloads.installed import folder
from lstm_harness.worker.workloads.layers import Layers, ends
from lstm_harness.worker.workloads.task import Choices, Loss, rows_of

CHANNELS, SPEAKERS, BATCH, HIDDEN = 12, 9, 30, 64


class Spoken(NamedTuple):
    """Sequences x [T, B, 12], 0 past their ends, their lengths [B], and who spoke, 0 to 8 [B]."""

    x: Tensor
    lengths: Tensor
    speakers: Tensor


def read(part: str) -> tuple[list[Tensor], Tensor]:
    """The sequences [T, 12] and speakers of "TRAIN" or "TEST", in the file's order."""
    path = folder("sktime") / f"datasets/data/JapaneseVowels/JapaneseVowels_{part}.ts"
    _, _, rows = path.read_text(encoding="utf-8").partition("@data\n")
    sequences, speakers = [], []
    for row in rows.split():
        *channels, speaker = row.split(":")
        numbers = [[float(each) for each in channel.split(",")] for channel in channels]
        sequences.append(torch.tensor(numbers).T)
        speakers.append(int(speaker) - 1)
    return sequences, torch.tensor(speakers)


class Model(nn.Module):
    """One layer, and a linear map from its last state to the speakers."""

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        self.layers = layers(CHANNELS, HIDDEN)
        self.dropout = nn.Dropout(0.3)
        self.line = nn.Linear(HIDDEN, SPEAKERS)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The logits [B, 9] of x [T, B, 12] with lengths [B]."""
        y, _ = self.layers(x, lengths)
        logits: Tensor = self.line(self.dropout(ends(y, lengths)))
        return logits


class JapaneseVowels:
    """See `task.Task`."""

    learning_rate, clip = 1e-3, 1.0

    def __init__(self, layers: Layers, seed: int) -> None:
        self._sequences, self._speakers = read("TRAIN")
        steps = torch.cat(self._sequences)
        self._mean, self._deviation = steps.mean(0), steps.std(0)
        self._seed, self._device = seed, layers.device
        sequences, speakers = read("TEST")
        self._held_out = self._padded(sequences, speakers)
        self.model = Model(layers).to(layers.device)
        self.remembered: dict[str, Tensor] = {}

    def _padded(self, sequences: list[Tensor], speakers: Tensor) -> Spoken:
        scaled = [(each - self._mean) / self._deviation for each in sequences]
        lengths = torch.tensor([len(each) for each in sequences])
        return Spoken(pad_sequence(scaled).to(self._device), lengths, speakers.to(self._device))

    def batch(self, step: int) -> Spoken:
        """The next 30 in an order drawn for each epoch."""
        rows = rows_of(step, BATCH, len(self._sequences), self._seed)
        return self._padded([self._sequences[row] for row in rows], self._speakers[rows])

    def loss(self, batch: Spoken) -> Loss:
        """The cross entropy, in nats."""
        logits = self.model(batch.x, batch.lengths)
        right = int((logits.argmax(1) == batch.speakers).sum())
        mean = nn.functional.cross_entropy(logits, batch.speakers)
        return Loss(mean, len(batch.speakers), right)

    def held_out(self, last: bool) -> dict[str, float]:
        """Accuracy and cross entropy of the other 370."""
        mean, predictions, right = self.loss(self._held_out)
        assert right is not None
        return {"accuracy": right / predictions, "cross entropy": float(mean)}

    def baseline(self) -> float:
        """The accuracy of the most frequent speaker."""
        speakers = self._held_out.speakers
        return int(speakers.bincount().max()) / len(speakers)

    def examples(self) -> list[str]:
        """For every speaker's first utterance: its length, the speaker, and the model's answer."""
        x, lengths, speakers = self._held_out
        told = self.model(x, lengths).argmax(1)
        firsts = [int((speakers == each).nonzero()[0]) for each in range(SPEAKERS)]
        return [
            f"{int(lengths[row])} steps of speaker {int(speakers[row]) + 1}: {int(told[row]) + 1}"
            for row in firsts
        ]


def make(layers: Layers, choices: Choices, seed: int) -> JapaneseVowels:
    """The task, its parameters drawn from PyTorch's own generator."""
    return JapaneseVowels(layers, seed)
