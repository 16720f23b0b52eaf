"""`hoisted`, replayed from a CUDA graph: no Python and one launch a pass.

Idea: capture the forward, and the backward where gradients are wanted, once for every problem
and set of weights; later calls copy x, h0 and c0 in, replay, and copy the results out. The
weights are read where they are, so an optimizer's update in place is seen.
Source: torch.cuda.make_graphed_callables, whose results share memory with the next call's; these
are copies. Limits: CUDA only; one forward at a time may wait for its backward, a second one
raises; second derivatives without a graph. Not run on a GPU yet.
"""

from collections import OrderedDict
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lstm_kernels.common.captured import capture_stream
from lstm_kernels.common.refusals import cuda_limit
from lstm_kernels.common.second_derivatives import layer_gradients
from lstm_kernels.common.unroll import run_directions, unroll_hoisted
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Weights, unflatten

# Graphs kept: eight layers for training and for inference, twice. Each holds its own memory.
MAX_GRAPHS = 32

# Its memory belongs to the graphs and is taken before any call: what a call takes tells nothing.
HOLDS_MEMORY = True

# Runs before a capture, so that libraries have made their workspaces; make_graphed_callables' own.
WARM_UP_RUNS = 3

STALE = (
    "graphed: this forward's saved values are gone, because the same layer ran forward again, or "
    "its backward ran before; call backward once after each forward, or use backend='hoisted'"
)


class Graph:
    """A layer's forward, and its backward where wanted, captured over static tensors.

    `inputs` are x, h0, c0, lengths, then the weights; the first four are copies that a call fills,
    the weights share memory with the caller's. `calls` counts what makes saved values stale.
    """

    FILLED = 4

    def __init__(self, tensors: tuple[Tensor | None, ...], problem: Problem) -> None:
        self.problem = problem
        self.calls = 0
        self.inputs = [
            _static(tensor, copy=index < self.FILLED) for index, tensor in enumerate(tensors)
        ]
        self.wanted = [
            tensor
            for tensor in self.inputs
            if torch.is_grad_enabled() and tensor is not None and tensor.requires_grad
        ]
        self.capture()

    def capture(self) -> None:
        """Record both passes: the only part that needs a GPU."""
        x = self.inputs[0]
        assert x is not None
        with torch.cuda.device(x.device):
            self._warm_up()
            pool, stream = torch.cuda.graph_pool_handle(), capture_stream(x.device)
            self.forward_graph, self.backward_graph = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.forward_graph, pool=pool, stream=stream):
                self.outputs = self.run()
            self.d_outputs = [torch.zeros_like(output) for output in self.outputs]
            if self.wanted:
                with torch.cuda.graph(self.backward_graph, pool=pool, stream=stream):
                    self.d_inputs = self.gradients(self.outputs, self.d_outputs)

    def forward(self, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        """Fill the inputs, replay, and copy the outputs."""
        for static, tensor in zip(self.inputs[: self.FILLED], tensors, strict=False):
            if static is not None and tensor is not None:
                static.copy_(tensor)
        self.forward_graph.replay()
        self.calls += 1
        return tuple(output.detach().clone() for output in self.outputs)

    def backward(self, d_outputs: tuple[Tensor, ...]) -> list[Tensor | None]:
        """Replay the backward; a gradient for every input, None where none is wanted."""
        for static, d_output in zip(self.d_outputs, d_outputs, strict=True):
            static.copy_(d_output)
        self.backward_graph.replay()
        # The replay reuses the memory of saved values as it goes.
        self.calls += 1
        found = {
            id(tensor): None if gradient is None else gradient.clone()
            for tensor, gradient in zip(self.wanted, self.d_inputs, strict=True)
        }
        return [found.get(id(tensor)) for tensor in self.inputs]

    def run(self) -> tuple[Tensor, ...]:
        """The forward over the static inputs."""
        x, h0, c0, lengths, *flat = self.inputs
        assert x is not None
        assert h0 is not None
        outputs = run_directions(
            unroll_hoisted, x, h0, c0, unflatten(flat), problem=self.problem, lengths=lengths
        )
        return tuple(output for output in outputs if output is not None)

    def gradients(
        self, outputs: tuple[Tensor, ...], d_outputs: list[Tensor]
    ) -> tuple[Tensor | None, ...]:
        """The backward: what is wanted, None where an output does not depend on it."""
        # With one step, c_n does not depend on w_hr: not every output needs to have a gradient.
        pairs = [(y, dy) for y, dy in zip(outputs, d_outputs, strict=True) if y.requires_grad]
        return torch.autograd.grad(
            [y for y, _ in pairs],
            self.wanted,
            [dy for _, dy in pairs],
            allow_unused=True,
        )

    def _warm_up(self) -> None:
        torch.cuda.synchronize()
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(WARM_UP_RUNS):
                outputs = self.run()
                if self.wanted:
                    self.gradients(outputs, [torch.zeros_like(y) for y in outputs])
        torch.cuda.synchronize()


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graph: Graph, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        outputs = graph.forward(*tensors)
        ctx.graph, ctx.call = graph, graph.calls
        ctx.save_for_backward(*tensors)
        return outputs

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            x, h0, c0, lengths, *flat = ctx.saved_tensors
            needed = ctx.needs_input_grad[1:4] + ctx.needs_input_grad[5:]
            d_x, d_h0, d_c0, *d_flat = layer_gradients(
                ctx.graph.problem, (x, h0, c0, *flat), lengths, d_outputs, needed
            )
            return None, d_x, d_h0, d_c0, None, *d_flat
        if ctx.call != ctx.graph.calls:
            raise RuntimeError(STALE)
        return None, *ctx.graph.backward(d_outputs)


_graphs: OrderedDict[tuple[Any, ...], Graph] = OrderedDict()


def layer(
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    *,
    problem: Problem,
    lengths: Tensor | None = None,
) -> Outputs:
    """One layer, one or both directions, as `lstm_kernels.stack` says.

    Raises:
        RuntimeError: in the backward, where its forward's saved values are gone.
    """
    on_device = None if lengths is None else lengths.to(x.device)
    flat = [tensor for direction in weights for tensor in direction]
    tensors = (x, h0, c0, on_device, *flat)
    graph = _graph_for(tensors, problem)
    replay = partial(_Replay.apply, graph) if graph.wanted else graph.forward
    y, h_n, *c_n = replay(*tensors)
    return y, h_n, c_n[0] if c_n else None


def unsupported(problem: Problem, device: str) -> str | None:
    """The reason not to run this, or None."""
    return cuda_limit(problem, device, "CUDA graphs")


def _graph_for(tensors: tuple[Tensor | None, ...], problem: Problem) -> Graph:
    """The graph captured for this problem, these weights and these gradients, made where new."""
    weights = tensors[Graph.FILLED :]
    key = (
        problem,
        torch.is_grad_enabled(),
        tuple(
            None if t is None else (t.shape, t.dtype, t.device, t.requires_grad) for t in tensors
        ),
        tuple(None if w is None else (w.data_ptr(), w.stride()) for w in weights),
    )
    if key not in _graphs:
        _graphs[key] = Graph(tensors, problem)
    _graphs.move_to_end(key)
    while len(_graphs) > MAX_GRAPHS:
        _graphs.popitem(last=False)
    return _graphs[key]


def _static(tensor: Tensor | None, copy: bool) -> Tensor | None:
    if tensor is None:
        return None
    static = tensor.detach().clone() if copy else tensor.detach()
    return static.requires_grad_(tensor.requires_grad)
