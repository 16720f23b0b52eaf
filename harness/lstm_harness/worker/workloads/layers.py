"""The recurrent layers of a workload's model: of one cell, on one backend, run as is asked."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import lstm_kernels as lk

States = Tensor | tuple[Tensor, ...]
# Torch's shape, by cell; `Recurrent` has every cell.
_MODULES = {"lstm": "LSTM", "gru": "GRU"}


@dataclass(frozen=True)
class Layers:
    """Makes the recurrent layers of a model, which run forwards.

    Args:
        bptt: the most steps that a gradient goes back through; None for all.
        packed: whether steps past a sequence's end are left out; else they are computed, and their
            results are dropped.
    """

    cell: str
    backend: str
    device: str = "cpu"
    bptt: int | None = None
    packed: bool = True

    def __call__(self, input_size: int, hidden_size: int, **options: Any) -> "Run":
        """Layers with the options of torch.nn.LSTM."""
        named = _MODULES.get(self.cell)
        make = getattr(lk, named) if named else partial(lk.Recurrent, self.cell)
        made: nn.Module = make(input_size, hidden_size, backend=self.backend, **options)
        return Run(made, self)


class Run(nn.Module):
    """One such network, and how it is run."""

    def __init__(self, layers: nn.Module, how: Layers) -> None:
        super().__init__()
        self.layers = layers
        self._how = how
        self.cell = how.cell

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, states: States | None = None
    ) -> tuple[Tensor, States]:
        """Run over whole sequences.

        Args:
            x: [T, B, I].
            lengths: of each sequence, int64 [B] on the CPU, 1 to T; None where all are T.
            states: before the first step, as the layers return them; None for zeros.
        Returns:
            y [T, B, H], 0 past a sequence's end, and the states after the last step. With lengths
            these are the states at each sequence's end only if steps past it are left out; `ends`
            gives h in any case.
        """
        if self._how.bptt is not None:
            y, states = self._in_pieces(x, states, self._how.bptt)
        elif lengths is not None and self._how.packed:
            pack = pack_padded_sequence(x, lengths, enforce_sorted=False)
            y, states = self.layers(pack, states)
            return pad_packed_sequence(y, total_length=len(x))[0], states
        else:
            y, states = self.layers(x, states)
        return y if lengths is None else y * is_step(len(x), lengths, y), states

    def _in_pieces(self, x: Tensor, states: States | None, steps: int) -> tuple[Tensor, States]:
        outputs = []
        for piece in x.split(steps):
            y, states = self.layers(piece, states)
            outputs.append(y)
            states = detached(states)
        assert states is not None
        return torch.cat(outputs), states


def detached(states: States | None) -> States | None:
    """The same states, detached from the graph."""
    if states is None or isinstance(states, Tensor):
        return None if states is None else states.detach()
    return tuple(state.detach() for state in states)


def is_step(steps: int, lengths: Tensor, like: Tensor) -> Tensor:
    """1 where a sequence has a step, else 0: [T, B, 1], of a tensor's dtype and device."""
    there = torch.arange(steps)[:, None] < lengths
    return there.to(like)[:, :, None]


def ends(y: Tensor, lengths: Tensor | None = None) -> Tensor:
    """The result for each whole sequence: h after its last step, [B, H] from y [T, B, H]."""
    if lengths is None:
        return y[-1]
    return y[lengths.to(y.device) - 1, torch.arange(y.shape[1], device=y.device)]


def keeping(run: Run, bias: float) -> Run:
    """The network with a forget-gate bias, so that a cell with c keeps it from the first step.

    Other cells do not change. Source: Gers, Schmidhuber and Cummins 2000; Jozefowicz,
    Zaremba and Sutskever 2015, for long times more than 1.
    """
    cell = lk.CELLS[run.cell]
    if "c" in cell.states and "f" in cell.gates:
        for name, parameter in run.layers.named_parameters():
            if name.startswith("bias_ih"):
                gates = parameter.data.view(len(cell.gates), -1)
                gates[cell.gates.index("f")] += bias
    return run
