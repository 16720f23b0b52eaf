"""`LSTM`, `GRU` and `RNN`: torch.nn's modules with a choice of backend.

Construction, parameters, state_dict and printing are torch.nn's own; `forward` is this module's.
Gradients may be differentiated again (`create_graph=True`) on every backend but `cudnn`, whose
backward raises there. Under torch.autocast a layer runs in autocast's dtype, or in float32 where
its backend does not compute in that, with torch.nn's dtypes of results and gradients. For
torch.compile see `lstm_kernels.compiling`, for tracers and torch.func
see `lstm_kernels.tracing`.
"""

import warnings
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from lstm_kernels import registry
from lstm_kernels.autocast import under_autocast
from lstm_kernels.choose import AUTO, check_backend, choose, number_format, problem_of
from lstm_kernels.common import operators
from lstm_kernels.common.packing import lengths_of, packed, padded
from lstm_kernels.common.segments import cut
from lstm_kernels.compiling import alone, has_operators, in_graph, layers_traced_where_called
from lstm_kernels.stack import Outputs, Unsupported, Weights, run, run_layers
from lstm_kernels.tracing import is_proxy, is_traced

State = Tensor | tuple[Tensor, Tensor]


class _OnBackend(torch.nn.RNNBase):
    """The base class of the three modules; it comes before one of torch.nn's among the bases."""

    backend: str
    recompute: bool
    _chosen: str | None
    _why: str = "no forward has run yet"

    def __init__(
        self, *args: Any, backend: str = AUTO, recompute: bool = False, **kwargs: Any
    ) -> None:
        check_backend(backend, recompute=recompute)
        super().__init__(*args, **kwargs)
        self.backend = backend
        self.recompute = recompute
        self._chosen = None

    @property
    def chosen_backend(self) -> str | None:
        """The backend the last forward ran on; None before the first.

        A forward in a graph of torch.compile runs on the named backend, and is not recorded here.
        """
        return self._chosen

    def why_chosen(self) -> str:
        """Why the last forward ran on that backend, in a sentence.

        For `auto` it says on what problem, how near, which run measured it, on what, and what was
        passed over.
        """
        return self._why

    def __setattr__(self, name: str, value: Any) -> None:
        """As in torch.nn; torch.ao.quantization sets `qconfig` on every module that it visits."""
        if name == "qconfig":
            own = _torch_nns_own(self)
            warnings.warn(
                f"quantization skips this layer, because it looks only for torch.nn.{own.__name__}"
                ": replace the layer by one with the same state_dict",
                stacklevel=2,
            )
        super().__setattr__(name, value)

    def extra_repr(self) -> str:
        """As in torch.nn, and the backend."""
        recompute = ", recompute=True" if self.recompute else ""
        return f"{super().extra_repr()}, backend={self.backend!r}{recompute}"

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: State | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor | PackedSequence, State]:
        """As in torch.nn: input padded, unbatched or packed; hx h, or (h, c) for an LSTM.

        Args:
            resets: bool, in the input's shape without features: where it is True, the state
                before that step is the initial one, hx, as at the first step. Both directions of a
                bidirectional layer end there. The steps between resets are run as sequences of
                their own, so that another mask is a batch of another size.

        Raises:
            Unsupported: with the reason the backend gives.
            ValueError: resets do not fit the input, or come with a packed one or while tracing.
            The exceptions of torch.nn's forward, for the same mistakes.
        """
        if in_graph():
            if resets is None and self._by_operators(input):
                return self._forward_padded(input, self._paired(hx), None)  # type: ignore[arg-type] # not packed
            return alone("forward")(self, input, hx, resets)  # type: ignore[no-any-return] # forward's
        if is_proxy(input):
            return self._as_a_leaf(input, hx, resets)  # type: ignore[no-any-return] # a proxy of both
        self._update_flat_weights()
        data = input.data if isinstance(input, PackedSequence) else input
        if resets is not None:
            _check_resets(resets, input)
        if is_traced(data) and not self._any_length(input):
            return super().forward(input, hx)  # type: ignore[no-any-return] # untyped in torch.nn
        hx = self._paired(hx)
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        if input.dim() not in (2, 3):
            raise ValueError(f"expected an input of 2 or 3 dimensions, got {input.dim()}")
        if 0 in input.shape[:-1]:
            # No steps or no sequences: nothing to choose a backend for. torch.nn refuses the
            # first and knows the shapes of the second.
            return super().forward(input, hx)  # type: ignore[no-any-return]
        return self._forward_padded(input, hx, resets)

    def _update_flat_weights(self) -> None:
        """As in torch.nn, which takes longer to see that no parameter was replaced."""
        own, kept = self._parameters, zip(self._flat_weights_names, self._flat_weights, strict=True)
        for name, weight in kept:
            if own.get(name) is not weight:
                super()._update_flat_weights()
                return

    def _paired(self, hx: State | None) -> State | None:
        """H and c as a tuple; a list works too, as in torch.nn."""
        return (hx[0], hx[1]) if self.mode == "LSTM" and hx is not None else hx

    def _by_operators(self, input: Tensor | PackedSequence) -> bool:
        """Whether torch.compile sees this call as operators.

        The input comes last: whether a layer is left alone does not depend on its shape.
        """
        if not self._has_operators(self._named_weights()[1]):
            return False
        if isinstance(input, PackedSequence) or input.dim() not in (2, 3):
            return False
        return 0 not in input.shape[:-1]

    def _any_length(self, input: Tensor | PackedSequence) -> bool:
        """Whether torch.export gets operators: T is a symbol, which torch.nn does not support."""
        if not torch.compiler.is_exporting() or isinstance(input, PackedSequence):
            return False
        steps = input.shape[1 if self.batch_first and input.dim() == 3 else 0]
        return isinstance(steps, torch.SymInt) and self._has_operators(self._named_weights()[1])

    def _has_operators(self, like: Tensor) -> bool:
        """Whether the backend has operators for tensors like this one."""
        return has_operators(
            self.backend, self.mode.lower(), self.proj_size, like.device.type, **number_format(like)
        )

    def _as_a_leaf(self, input: Any, hx: Any, resets: Any) -> Any:
        """The call as torch.fx records it for torch.nn's modules, which it does not trace into."""
        tracer, given = input.tracer, (input,) if hx is None else (input, hx)
        named = {} if resets is None else {"resets": resets}
        return tracer.create_proxy("call_module", tracer.path_of_module(self), given, named)

    def __prepare_scriptable__(self) -> torch.nn.RNNBase:
        """What torch.jit.script compiles: torch.nn's own module, with the same parameters."""
        own = _torch_nns_own(self)
        warnings.warn(
            f"torch.jit.script replaces this module by torch.nn.{own.__name__}, also in the model "
            "that it was given",
            stacklevel=2,
        )
        plain: torch.nn.RNNBase = own.__new__(own)
        ours = ("backend", "recompute", "_chosen", "_why")
        plain.__dict__.update({n: v for n, v in self.__dict__.items() if n not in ours})
        return plain

    def _forward_padded(
        self, input: Tensor, hx: State | None, resets: Tensor | None
    ) -> tuple[Tensor, State]:
        batched = input.dim() == 3
        batch_dim = 0 if self.batch_first else 1
        if not batched:
            input = input.unsqueeze(batch_dim)
            resets = None if resets is None else resets.unsqueeze(batch_dim)
        hx = (
            self._zeros(input, input.shape[batch_dim]) if hx is None else self._batched(hx, batched)
        )
        self.check_forward_args(input, hx, None)  # type: ignore[arg-type]
        x = input.transpose(0, 1) if self.batch_first else input
        if resets is None:
            y, *states = self._run(x, hx)
        else:
            y, *states = self._run_cut(x, hx, resets.t() if self.batch_first else resets)
        if self.batch_first:
            y = y.transpose(0, 1)
        if not batched:
            y = y.squeeze(batch_dim)
            states = [state if state is None else state.squeeze(1) for state in states]
        return y, _joined(states)

    def _run_cut(self, x: Tensor, hx: State, resets: Tensor) -> Outputs:
        """One call of a backend on the segments between resets, bool [T, B]; else as `_run`."""
        segments = cut(resets.to(x.device))
        states = hx if isinstance(hx, tuple) else (hx,)
        begun = [state.index_select(1, segments.sequences) for state in states]
        data = x.flatten(0, 1).index_select(0, segments.rows)
        y, *ended = self._run(data, _joined([*begun]), segments.lengths)
        h_n, c_n = (s if s is None else s.index_select(1, segments.last) for s in ended)
        assert h_n is not None
        return y.index_select(0, segments.places).unflatten(0, x.shape[:2]), h_n, c_n

    def _forward_packed(
        self, input: PackedSequence, hx: State | None
    ) -> tuple[PackedSequence, State]:
        data, batch_sizes, order, back = input
        if int(batch_sizes.sum()) != len(data) or bool((batch_sizes.diff() > 0).any()):
            raise RuntimeError(
                f"a packed input has {len(data)} rows, but its batch sizes sum to "
                f"{int(batch_sizes.sum())}; expected the same number, and sizes that never increase"
            )
        if hx is None:
            hx = self._zeros(data, int(batch_sizes[0]))
        else:
            hx = self.permute_hidden(hx, order)  # type: ignore[arg-type]
        self.check_forward_args(data, hx, batch_sizes)  # type: ignore[arg-type]
        y, *states = self._run(data, hx, lengths_of(batch_sizes), is_packed=True)
        result = PackedSequence(y, batch_sizes, order, back)
        return result, self.permute_hidden(_joined(states), back)  # type: ignore[arg-type]

    def _run(
        self, x: Tensor, hx: State, lengths: Tensor | None = None, *, is_packed: bool = False
    ) -> Outputs:
        """One call of a backend.

        Args:
            x: [T, B, I], or [R, I] packed; hx: h [L*D, B, S], or (h, c) with c [L*D, B, H].
            lengths: [B] of a packed input, descending, on the CPU; else None.
            is_packed: whether the caller's input came packed.
        """
        h0, c0 = hx if isinstance(hx, tuple) else (hx, None)
        if in_graph():
            layers, weights = self._run_operators, self._weights(self._named_weights())
        else:
            layers = partial(self._run_in_one_dtype, lengths=lengths)
            weights = self._weights(self._flat_weights)
        return under_autocast(
            layers,
            x,
            h0,
            c0,
            weights,
            cell=self.mode.lower(),
            packed=is_packed,
        )

    def _run_in_one_dtype(
        self,
        x: Tensor,
        h0: Tensor,
        c0: Tensor | None,
        weights: tuple[Weights, ...],
        *,
        lengths: Tensor | None,
    ) -> Outputs:
        others = (h0, c0, *chain.from_iterable(weights))
        _check_alike(x, *others)
        T, B = (int(lengths[0]), len(lengths)) if lengths is not None else x.shape[:2]
        if type(T) is not int:
            return self._run_operators(x, h0, c0, weights)
        is_ragged = lengths is not None and int(lengths[-1]) < T
        problem = problem_of(
            cell=self.mode.lower(),
            seq_len=T,
            batch=B,
            input_size=self.input_size,
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            bidirectional=self.bidirectional,
            bias=self.bias,
            proj_size=self.proj_size,
            # A name cannot hold B lengths; for a packed batch this much is known.
            lengths=f"uniform:1:{T}" if is_ragged else "full",
            **number_format(x),
        )
        choice = choose(self.backend, problem, x.device, (x, *others))
        # What torch.nn.Module does when an attribute is set takes longer than choosing.
        self.__dict__.update(_chosen=choice.name, _why=choice.why)
        # A backend may take it packed, if that is not the same as padded.
        unpacked = None if is_ragged and registry.get(choice.name).packed else lengths
        y, h_n, c_n = run(
            choice.implementation,
            padded(x, unpacked).contiguous(),
            h0.contiguous(),
            None if c0 is None else c0.contiguous(),
            weights,
            problem=problem,
            lengths=lengths if is_ragged else None,
            dropout=self.dropout,
            training=self.training,
            # A replacement for the backend may have none.
            recompute=self.recompute and choice.name == self.backend,
            look=registry.get(choice.name).copies,
        )
        return packed(y, unpacked), h_n, c_n

    def _run_operators(
        self, x: Tensor, h0: Tensor, c0: Tensor | None, weights: tuple[Weights, ...]
    ) -> Outputs:
        """The part in torch.compile's graph; the same for any T and B."""
        if not self._has_operators(x):
            raise Unsupported(f"backend {self.backend!r} does not compute in {x.dtype}")

        def layer(
            index: int, x: Tensor, h0: Tensor, c0: Tensor | None, weights: tuple[Weights, ...]
        ) -> Outputs:
            cell, recompute = self.mode.lower(), self.recompute
            return operators.layer(self.backend, x, h0, c0, weights, cell=cell, recompute=recompute)

        dropout = self.dropout if self.training else 0.0
        directions = 2 if self.bidirectional else 1
        return run_layers(layer, x, h0, c0, weights, directions=directions, dropout=dropout)

    def _named_weights(self) -> list[Tensor]:
        """The content of `_flat_weights`: nothing for the inputs of a graph."""
        return [getattr(self, name) for name in self._flat_weights_names]

    def _weights(self, flat: Sequence[Any]) -> tuple[Weights, ...]:
        size = len(self._all_weights[0])
        by_direction = []
        for start in range(0, len(flat), size):
            w_ih, w_hh, *others = flat[start : start + size]
            w_hr = others.pop() if self.proj_size else None
            b_ih, b_hh = others or (None, None)
            by_direction.append(Weights(w_ih, w_hh, b_ih, b_hh, w_hr))
        return tuple(by_direction)

    def _batched(self, hx: State, batched: bool) -> State:
        """The states with a batch dimension, whether or not the input had one."""
        states = hx if self.mode == "LSTM" else (hx,)
        dims = [state.dim() for state in states]  # type: ignore[union-attr] # given, none is None
        if set(dims) != {3 if batched else 2}:
            raise RuntimeError(f"expected states of as many dimensions as the input, got {dims}")
        if batched:
            return hx
        return _joined([state.unsqueeze(1) for state in states])  # type: ignore[union-attr] # given, none is None

    def _zeros(self, input: Tensor, batch: int) -> State:
        rows = self.num_layers * (2 if self.bidirectional else 1)
        h = input.new_zeros(rows, batch, self.proj_size or self.hidden_size)
        return (h, input.new_zeros(rows, batch, self.hidden_size)) if self.mode == "LSTM" else h


