"""Handwritten digits of 8x8 pixels, read in three ways: row by row, pixel by pixel, permuted.

By rows a digit is 8 steps of 8 pixels; by pixels, 64 steps of one; permuted, these in an order that
is drawn once and the same for all digits and seeds, so that related pixels are far apart
in time (Le, Jaitly and Hinton 2015, arXiv:1504.00941, do so with MNIST). Another fixed permutation
splits the 1,797 digits into 1,437 to learn from and 360 held out: both have the same
writers. Source: Alpaydin and Kaynak 1998, UCI; scikit-learn contains its test set.
"""

import numpy as np
import torch
from torch import Tensor, nn

from lstm_harness.worker.workloads.installed import folder
from lstm_harness.worker.workloads.layers import Layers, ends
from lstm_harness.worker.workloads.task import Choices, Loss, draw, rows_of

DIGITS, BATCH, HIDDEN, HELD_OUT = 10, 50, 64, 360
# The permutations belong to the data and do not depend on a training's seed.
SPLIT, PIXELS = 0, 1


def read() -> tuple[Tensor, Tensor]:
    """The pixels [1797, 64], by rows and in [0, 1], and the digits [1797], in the file's order."""
    path = folder("sklearn") / "datasets/data/digits.csv.gz"
    numbers = torch.from_numpy(np.loadtxt(path, delimiter=",", dtype=np.float32))
    return numbers[:, :-1] / 16, numbers[:, -1].long()


def permutation(count: int, number: int) -> Tensor:
    """One of the data's fixed orders."""
    return torch.randperm(count, generator=draw(0, number))


class Model(nn.Module):
    """One layer, and a linear map from its last state to the digits."""

    def __init__(self, layers: Layers, inputs: int) -> None:
        super().__init__()
        self.layers = layers(inputs, HIDDEN)
        self.line = nn.Linear(HIDDEN, DIGITS)

    def forward(self, x: Tensor) -> Tensor:
        """The logits [B, 10] of x [T, B, I]."""
        y, _ = self.layers(x)
        logits: Tensor = self.line(ends(y))
        return logits


class Digits:
    """See `task.Task`.

    Args:
        inputs: the pixels of a step.
        order: the order of the 64 pixels in time.
    """

    learning_rate, clip = 3e-3, 1.0

    def __init__(self, layers: Layers, seed: int, inputs: int, order: Tensor) -> None:
        pixels, self._digits = (each.to(layers.device) for each in read())
        # [T, 1797, I]
        self._x = pixels[:, order].reshape(len(pixels), -1, inputs).transpose(0, 1)
        split = permutation(len(pixels), SPLIT)
        self._learnt_from, self._held_out = split[:-HELD_OUT], split[-HELD_OUT:]
        self._seed = seed
        self.model = Model(layers, inputs).to(layers.device)
        self.remembered: dict[str, Tensor] = {}

    def _rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self._x[:, rows].contiguous(), self._digits[rows]

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The next 50 [T, B, I] in an order drawn for each epoch, and their digits [B]."""
        rows = rows_of(step, BATCH, len(self._learnt_from), self._seed)
        return self._rows(self._learnt_from[rows])

    def loss(self, batch: tuple[Tensor, Tensor]) -> Loss:
        """The cross entropy, in nats."""
        x, digits = batch
        logits = self.model(x)
        right = int((logits.argmax(1) == digits).sum())
        return Loss(nn.functional.cross_entropy(logits, digits), len(digits), right)

    def held_out(self, last: bool) -> dict[str, float]:
        """Accuracy and cross entropy of the other 360."""
        mean, predictions, right = self.loss(self._rows(self._held_out))
        assert right is not None
        return {"accuracy": right / predictions, "cross entropy": float(mean)}

    def baseline(self) -> float:
        """The accuracy of the most frequent digit."""
        return int(self._digits[self._held_out].bincount().max()) / HELD_OUT

    def examples(self) -> list[str]:
        """A few digits, and the model's answers."""
        x, digits = self._rows(self._held_out[:10])
        told = self.model(x).argmax(1)
        return [f"{int(real)}: {int(found)}" for real, found in zip(digits, told, strict=True)]


def make(layers: Layers, choices: Choices, seed: int) -> Digits:
    """The task by rows, its parameters drawn from PyTorch's own generator."""
    return Digits(layers, seed, 8, torch.arange(64))


def pixels(layers: Layers, choices: Choices, seed: int) -> Digits:
    """The task pixel by pixel."""
    return Digits(layers, seed, 1, torch.arange(64))


def permuted(layers: Layers, choices: Choices, seed: int) -> Digits:
    """The task in the permuted order."""
    return Digits(layers, seed, 1, permutation(64, PIXELS))
