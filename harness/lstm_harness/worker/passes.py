"""What runs inside the timed region of each pass, and what is prepared outside it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lstm_harness.model.case import PLAIN, Call
from lstm_harness.worker.calling import called
from lstm_harness.worker.inputs import Inputs
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Weights, run

OUTPUT_NAMES = ("y", "h_n", "c_n")
PARAMETER_NAMES = Weights._fields


class Malformed(Exception):  # noqa: N818 - a finding about a backend, not a failure of ours
    """A backend returned something that is not what the contract asks for."""


@dataclass(frozen=True)
class Pass:
    """One pass of one problem on one backend.

    `prepare` prepares, outside the timed region, what `execute` of the returned state needs:
    fresh leaf tensors, so that no gradient is ever accumulated onto an older one, and for
    `backward` a fresh graph. `execute` is all that is timed; freeing what it returns is not.
    """

    prepare: Callable[[Inputs], "State"]
    execute: Callable[["State"], None]


@dataclass
class State:
    """One execution: its leaves, the outputs once there are any.

    `makes_gradients` says whether it does, `has_graph` whether its outputs have one.
    """

    inputs: Inputs
    outputs: tuple[Tensor, ...] = ()
    makes_gradients: bool = False
    has_graph: bool = False

    def tensors(self) -> dict[str, list[Tensor]]:
        """Every tensor that this execution made, by name; a missing gradient is an empty list."""
        named = {name: [out] for name, out in zip(OUTPUT_NAMES, self.outputs, strict=False)}
        return named | gradients(self.inputs) if self.makes_gradients else named


def make_pass(implementation: Any, problem: Problem, pass_name: str, call: Call = PLAIN) -> Pass:
    """The pass of that name over a problem, on what `registry.load` returned."""

    def plain(inputs: Inputs) -> Outputs:
        return run(
            implementation,
            inputs.x,
            inputs.h0,
            inputs.c0,
            inputs.weights,
            problem=problem,
            lengths=inputs.lengths,
        )

    compute = plain if call == PLAIN else partial(called, implementation, problem, call)

    def forward(state: State) -> None:
        state.outputs = tuple(out for out in compute(state.inputs) if out is not None)

    def inference(state: State) -> None:
        with torch.no_grad():
            forward(state)

    def backward(state: State) -> None:
        try:
            torch.autograd.backward(state.outputs, state.inputs.d_outputs())
        except Exception:
            # An error that a malformed output causes in autograd is reported as that.
            refuse_malformed(state)
            raise

    def train(state: State) -> None:
        forward(state)
        backward(state)

    def prepare_leaves(inputs: Inputs) -> State:
        leaves = fresh_leaves(inputs, requires_grad=pass_name != "inference")
        return State(
            leaves,
            makes_gradients=pass_name in ("backward", "train"),
            has_graph=pass_name != "inference",
        )

    def prepare_graph(inputs: Inputs) -> State:
        state = prepare_leaves(inputs)
        forward(state)
        return state

    timed = {"inference": inference, "forward": forward, "backward": backward, "train": train}
    prepare = prepare_graph if pass_name == "backward" else prepare_leaves
    return Pass(prepare, timed[pass_name])


def fresh_leaves(inputs: Inputs, requires_grad: bool) -> Inputs:
    """Aliases of the same memory, without a graph or a gradient."""

    def alias(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.detach().requires_grad_(requires_grad)

    weights = tuple(Weights._make(alias(t) for t in one) for one in inputs.weights)
    return replace(
        inputs,
        x=inputs.x.detach().requires_grad_(requires_grad),
        h0=inputs.h0.detach().requires_grad_(requires_grad),
        c0=alias(inputs.c0),
        weights=weights,
    )


def gradients(inputs: Inputs) -> dict[str, list[Tensor]]:
    """The gradients of leaves, by name; an entry for each layer and direction that has one."""
    leaves = {name: [getattr(inputs, name)] for name in ("x", "h0", "c0")}
    for name in PARAMETER_NAMES:
        leaves[name] = [getattr(weights, name) for weights in inputs.weights]
    grads = {f"d_{name}": [_grad(leaf) for leaf in group] for name, group in leaves.items()}
    return {name: [g for g in group if g is not None] for name, group in grads.items()}


def _grad(leaf: Tensor | None) -> Tensor | None:
    return None if leaf is None else leaf.grad


def refuse_malformed(state: State) -> None:
    """Check what a backend returned, as it is, before anything is done with it.

    Type, shape, dtype, device and layout; that its memory is its own, and not an input's; that it
    has a graph if it needs one, and only then. A subclass of Tensor could delay its work until
    somebody reads it, after the clock stopped.

    Raises:
        Malformed: one line saying which output, what was found and what is expected.
    """
    inputs, outputs = state.inputs, state.outputs
    given = {_memory(t) for t in (*inputs.per_set(), *inputs.parameters()) if t.numel()}
    for name, out, like in zip(OUTPUT_NAMES, outputs, inputs.d_outputs(), strict=False):
        if type(out) is not Tensor:
            raise Malformed(f"{name} is a {type(out).__name__}; expected a plain torch.Tensor")
        facts = (tuple(out.shape), out.dtype, out.device)
        expected = (tuple(like.shape), like.dtype, like.device)
        if facts != expected:
            raise Malformed(f"{name} is {_describe(facts)}; expected {_describe(expected)}")
        if out.layout != torch.strided:
            raise Malformed(f"{name} is {out.layout}; expected torch.strided")
        if (out.grad_fn is not None) != state.has_graph:
            graph = "a graph that a backward can follow" if state.has_graph else "no graph"
            raise Malformed(f"{name} depends on {out.grad_fn}; expected {graph}")
        if out.numel() and _memory(out) in given:
            raise Malformed(f"{name} shares the memory of an input; expected memory of its own")
    if len(outputs) != len(inputs.d_outputs()):
        raise Malformed(f"{len(outputs)} outputs; expected {len(inputs.d_outputs())}")


def refuse_shared(executions: Sequence[tuple[Tensor, ...]]) -> None:
    """Check that no execution returned its outputs in the memory of another that is still held.

    Raises:
        Malformed: two of them did.
    """
    seen: set[int] = set()
    for outputs in executions:
        places = {_memory(out) for out in outputs if out.numel()}
        if places & seen:
            raise Malformed("two executions returned their outputs in the same memory")
        seen |= places


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _describe(facts: tuple[Any, ...]) -> str:
    shape, dtype, device = facts
    return f"{list(shape)} {str(dtype).removeprefix('torch.')} on {device}"
