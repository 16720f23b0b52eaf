"""The copying problem: ten symbols, some blanks, a mark, then the ten symbols as the answer.

A model without memory answers by chance, one symbol of eight. Source: Hochreiter and Schmidhuber
1997; in this form, Arjovsky, Shah and Bengio 2016, arXiv:1511.06464. Unlike there, the loss is of
only the ten answers: it need not learn that blanks follow blanks.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lstm_harness.worker.workloads.layers import Layers, keeping
from lstm_harness.worker.workloads.task import Choices, Loss, draw

SYMBOLS, TOLD, BLANKS = 8, 10, 20
BATCH, HELD_OUT, HIDDEN = 64, 500, 128
# For an LSTM: after 600 steps its loss is 0.7, and with a bias of 1 it is 1.9.
FORGET_BIAS = 3.0
# The inputs have two symbols more than the answers.
BLANK, MARK = SYMBOLS, SYMBOLS + 1
# No training takes this many steps.
HELD_OUT_NUMBER = 2**40


class Model(nn.Module):
    """One layer, and a linear map from h to the logits of a symbol."""

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        self.layers = keeping(layers(SYMBOLS + 2, HIDDEN), FORGET_BIAS)
        self.line = nn.Linear(HIDDEN, SYMBOLS)

    def forward(self, told: Tensor) -> Tensor:
        """Logits [10, B, 8] of the answers to the inputs told [T, B]."""
        x = nn.functional.one_hot(told, SYMBOLS + 2).to(self.line.weight.dtype)
        y, _ = self.layers(x)
        logits: Tensor = self.line(y[-TOLD:])
        return logits


class Drawn(NamedTuple):
    """The inputs, [10 + blanks + 10, B], and the symbols in them, [10, B]."""

    told: Tensor
    symbols: Tensor


class Copying:
    """See `task.Task`."""

    learning_rate, clip = 5e-3, 1.0

    def __init__(self, layers: Layers, seed: int) -> None:
        self.model = Model(layers).to(layers.device)
        self.remembered: dict[str, Tensor] = {}
        self._seed, self._device = seed, layers.device
        self._held_out = self._drawn(HELD_OUT_NUMBER, HELD_OUT)

    def batch(self, step: int) -> Drawn:
        """New random symbols."""
        return self._drawn(step, BATCH)

    def _drawn(self, number: int, batch: int) -> Drawn:
        symbols = torch.randint(SYMBOLS, (TOLD, batch), generator=draw(self._seed, number))
        blanks = torch.full((BLANKS + TOLD, batch), BLANK)
        # The mark is the last input before the answers: the first answer is given at the mark.
        blanks[BLANKS] = MARK
        return Drawn(torch.cat([symbols, blanks]).to(self._device), symbols.to(self._device))

    def loss(self, batch: Drawn) -> Loss:
        """The cross entropy of the ten answers."""
        logits = self.model(batch.told)
        mean = nn.functional.cross_entropy(logits.flatten(0, 1), batch.symbols.flatten())
        return Loss(mean, batch.symbols.numel(), int((logits.argmax(2) == batch.symbols).sum()))

    def held_out(self, last: bool) -> dict[str, float]:
        """The share of symbols that are recalled in the right places."""
        _, predictions, right = self.loss(self._held_out)
        assert right is not None
        return {"share recalled": right / predictions}

    def baseline(self) -> float:
        """The accuracy of always answering with the most frequent held-out symbol."""
        counts = torch.bincount(self._held_out.symbols.flatten())
        return float(counts.max() / counts.sum())

    def examples(self) -> list[str]:
        """A few rows of symbols, and what was recalled."""
        recalled = self.model(self._held_out.told[:, :5]).argmax(2)
        rows = zip(self._held_out.symbols.T.tolist(), recalled.T.tolist(), strict=False)
        return [f"{' '.join(map(str, told))}: {' '.join(map(str, found))}" for told, found in rows]


def make(layers: Layers, choices: Choices, seed: int) -> Copying:
    """The task, its parameters drawn from PyTorch's own generator."""
    return Copying(layers, seed)
