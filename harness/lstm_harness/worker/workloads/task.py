"""What a workload is to the training loop: a model, batches, a loss, and what is held out."""

import importlib
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from lstm_harness.model.workloads import EXTRA, WORKLOADS
from lstm_harness.worker.workloads.layers import Layers


class Choices(NamedTuple):
    """What a user may choose of a workload beside its layers.

    `remember` keeps the state from one batch to the next where a workload has such batches; `text`
    is a file to learn from instead of a language model's own.
    """

    remember: bool = True
    text: Path | None = None


class Loss(NamedTuple):
    """A batch's loss, to be differentiated.

    `mean` is over so many `predictions`; `right` is how many of them are right, None where a
    prediction is a number.
    """

    mean: Tensor
    predictions: int
    right: int | None


class Task(Protocol):
    """A workload at work.

    Everything follows from the seed it was made with: batch `step` is the same whenever it is
    asked for. What a batch leaves for the next one, a remembered state say, is in `remembered`.
    """

    model: nn.Module
    learning_rate: float
    # The largest norm that a step's gradients may have together.
    clip: float

    def batch(self, step: int) -> Any:
        """The batch of a step, from 0."""

    def loss(self, batch: Any) -> Loss:
        """What the model makes of a batch, in training mode."""

    def held_out(self, last: bool) -> dict[str, float]:
        """What it makes of data it does not learn from, without gradients, in evaluation mode.

        The goal's metric is among them. `last` tells that training is over: what takes long, like
        a beam search, is done then alone.
        """

    def baseline(self) -> float:
        """The goal's metric of what needs no learning, from the same held-out data."""

    def examples(self) -> list[str]:
        """A few lines that show a reader what the model makes of held-out data."""

    @property
    def remembered(self) -> dict[str, Tensor]:
        """What the next batch needs of this one beside the model's parameters."""

    @remembered.setter
    def remembered(self, kept: dict[str, Tensor]) -> None: ...


class MissingData(Exception):  # noqa: N818 - a finding about this machine
    """The data is not there, or too little; the text says what to type."""


def draw(seed: int, number: int) -> torch.Generator:
    """Random numbers of their own for a seed's batch `number`, or for whatever else is numbered."""
    return torch.Generator().manual_seed(hash((seed, number)) & (2**63 - 1))


def rows_of(step: int, size: int, examples: int, seed: int) -> Tensor:
    """Which of so many examples a step's batch has, int64 [size].

    Every epoch takes them in an order of its own, and leaves out what fills no batch.
    """
    epoch, place = divmod(step, examples // size)
    order = torch.randperm(examples, generator=draw(seed, epoch))
    return order[place * size : (place + 1) * size]


def make(name: str, layers: Layers, choices: Choices, seed: int) -> Task:
    """The task of a workload, its model's parameters drawn from the seed.

    Raises:
        MissingData: a package lacks, or the text that was chosen will not do.
    """
    module, _, function = WORKLOADS[name].maker.partition(":")
    maker = getattr(importlib.import_module(f"lstm_harness.worker.workloads.{module}"), function)
    try:
        task: Task = maker(layers, choices, seed)
    except ModuleNotFoundError as missing:
        packages = WORKLOADS[name].packages
        raise MissingData(
            f"workload {name!r} needs {', '.join(packages)}, and there is no {missing.name}; "
            f"pip install 'lstm-bench[{EXTRA}]'"
        ) from None
    return task