class LSTM(_OnBackend, torch.nn.LSTM):  # type: ignore[misc] # torch.nn's forward is overloaded
    """torch.nn.LSTM on a backend of choice.

    Args:
        torch.nn.LSTM's, and
        backend: a name of `lstm_kernels.backends()`, or "auto", which takes the fastest measured
            on the nearest problem, and PyTorch's own if nothing near was; see `why_chosen`.
        recompute: save no gates for the backward and compute them again there: less memory between
            the passes for one more product of all steps. Only if the backend offers it.
    Raises:
        ValueError: the backend is unknown, or has no recompute; torch.nn's errors for torch.nn's
            arguments.
    """


class GRU(_OnBackend, torch.nn.GRU):  # type: ignore[misc] # as for LSTM
    """torch.nn.GRU on a backend of choice; arguments as for `LSTM`."""


class RNN(_OnBackend, torch.nn.RNN):  # type: ignore[misc] # as for LSTM
    """torch.nn.RNN, of either nonlinearity, on a backend of choice; arguments as for `LSTM`."""


def _torch_nns_own(module: torch.nn.RNNBase) -> Any:
    """The class of torch.nn that a module of ours belongs to."""
    return next(b for b in type(module).__mro__ if b.__module__ == torch.nn.LSTM.__module__)


def _joined(states: list[Tensor | None]) -> State:
    """h, or (h, c), from a list that may end in None."""
    h, c = (*states, None)[:2]
    assert h is not None
    return h if c is None else (h, c)


def _check_resets(resets: Tensor, input: Tensor | PackedSequence) -> None:
    if isinstance(input, PackedSequence):
        raise ValueError("resets do not work with a packed input; pass the input padded")
    if is_traced(input):
        raise ValueError(
            "resets do not work in a layer that is traced or exported; call the layer itself"
        )
    if resets.dtype is not torch.bool or resets.shape != input.shape[:-1]:
        raise ValueError(
            f"resets is {resets.dtype} of shape {tuple(resets.shape)}; "
            f"expected torch.bool of {tuple(input.shape[:-1])}"
        )


def _check_alike(x: Tensor, *others: Tensor | None) -> None:
    dtype, device = x.dtype, x.device
    for state in others:
        if state is not None and (state.dtype is not dtype or state.device != device):
            raise RuntimeError(
                f"a state or weight is {state.dtype} on {state.device}; "
                f"expected the input's, {x.dtype} on {x.device}"
            )


layers_traced_where_called(_OnBackend)
