"""`Recurrent`: any cell that is defined, as a module shaped like torch.nn's.

A cell is a name of `lk.CELLS`, or what `lstm_kernels.cells.cell` makes. Parameters have torch.nn's
names, and per-unit parameters the definition's: `weight_ih_l0` [G*H, I], `w_ci_l0` [H], and for the
reverse direction `w_ci_l0_reverse`. Of N heads `weight_hh_l0` is [G*H, H/N].
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from math import sqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from lstm_kernels import registry
from lstm_kernels.autocast import under_autocast
from lstm_kernels.cells import CELLS, Cell, add_cells
from lstm_kernels.choose import (
    AUTO,
    Chosen,
    check_backend,
    choose,
    number_format,
    problem_of,
)
from lstm_kernels.common.checks import check_tensors
from lstm_kernels.common.packing import lengths_of, packed, padded
from lstm_kernels.problem import Problem
from lstm_kernels.registry import cell_named
from lstm_kernels.stack import Outputs, Weights, run, run_layers
from lstm_kernels.zoneout import masks, zoned, zoned_weights

States = Tensor | tuple[Tensor, ...]


class Recurrent(torch.nn.Module):
    """A network of any cell.

    Args:
        cell: a name of `lk.CELLS`, or a cell of your own.
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device,
            dtype: torch.nn.LSTM's.
        zoneout: the probability that a unit keeps a state for a step, for all states or one for
            each, while training; in evaluation each state is mixed with the one before by it.
        recurrent_dropout: the probability that an element of w_hh is dropped for a whole call while
            training, DropConnect (Wan et al. 2013; Merity et al. 2017; haste's `dropout`).
        heads: N: the gates of a unit see only the h of its own head, H/N units.
        backend: a name of `lstm_kernels.backends()`, or "auto".
    Raises:
        ValueError: the cell or the backend is unknown, a size is below 1, a probability is out of
            range, or the cell does not support zoneout or these heads.
    """

    def __init__(
        self,
        cell: str | Cell,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        zoneout: float | Sequence[float] = 0.0,
        recurrent_dropout: float = 0.0,
        heads: int = 1,
        backend: str = AUTO,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_backend(backend)
        super().__init__()
        if isinstance(cell, Cell):
            add_cells([cell], "Recurrent")
            cell = cell.name
        self.cell = cell_named(cell)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, dropout
        self.bidirectional, self.heads, self.backend = bidirectional, heads, backend
        self.zoneout = _probabilities("zoneout", zoneout, len(self._definition.states))
        if any(self.zoneout):
            # Raises if the cell does not support zoneout.
            zoned(self._definition)
        (self.recurrent_dropout,) = _probabilities("recurrent_dropout", recurrent_dropout, 1)
        self._chosen: str | None = None
        self._why = "no forward has run yet"
        # It checks the sizes.
        self._sizes(1, 1)
        for at, suffix in enumerate(self._suffixes()):
            inputs = input_size if at < self._directions else hidden_size * self._directions
            for name, shape in _shapes(self._definition, inputs, hidden_size, heads, bias).items():
                parameter = torch.nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
                self.register_parameter(name + suffix, parameter)
        self.reset_parameters()

    @property
    def chosen_backend(self) -> str | None:
        """The backend that the last forward ran on; None before the first, or if none did."""
        return self._chosen

    def why_chosen(self) -> str:
        """Why the last forward ran on that backend, in a sentence."""
        return self._why

    def reset_parameters(self) -> None:
        """Draw every parameter from ±1/sqrt(H), as torch.nn does, except those the cell starts."""
        bound = 1 / sqrt(self.hidden_size)
        for parameter in self.parameters():
            torch.nn.init.uniform_(parameter, -bound, bound)
        for suffix, (name, start) in product(self._suffixes(), self._definition.starts):
            torch.nn.init.constant_(self.get_parameter(name + suffix), start)

    def extra_repr(self) -> str:
        """The cell, the sizes, and the backend."""
        sizes = f"{self.cell!r}, {self.input_size}, {self.hidden_size}"
        defaults: dict[str, Any] = {
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0.0,
            "bidirectional": False,
            "zoneout": (0.0,) * len(self.zoneout),
            "recurrent_dropout": 0.0,
            "heads": 1,
        }
        others = [
            f"{name}={getattr(self, name)}"
            for name, default in defaults.items()
            if getattr(self, name) != default
        ]
        return ", ".join([sizes, *others, f"backend={self.backend!r}"])

    @torch.compiler.disable  # type: ignore[untyped-decorator] # torch's
    def forward(
        self, input: Tensor | PackedSequence, hx: States | None = None
    ) -> tuple[Tensor | PackedSequence, States]:
        """As torch.nn's modules: y, and the states after the last step.

        Args:
            input: [T, B, I], [B, T, I] where `batch_first`, [T, I], or packed.
            hx: the cell's states in its order, [L*D, B, H] each, or h alone if it has no other;
                zeros if they are not given.
        Raises:
            ValueError: a shape or dtype does not fit; a packed input has no sequence.
            Unsupported: with the reason the backend gives.
        """
        given = (hx,) if isinstance(hx, Tensor) else hx
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, given)
        if input.dim() not in (2, 3):
            raise ValueError(f"expected an input of 2 or 3 dimensions, got {input.dim()}")
        is_batched = input.dim() == 3
        x = input if is_batched else input.unsqueeze(0 if self.batch_first else 1)
        if given is not None and not is_batched:
            given = tuple(state.unsqueeze(1) for state in given)
        y, states = self._run(x.transpose(0, 1) if self.batch_first else x, given, None)
        y = y.transpose(0, 1) if self.batch_first else y
        if not is_batched:
            y = y.squeeze(0 if self.batch_first else 1)
            states = tuple(state.squeeze(1) for state in states)
        return y, _alone(states)

    def _forward_packed(
        self, input: PackedSequence, given: tuple[Tensor, ...] | None
    ) -> tuple[PackedSequence, States]:
        data, batch_sizes, order, back = input
        if given is not None and order is not None:
            given = tuple(state.index_select(1, order) for state in given)
        lengths = lengths_of(batch_sizes)
        y, states = self._run(padded(data, lengths), given, lengths)
        if back is not None:
            states = tuple(state.index_select(1, back) for state in states)
        return PackedSequence(packed(y, lengths), batch_sizes, order, back), _alone(states)

    def _run(
        self, x: Tensor, given: tuple[Tensor, ...] | None, lengths: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One call of a backend; x [T, B, I], lengths [B] of a ragged batch, else None."""
        is_ragged = lengths is not None and int(lengths.min()) < len(x)
        lengths = lengths if is_ragged else None
        layers = partial(self._in_one_dtype, lengths=lengths)
        h0, c0 = self._states(x, given)
        if not x.shape[1]:
            # No backend takes a batch without a sequence; run one sequence and drop it.
            y, states = self._run(x.new_zeros(len(x), 1, self.input_size), None, None)
            return y[:, :0], tuple(state[:, :0] for state in states)
        y, h_n, c_n = under_autocast(layers, x, h0, c0, self._weights(), cell=self.cell)
        return y, (h_n, *(() if c_n is None else c_n.split(self.hidden_size, -1)))

    def _in_one_dtype(
        self,
        x: Tensor,
        h0: Tensor,
        c0: Tensor | None,
        weights: tuple[Weights, ...],
        *,
        lengths: Tensor | None,
    ) -> Outputs:
        # A tracer's sizes are tensors: its graph is for this T and B.
        T, B = map(int, x.shape[:2])
        flat = [tensor for one in weights for tensor in one if tensor is not None]
        own = () if c0 is None else c0.split(self.hidden_size, -1)
        named = zip(self._definition.states, (h0, *own), strict=True)
        check_tensors({name: (state, state.shape) for name, state in named}, x)
        check_tensors({"a weight": (flat[0], flat[0].shape)}, x)
        problem = problem_of(
            **self._sizes(T, B),
            lengths="full" if lengths is None else f"uniform:1:{T}",
            **number_format(x),
        )
        return self._compute(problem, x, h0, c0, weights, lengths)

    def _compute(
        self,
        problem: Problem,
        x: Tensor,
        h0: Tensor,
        c0: Tensor | None,
        weights: tuple[Weights, ...],
        lengths: Tensor | None,
    ) -> Outputs:
        """All layers on the backend, after checks, in one dtype."""
        if any(self.zoneout):
            problem = replace(problem, cell=zoned(self._definition).name)
        flat = [tensor for one in weights for tensor in one]
        choice = choose(self.backend, problem, x.device, (x, h0, c0, *flat))
        self._chosen, self._why = choice.name, choice.why
        if self.recurrent_dropout or any(self.zoneout):
            return run_layers(
                partial(self._layer, choice, problem, lengths),
                x,
                h0,
                c0,
                weights,
                directions=self._directions,
                lengths=lengths,
                dropout=self.dropout if self.training else 0.0,
            )
        return run(
            choice.implementation,
            x.contiguous(),
            h0,
            c0,
            weights,
            problem=problem,
            lengths=lengths,
            dropout=self.dropout,
            training=self.training,
            look=registry.get(choice.name).copies,
        )

    def _layer(
        self,
        choice: Chosen,
        problem: Problem,
        lengths: Tensor | None,
        index: int,
        x: Tensor,
        h0: Tensor,
        c0: Tensor | None,
        weights: tuple[Weights, ...],
    ) -> Outputs:
        """One layer with zoneout or dropped weights."""
        one = problem.layer(index)
        if self.recurrent_dropout:
            p, training = self.recurrent_dropout, self.training
            weights = tuple(
                w._replace(w_hh=torch.nn.functional.dropout(w.w_hh, p, training)) for w in weights
            )
        if any(self.zoneout):
            H, D = self.hidden_size, self._directions
            kept = masks(x, self.zoneout, H, directions=D, training=self.training)
            x = torch.cat([x, kept], -1)
            weights = zoned_weights(weights, self._definition, H)
            one = replace(one, input_size=x.shape[-1])
        return run(
            choice.implementation,
            x.contiguous(),
            h0,
            c0,
            weights,
            problem=one,
            lengths=lengths,
            look=registry.get(choice.name).copies,
        )

    def _states(self, x: Tensor, given: tuple[Tensor, ...] | None) -> tuple[Tensor, Tensor | None]:
        """h0 [L*D, B, H], and c0 [L*D, B, K*H] or None, of the right shapes."""
        names = self._definition.states
        if x.shape[2] != self.input_size:
            raise ValueError(f"the input has {x.shape[2]} features; expected {self.input_size}")
        shape = (self.num_layers * self._directions, x.shape[1], self.hidden_size)
        if given is None:
            given = tuple(x.new_zeros(shape) for _ in names)
        if len(given) != len(names):
            raise ValueError(
                f"hx holds {len(given)} states; {self.cell} has {len(names)}: {', '.join(names)}"
            )
        for name, state in zip(names, given, strict=True):
            if tuple(state.shape) != shape:
                raise ValueError(f"{name} has shape {tuple(state.shape)}; expected {shape}")
        h0, *own = given
        return h0.contiguous(), torch.cat(own, -1) if own else None

    def _weights(self) -> tuple[Weights, ...]:
        found = []
        for suffix in self._suffixes():

            def named(name: str, suffix: str = suffix) -> Tensor:
                # Under torch.func.functional_call it is a tensor, not a parameter.
                return getattr(self, name + suffix)  # type: ignore[no-any-return] # torch.nn's

            own = [named(name) for name in self._definition.per_unit]
            b_ih, b_hh = (named("bias_ih"), named("bias_hh")) if self.bias else (None, None)
            per_unit = torch.cat(own) if own else None
            w_ih, w_hh = named("weight_ih"), named("weight_hh")
            found.append(Weights(w_ih, w_hh, b_ih, b_hh, per_unit=per_unit))
        return tuple(found)

    def _sizes(self, T: int, B: int) -> dict[str, Any]:
        sizes: dict[str, Any] = {
            "cell": self.cell,
            "seq_len": T,
            "batch": B,
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "bidirectional": self.bidirectional,
            "bias": self.bias,
            "heads": self.heads,
        }
        problem_of(**sizes)
        return sizes

    def _suffixes(self) -> list[str]:
        """The suffix of a parameter's name in torch.nn, by layer and direction."""
        directions = ("", "_reverse")[: self._directions]
        return [f"_l{layer}{of}" for layer, of in product(range(self.num_layers), directions)]

    @property
    def _definition(self) -> Cell:
        return CELLS[self.cell]

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1


def _shapes(cell: Cell, I: int, H: int, heads: int, bias: bool) -> dict[str, tuple[int, ...]]:  # noqa: E741 - the field's name
    """The weights of one direction, from its parameters by name."""
    shapes: dict[str, tuple[int, ...]] = {
        "weight_ih": (cell.x_blocks * H, I),
        "weight_hh": (cell.h_blocks * H, H // heads),
    }
    if bias:
        shapes |= {"bias_ih": (cell.x_blocks * H,), "bias_hh": (cell.h_blocks * H,)}
    return shapes | dict.fromkeys(cell.per_unit, (H,))


def _probabilities(name: str, given: float | Sequence[float], count: int) -> tuple[float, ...]:
    found = (given,) * count if isinstance(given, int | float) else tuple(given)
    if len(found) != count or not all(0.0 <= each < 1.0 for each in found):
        raise ValueError(f"{name}={given!r}: expected from 0 to below 1, one or {count} of them")
    return tuple(map(float, found))


def _alone(states: tuple[Tensor, ...]) -> States:
    """The state h alone if there is no other, as torch.nn.GRU returns it."""
    return states[0] if len(states) == 1 else states
