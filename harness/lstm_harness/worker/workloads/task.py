"""A workload as the training loop sees it: a model, batches, a loss, and held-out data."""

import importlib
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from lstm_harness.model.workloads import EXTRA, WORKLOADS
from lstm_harness.worker.workloads.layers import Layers


class Choices(NamedTuple):
    """What a user may choose about a workload in addition to its layers.

    `remember` keeps the state from one batch to the next if a workload has such batches; `text`
    is a file to learn from instead of a language model's own.
    """

    remember: bool = True
    text: Path | None = None


class Loss(NamedTuple):
    """A batch's loss, to be differentiated.

    `mean` is over `predictions` predictions; `right` is how many of them are right, None where a
    prediction is a number.
    """

    mean: Tensor
    predictions: int
    right: int | None


class Task(Protocol):
    """A workload at work.

    Everything follows from the seed it was made with: batch `step` is the same whenever it is
    asked for. What a batch leaves for the next one, such as its state, is in `remembered`.
    """

    model: nn.Module
    learning_rate: float
    # The largest norm that all gradients of a step may have together.
    clip: float

    def batch(self, step: int) -> Any:
        """The batch of a step, from 0."""

    def loss(self, batch: Any) -> Loss:
        """The loss of a batch, in training mode."""

    def held_out(self, last: bool) -> dict[str, float]:
        """The metrics of held-out data, without gradients, in evaluation mode.

        The goal's metric is among them. `last` says that training is over: what takes long, like
        a beam search, is done only then.
        """

    def baseline(self) -> float:
        """The goal's metric of a baseline without learning, on the same held-out data."""

    def examples(self) -> list[str]:
        """A few lines that show a reader the model's answers for held-out data."""

    @property
    def remembered(self) -> dict[str, Tensor]:
        """What the next batch needs from this one in addition to the model's parameters."""

    @remembered.setter
    def remembered(self, kept: dict[str, Tensor]) -> None: ...


class MissingData(Exception):  # noqa: N818 - a finding about this machine
    """The data is not there, or too little; the text says what to type."""


def draw(seed: int, number: int) -> torch.Generator:
    """A separate random generator for a batch `number` of a seed, or another number."""
    return torch.Generator().manual_seed(hash((seed, number)) & (2**63 - 1))


def rows_of(step: int, size: int, examples: int, seed: int) -> Tensor:
    """Which of this many examples a step's batch has, int64 [size].

    Every epoch takes them in its own order, and leaves out those that do not fill a batch.
    """
    epoch, place = divmod(step, examples // size)
    order = torch.randperm(examples, generator=draw(seed, epoch))
    return order[place * size : (place + 1) * size]


def make(name: str, layers: Layers, choices: Choices, seed: int) -> Task:
    """The task of a workload, its model's parameters drawn from the seed.

    Raises:
        MissingData: a package is missing, or the chosen text does not work.
    """
    module, _, function = WORKLOADS[name].maker.partition(":")
    maker = getattr(importlib.import_module(f"lstm_harness.worker.workloads.{module}"), function)
    try:
        task: Task = maker(layers, choices, seed)
    except ModuleNotFoundError as missing:
        packages = WORKLOADS[name].packages
        raise MissingData(
            f"workload {name!r} needs {', '.join(packages)}, but {missing.name} is not installed; "
            f"pip install 'lstm-bench[{EXTRA}]'"
        ) from None
    return task
