"""`GridLSTM`: an LSTM along time and one along depth at every point; each reads both states.

At layer l and step t two LSTM steps, with weights and a memory c of their own, read the same
H = [h_depth(l-1, t), h_time(l, t-1)]:

    h_time(l, t),  c_time(l, t)  = LSTM_time(H, c_time(l, t-1))
    h_depth(l, t), c_depth(l, t) = LSTM_depth(H, c_depth(l-1, t))

A gate's product with H is a product with each half. So a layer's sweep along time is an LSTM over
the whole sequence with the input h_depth(l-1) and the recurrent state h_time(l). After it h_time(l)
is known at every step, and the sweep along depth is one LSTM step of all T*B points together, with
the input h_time(l) of the step before and the recurrent state h_depth(l-1). Both are calls of
`lk.LSTM` as it is, on any backend, or with the paper's output of `lk.Recurrent`, on any that runs
any cell. Depth begins with two projections of x, one to h and one to c.

Source: Kalchbrenner, Danihelka and Graves 2015, "Grid Long Short-Term Memory", arXiv 1507.01526;
its W of a transform is w_ih and w_hh side by side, its m is c, and it has no biases. Limits: two
dimensions, of one size; padded input only; time cannot have priority (see `GridLSTM`).
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from lstm_kernels import registry
from lstm_kernels.choose import AUTO, check_backend
from lstm_kernels.common.checks import check_tensors
from lstm_kernels.modules import LSTM
from lstm_kernels.names import check_name
from lstm_kernels.problem import Problem

TimeStates = tuple[Tensor, Tensor]
OF_LSTMS, OF_THE_PAPER = "o*tanh(c)", "tanh(o*c)"


class GridLSTM(torch.nn.Module):
    """A 2-D Grid LSTM over depth and time; `along_time` and `along_depth` hold its LSTMs.

    Args:
        input_size, hidden_size, num_layers: I, H of both dimensions, and L, the layers of depth.
        bias: whether the LSTMs have biases; the projections of x have none.
        batch_first: input and output are [B, T, ...] and not [T, B, ...].
        tied: one set of weights for all layers, the paper's Tied 2-LSTM, instead of one for each
            layer. TensorFlow's `tied` differs: there depth and time share one.
        priority: None: both transforms read h_time of the step before. "depth": depth
            goes last and reads the new h_time, as in TensorFlow's Grid2BasicLSTMCell. Not
            "time": its transform at a step would wait for depth's at the same point, and that for
            time's at the step before, so that neither sweep could run as a whole.
        output: h from a gate and the memory: "o*tanh(c)", as in all LSTMs of this package, or
            the paper's "tanh(o*c)", the cell `lstm_grid`.
        backend: the backend of both sweeps, as for `lk.LSTM`; with "tanh(o*c)" one that runs any
            cell.
    Raises:
        ValueError: a name is unknown, a size below 1, or the backend does not run the cell.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = False,
        tied: bool = False,
        priority: str | None = None,
        output: str = OF_LSTMS,
        backend: str = AUTO,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_names(priority, output, backend)
        # `Problem` refuses invalid sizes.
        Problem("lstm", 1, 1, input_size, hidden_size, num_layers)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.batch_first, self.tied, self.priority = batch_first, tied, priority
        self.output, self.backend = output, backend

        lstm: Callable[..., torch.nn.Module] = partial(LSTM, backend=backend)
        if output == OF_THE_PAPER:
            # Its module takes as long to import as all of Dynamo, which `lk.LSTM` does not need.
            from lstm_kernels.any_cell import Recurrent

            lstm = partial(Recurrent, "lstm_grid", backend=backend)
        made = partial(lstm, hidden_size, hidden_size, bias=bias, device=device, dtype=dtype)
        sets = range(1 if tied else num_layers)
        # Rows of the weight: H for h, then H for c.
        self.project = torch.nn.Linear(input_size, 2 * hidden_size, False, device, dtype)
        self.along_time = torch.nn.ModuleList(made() for _ in sets)
        self.along_depth = torch.nn.ModuleList(made() for _ in sets)

    def extra_repr(self) -> str:
        """The facts that the inner modules do not show."""
        return (
            f"num_layers={self.num_layers}, batch_first={self.batch_first}, tied={self.tied}, "
            f"priority={self.priority!r}, output={self.output!r}"
        )

    def forward(self, input: Tensor, hx: TimeStates | None = None) -> tuple[Tensor, TimeStates]:
        """Run the grid over a sequence.

        Args:
            input: [T, B, I], with batch_first [B, T, I], or [T, I] without a batch; T from 1 on.
            hx: h and c along time before step 0, [L, B, H] or [L, H]; zeros if None.
        Returns:
            y, h_depth past the last layer, as the input with H features; h_n and c_n along time
            past the last step, as hx.
        Raises:
            TypeError: the input is packed.
            ValueError: a shape or dtype does not fit.
            Unsupported: with the reason the backend gives.
        """
        y, _, last = self.far_sides(input, hx)
        return y, last

    def far_sides(
        self, input: Tensor, hx: TimeStates | None = None
    ) -> tuple[Tensor, Tensor, TimeStates]:
        """As `forward`, with depth's memory too: y, c_depth past the last layer, (h_n, c_n)."""
        self._check_input(input)
        batched = input.dim() == 3
        x = input if batched else input.unsqueeze(1)
        x = x.transpose(0, 1) if batched and self.batch_first else x
        shape = (self.num_layers, x.shape[1], self.hidden_size)
        if hx is None:
            h0, c0 = x.new_zeros(shape), x.new_zeros(shape)
        else:
            h0, c0 = hx if batched else (state.unsqueeze(1) for state in hx)
            _check_states(x, h0, c0, shape)
        h, c, *last = self._sweep(x, h0, c0)
        if not batched:
            h, c, *last = (side.squeeze(1) for side in (h, c, *last))
        elif self.batch_first:
            h, c = h.transpose(0, 1), c.transpose(0, 1)
        return h, c, (last[0], last[1])

    def _sweep(self, x: Tensor, h0: Tensor, c0: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Layer after layer: h and c of depth [T, B, H], then h and c of time [L, B, H]."""
        h, c = self.project(x).chunk(2, dim=-1)
        h_n, c_n = [], []
        for layer in range(self.num_layers):
            own = 0 if self.tied else layer
            before = h0[layer : layer + 1], c0[layer : layer + 1]
            h_time, last = self.along_time[own](h, before)
            if self.priority is None:
                h_time = torch.cat([before[0], h_time[:-1]])
            h, c = _one_step(self.along_depth[own], h_time, h, c)
            h_n.append(last[0])
            c_n.append(last[1])
        return h, c, torch.cat(h_n), torch.cat(c_n)

    def _check_input(self, input: Tensor) -> None:
        if isinstance(input, PackedSequence):
            raise TypeError("GridLSTM takes no packed input; pad it with pad_packed_sequence")
        if input.dim() not in (2, 3) or input.shape[-1] != self.input_size:
            found = f"input has shape {tuple(input.shape)}"
            raise ValueError(f"{found}; expected 2 or 3 dimensions, the last {self.input_size}")
        if input.shape[1 if self.batch_first and input.dim() == 3 else 0] == 0:
            raise ValueError(f"input has shape {tuple(input.shape)}: no step; expected one or more")


def _one_step(lstm: torch.nn.Module, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The h and c, [T, B, H], after one step of an LSTM, of every row of x, h and c [T, B, H]."""
    rows, h0, c0 = (each.flatten(0, 1).unsqueeze(0) for each in (x, h, c))
    _, (h_n, c_n) = lstm(rows, (h0, c0))
    return h_n.reshape(h.shape), c_n.reshape(c.shape)


def _check_names(priority: object, output: str, backend: str) -> None:
    if priority not in (None, "depth"):
        raise ValueError(f"priority={priority!r}: expected None or 'depth'")
    check_name("output", output, (OF_LSTMS, OF_THE_PAPER))
    check_backend(backend)
    paper = Problem("lstm_grid", 1, 1, 1, 1)
    able = [name for name in registry.registered() if not registry.unknown_kind(name, paper)]
    if output == OF_THE_PAPER and backend not in (AUTO, *able):
        raise ValueError(
            f"backend {backend!r} computes {OF_LSTMS!r} alone; expected for output "
            f"{OF_THE_PAPER!r} one of: {', '.join(able)}"
        )


def _check_states(x: Tensor, h0: Tensor, c0: Tensor, shape: tuple[int, int, int]) -> None:
    # Under autocast the result of one call, the input of the next, has another dtype.
    is_mixed = torch.is_autocast_enabled(x.device.type)
    for name, state in (("h0", h0), ("c0", c0)):
        check_tensors({name: (state, shape)}, state if is_mixed else x)
