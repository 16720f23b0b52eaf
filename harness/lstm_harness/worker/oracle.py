"""The float64 answer: made once a problem by the `reference` backend, shared through a file.

Two of a problem's input sets are answered: the one checked before timing, and one that the
backend first sees in its last sample. Where float64 over the whole batch is too slow, a few batch
rows are answered exactly over all steps.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from lstm_harness.model.oracle_cost import rows_to_answer
from lstm_harness.worker.inputs import Inputs, make_inputs, only_rows, silence_other_rows, to_double
from lstm_harness.worker.passes import make_pass
from lstm_kernels import registry
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Weights

FIRST_SET, LAST_SET = 0, 1


@dataclass(frozen=True)
class Answer:
    """What is right for one problem.

    `sets` maps a set's number to every output and gradient, float64 on the CPU, each a list with
    an entry a layer and direction. `rows` are the batch rows that were answered, None for all.
    """

    rows: tuple[int, ...] | None
    sets: dict[int, dict[str, list[Tensor]]]


def checked_inputs(
    problem: Problem,
    seed: int,
    index: int,
    device: str,
    weights: tuple[Weights, ...] | None = None,
) -> Inputs:
    """A set whose answer is known: the gradients it starts from reach the answered rows alone."""
    inputs = make_inputs(problem, seed, index, device, weights)
    rows = rows_to_answer(problem, device)
    return inputs if rows is None else silence_other_rows(inputs, rows)


def answer(problem: Problem, seed: int, device: str) -> Answer:
    """Compute the answer in float64 on a device."""
    rows = rows_to_answer(problem, device)
    numbers = (FIRST_SET, LAST_SET)
    return Answer(
        rows, {index: _answer_set(problem, seed, index, device, rows) for index in numbers}
    )


def save(made: Answer, path: Path) -> None:
    """Write an answer in one step, so that a reader sees a whole one or none."""
    fresh = path.with_suffix(".new")
    torch.save({"rows": made.rows, "sets": made.sets}, fresh)
    fresh.replace(path)


def load(path: Path) -> Answer:
    """Read an answer that `save` wrote."""
    stored = torch.load(path, weights_only=True)
    return Answer(stored["rows"], stored["sets"])


def _answer_set(
    problem: Problem, seed: int, index: int, device: str, rows: tuple[int, ...] | None
) -> dict[str, list[Tensor]]:
    inputs = make_inputs(problem, seed, index, device)
    if rows is not None:
        inputs = only_rows(inputs, rows)
    double = replace(problem, dtype="float64", precision="ieee", batch=inputs.x.shape[1])
    train = make_pass(registry.load("reference"), double, "train")
    state = train.prepare(to_double(inputs))
    train.execute(state)
    tensors = {name: group for name, group in state.tensors().items() if group}
    return {name: [tensor.detach().cpu() for tensor in group] for name, group in tensors.items()}
