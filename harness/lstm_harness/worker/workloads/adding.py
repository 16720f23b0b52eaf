"""The adding problem: of 100 numbers, the sum of two that are marked, one in either half.

A model that does not remember over tens of steps answers with the mean, and is off by 1/6. Source:
Hochreiter and Schmidhuber 1997, experiment 4; in this form, Le, Jaitly and Hinton 2015,
arXiv:1504.00941.
"""

import torch
from torch import Tensor, nn

from lstm_harness.worker.workloads.layers import Layers, keeping
from lstm_harness.worker.workloads.task import Choices, Loss, draw

STEPS, BATCH, HELD_OUT, HIDDEN = 100, 50, 1000, 64
# For an LSTM; without it and at a tenth of the rate, nothing is learnt in 2,500 steps.
FORGET_BIAS = 1.0
# No training takes this many steps.
HELD_OUT_NUMBER = 2**40


class Model(nn.Module):
    """One layer, and a linear map from its last state to the sum."""

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        self.layers = keeping(layers(2, HIDDEN), FORGET_BIAS)
        self.line = nn.Linear(HIDDEN, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The sums [B] of x [T, B, 2]."""
        y, _ = self.layers(x)
        sums: Tensor = self.line(y[-1])[:, 0]
        return sums


class Adding:
    """See `task.Task`."""

    learning_rate, clip = 1e-2, 1.0

    def __init__(self, layers: Layers, seed: int) -> None:
        self.model = Model(layers).to(layers.device)
        self.remembered: dict[str, Tensor] = {}
        self._seed, self._device = seed, layers.device
        self._held_out = self._drawn(HELD_OUT_NUMBER, HELD_OUT)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Numbers and marks [T, B, 2], and sums [B]."""
        return self._drawn(step, BATCH)

    def _drawn(self, number: int, batch: int) -> tuple[Tensor, Tensor]:
        drawn = draw(self._seed, number)
        numbers = torch.rand(STEPS, batch, generator=drawn)
        half = STEPS // 2
        marks = torch.zeros(STEPS, batch)
        for first in (0, half):
            places = torch.randint(first, first + half, (1, batch), generator=drawn)
            marks.scatter_(0, places, 1.0)
        x, sums = torch.stack([numbers, marks], 2), (numbers * marks).sum(0)
        return x.to(self._device), sums.to(self._device)

    def loss(self, batch: tuple[Tensor, Tensor]) -> Loss:
        """The mean squared error."""
        x, sums = batch
        return Loss(nn.functional.mse_loss(self.model(x), sums), len(sums), None)

    def held_out(self, last: bool) -> dict[str, float]:
        """The mean squared error on held-out sequences."""
        return {"mean squared error": float(self.loss(self._held_out).mean)}

    def baseline(self) -> float:
        """The error of always answering with the mean, 1."""
        return float(((self._held_out[1] - 1) ** 2).mean())

    def examples(self) -> list[str]:
        """A few sums, and the model's answers."""
        x, sums = self._held_out
        told = self.model(x[:, :5])
        return [f"{real:.3f}: {found:.3f}" for real, found in zip(sums, told, strict=False)]


def make(layers: Layers, choices: Choices, seed: int) -> Adding:
    """The task, its parameters drawn from PyTorch's own generator."""
    return Adding(layers, seed)
