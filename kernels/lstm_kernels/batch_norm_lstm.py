"""`BatchNormLSTM`: an LSTM normalised over its batch, with running statistics for evaluation.

It runs the step of the cell `lstm_batchnorm` of `lstm_kernels.cells`. In training
each step is normalised by the batch's own statistics. They are stored, one
row for each step, because those of the first few steps differ; in evaluation a step is normalised
by its row, or by the last row if it has none. With `normalise=False` it is the plain LSTM.

Source: Cooijmans et al. 2016, "Recurrent Batch Normalization". Limits: PyTorch's operations, step
by step as in the backend `hoisted`; a batch of one is its own mean, so that nothing of x and h is
left.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count, product
from typing import Any

import torch
from torch import Tensor

from lstm_kernels.any_cell import Recurrent
from lstm_kernels.common.gates import State, input_product, next_state, step_code
from lstm_kernels.common.norms import BatchNorm, moments, normalised
from lstm_kernels.common.unroll import run_directions, unroll
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Weights, run_layers

CELL = "lstm_batchnorm"
# Fewer running sequences have no useful variance.
FEWEST = 2
# The statistics of each layer and direction.
KEPT = ("running_mean", "running_var", "batches")


class BatchNormLSTM(Recurrent):
    """torch.nn.LSTM with the products of x and h, and c, normalised over the batch at every step.

    Parameters are torch.nn.LSTM's and a gain for each gate, for x and for h, `gain_xi_l0` [H] and
    so on, from 0.1; `gain_c_l0` and `shift_c_l0` [H], from 0.1 and 0. For each layer and direction
    three buffers hold the statistics: `running_mean_l0` and `running_var_l0` [max_steps, 9H], of
    the 4H products with x, the 4H with h, and c; and `batches_l0` [max_steps], the number of
    batches.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device,
            dtype: torch.nn.LSTM's.
        normalise: False for the plain LSTM, which has none of the above.
        max_steps: steps with statistics, counted in each direction from where it
            begins. Later steps of a training batch are left out, and so are steps at which only one
            sequence runs.
        momentum: the part of a running statistic that each batch replaces; None for the mean of all
            batches.
    Raises:
        ValueError: a size is below 1, or a momentum not from 0 to 1.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        normalise: bool = True,
        max_steps: int = 100,
        momentum: float | None = 0.1,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if type(max_steps) is not int or max_steps < 1:
            raise ValueError(f"max_steps={max_steps!r}: expected a whole number from 1 on")
        if momentum is not None and not 0 <= momentum <= 1:
            raise ValueError(f"momentum={momentum!r}: expected from 0 to 1, or None")
        sizes = (input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional)
        cell = CELL if normalise else "lstm"
        super().__init__(cell, *sizes, device=device, dtype=dtype)
        self.normalise, self.max_steps, self.momentum = normalise, max_steps, momentum
        if normalise:
            where = {"device": device, "dtype": dtype}
            for suffix in self._suffixes():
                zeros = torch.zeros(max_steps, 9 * hidden_size, **where)
                self.register_buffer(f"running_mean{suffix}", zeros)
                self.register_buffer(f"running_var{suffix}", torch.ones_like(zeros))
                batches = torch.zeros(max_steps, dtype=torch.int64, device=device)
                self.register_buffer(f"batches{suffix}", batches)

    def reset_running_stats(self) -> None:
        """Reset the statistics: means of 0 and variances of 1."""
        for name, suffix in product(KEPT, self._suffixes()):
            # There are none before a layer is complete, or if nothing is normalised.
            if name + suffix in self._buffers:
                self.get_buffer(name + suffix).fill_(name == "running_var")

    def reset_parameters(self) -> None:
        """Draw the parameters again, except gains and shifts, and reset the statistics."""
        super().reset_parameters()
        self.reset_running_stats()

    def extra_repr(self) -> str:
        """The sizes, and what is normalised."""
        sizes, _, _ = super().extra_repr().rpartition(", ")
        kept = f", max_steps={self.max_steps}, momentum={self.momentum}" if self.normalise else ""
        return f"{sizes}, normalise={self.normalise}{kept}"

    def _compute(
        self,
        problem: Problem,
        x: Tensor,
        h0: Tensor,
        c0: Tensor | None,
        weights: tuple[Weights, ...],
        lengths: Tensor | None,
    ) -> Outputs:
        if not self.normalise:
            return super()._compute(problem, x, h0, c0, weights, lengths)
        self._chosen, self._why = None, "no backend normalises over the batch"
        T, B, _ = x.shape
        running = [B] * T
        if lengths is not None:
            running = [int((lengths > step).sum()) for step in range(T)]
        suffixes = iter(self._suffixes())

        def layer(
            index: int, x: Tensor, h0: Tensor, c0: Tensor | None, weights: tuple[Weights, ...]
        ) -> Outputs:
            one = partial(self._one_direction, suffixes, running)
            return run_directions(
                one, x, h0, c0, weights, problem=problem.layer(index), lengths=lengths
            )

        return run_layers(
            layer,
            x,
            h0,
            c0,
            weights,
            directions=problem.directions,
            lengths=lengths,
            dropout=self.dropout if self.training else 0.0,
        )

    def _one_direction(
        self,
        suffixes: Iterator[str],
        running: list[int],
        x: Tensor,
        h: Tensor,
        c: Tensor | None,
        weights: Weights,
        *,
        cell: str,
        alive: Tensor | None,
    ) -> Outputs:
        """The next layer and direction; `running` are the sequences of each step."""
        code, steps, suffix = step_code(cell), count(), next(suffixes)
        mean, variance, batches = (self.get_buffer(name + suffix) for name in KEPT)
        # Filled rows come first: a sequence that runs a step has run all steps before it.
        last = 0 if self.training else max(int((batches > 0).sum()), 1) - 1

        def step(from_x: Tensor, h: Tensor, c: Tensor | None, alive: Tensor | None) -> State:
            at = next(steps)
            if not self.training:
                batch_norm = _by_row(mean[min(at, last)], variance[min(at, last)])
            elif at < self.max_steps and running[at] >= FEWEST:
                batches[at] += 1
                part = 1 / batches[at].to(mean.dtype) if self.momentum is None else self.momentum
                batch_norm = _into_row(mean[at], variance[at], part)
            else:
                batch_norm = code.batch_norm
            return next_state(replace(code, batch_norm=batch_norm), from_x, h, c, weights, alive)

        return unroll(step, input_product(code, x, weights), h, c, alive)


def _columns() -> Callable[[Tensor], slice]:
    """The place of values in a row, which a step's calls fill one after another."""
    taken = 0

    def columns(values: Tensor) -> slice:
        nonlocal taken
        first, taken = taken, taken + values.shape[-1]
        return slice(first, taken)

    return columns


def _by_row(mean: Tensor, variance: Tensor) -> BatchNorm:
    """A step's normalisation by running statistics, [9H] each, in the order of its calls."""
    columns = _columns()

    def batch_norm(values: Tensor, alive: Tensor | None) -> Tensor:
        at = columns(values)
        return normalised(values, mean[at], variance[at])

    return batch_norm


def _into_row(mean: Tensor, variance: Tensor, part: Tensor | float) -> BatchNorm:
    """A step's normalisation by its batch, whose statistics update the running ones."""
    columns = _columns()

    def batch_norm(values: Tensor, alive: Tensor | None) -> Tensor:
        found, at = moments(values, alive), columns(values)
        for running, of_batch in zip((mean, variance), found, strict=True):
            running[at].lerp_(of_batch.detach().to(running.dtype), part)
        return normalised(values, *found)

    return batch_norm
