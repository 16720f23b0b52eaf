"""A character language model: which character comes next in a text.

As in char-rnn: characters one hot, two layers of 128, 50 streams of the text read 50 characters at
a time; the next batch begins with the state at the end of this one. Source: Karpathy 2015, "The
Unreasonable Effectiveness of Recurrent Neural Networks"; held-out text as there, the last tenth.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lstm_harness.worker.workloads.layers import Layers, States, detached
from lstm_harness.worker.workloads.task import Choices, Loss, draw
from lstm_harness.worker.workloads.texts import text_of

HIDDEN, DEPTH, STEPS, STREAMS = 128, 2, 50, 50
# At most this many characters of a text's last tenth are held out.
HELD_OUT = 100_000
SAMPLED, TEMPERATURES = 200, (0.5, 1.0)
# No training takes this many steps.
SAMPLE_NUMBER = 2**40


class Batch(NamedTuple):
    """Characters and the characters after them, [T, B], and whether the streams begin here."""

    before: Tensor
    after: Tensor
    is_first: bool


class Model(nn.Module):
    """Two layers, and a linear map from h to the logits of the next character."""

    def __init__(self, layers: Layers, characters: int) -> None:
        super().__init__()
        self.layers = layers(characters, HIDDEN, num_layers=DEPTH)
        self.line = nn.Linear(HIDDEN, characters)

    def forward(self, before: Tensor, states: States | None) -> tuple[Tensor, States]:
        """Logits [T, B, characters] of what follows each of before [T, B], and the states."""
        x = nn.functional.one_hot(before, self.line.out_features).to(self.line.weight.dtype)
        y, states = self.layers(x, states=states)
        return self.line(y), states


class CharacterModel:
    """See `task.Task`."""

    learning_rate, clip = 4e-3, 5.0

    def __init__(self, layers: Layers, choices: Choices, seed: int) -> None:
        text = text_of(choices.text)
        self._characters = sorted(set(text))
        self.model = Model(layers, len(self._characters)).to(layers.device)
        self.remembered: dict[str, Tensor] = {}
        self._remembers, self._seed, self._device = choices.remember, seed, layers.device
        numbers = {character: number for number, character in enumerate(self._characters)}
        every = torch.tensor([numbers[character] for character in text])
        held_out = min(len(every) // 10, HELD_OUT)
        self._learnt, self._unseen = every[:-held_out], every[-held_out:]
        # The last character of a stream has no successor.
        self._batches = (len(self._learnt) - 1) // (STREAMS * STEPS)
        self._held_out = streams(self._unseen, (len(self._unseen) - 1) // STREAMS)

    def batch(self, step: int) -> Batch:
        """The next 50 characters of every stream; after the text's end from its beginning."""
        at = step % self._batches
        before, after = streams(self._learnt, self._batches * STEPS)
        now = slice(at * STEPS, (at + 1) * STEPS)
        return Batch(before[now].to(self._device), after[now].to(self._device), at == 0)

    def loss(self, batch: Batch) -> Loss:
        """The cross entropy in nats."""
        states = None if batch.is_first else states_of(self.remembered)
        logits, states = self.model(batch.before, states)
        if self._remembers:
            self.remembered = named(detached(states))
        right = int((logits.argmax(2) == batch.after).sum())
        return Loss(entropy(logits, batch.after), batch.after.numel(), right)

    def held_out(self, last: bool) -> dict[str, float]:
        """The loss on the text's end, in 50 streams, with the state kept between pieces."""
        states: States | None = None
        before, after = (each.to(self._device) for each in self._held_out)
        nats = 0.0
        for pieces in zip(before.split(STEPS), after.split(STEPS), strict=True):
            logits, states = self.model(pieces[0], states)
            nats += float(entropy(logits, pieces[1])) * pieces[1].numel()
        return {"nats a character": nats / after.numel()}

    def baseline(self) -> float:
        """The loss of predicting each character by its frequency in the training text plus one."""
        counts = torch.bincount(self._learnt, minlength=len(self._characters)) + 1.0
        return float(-(counts / counts.sum()).log()[self._held_out[1]].mean())

    def examples(self) -> list[str]:
        """What the model writes, by temperature: a lower one gives likelier text."""
        return [f"temperature {each}: {self._written(each)}" for each in TEMPERATURES]

    def _written(self, temperature: float) -> str:
        random = draw(self._seed, SAMPLE_NUMBER)
        states: States | None = None
        at, written = self._unseen[:1, None], ""
        for _ in range(SAMPLED):
            logits, states = self.model(at.to(self._device), states)
            likely = (logits[0].double().cpu() / temperature).softmax(1)
            at = torch.multinomial(likely, 1, generator=random)
            written += self._characters[int(at)]
        return " ".join(written.split())


def streams(text: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """A text cut into parallel streams, [length, streams], and the character after each one."""
    whole = STREAMS * length
    return text[:whole].view(STREAMS, length).T, text[1 : whole + 1].view(STREAMS, length).T


def entropy(logits: Tensor, after: Tensor) -> Tensor:
    """The mean cross entropy of [T, B, characters] against [T, B]."""
    return nn.functional.cross_entropy(logits.flatten(0, 1), after.flatten())


def states_of(remembered: dict[str, Tensor]) -> States | None:
    """States in the form that the layers take."""
    kept = tuple(remembered.values())
    return None if not kept else kept[0] if len(kept) == 1 else kept


def named(states: States | None) -> dict[str, Tensor]:
    """States in the form that a checkpoint stores, in the cell's order."""
    assert states is not None
    kept = (states,) if isinstance(states, Tensor) else states
    return {str(number): state for number, state in enumerate(kept)}


def make(layers: Layers, choices: Choices, seed: int) -> CharacterModel:
    """The task, its parameters drawn from PyTorch's own generator."""
    return CharacterModel(layers, choices, seed)
