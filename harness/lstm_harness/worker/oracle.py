"""The right results: the float64 answer to a problem, and a substitute for it on fresh inputs.

The `reference` backend makes the answer once for each problem, and it is kept in memory that no
backend can reach. Where float64 over the whole batch is too slow, a few batch rows are answered
exactly over all steps. The right results of a sample are computed by PyTorch's own layers (`aten`,
or else `naive`), for the whole batch, in a format at least as wide as the problem's, if they gave
that answer too. An error over the bound is judged again by how far right results move nearby.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from lstm_harness.model.case import PLAIN, Call
from lstm_harness.model.oracle_cost import rows_to_answer
from lstm_harness.model.protocol import Handed, Judged, JudgeSample
from lstm_harness.worker.calling import as_called, as_plain, made_plain, masks_of
from lstm_harness.worker.fresh import Mixer, changed_weights
from lstm_harness.worker.handing import taken
from lstm_harness.worker.inputs import (
    TORCH_DTYPES,
    Inputs,
    cast,
    make_inputs,
    only_rows,
    silence_other_rows,
)
from lstm_harness.worker.nearby import wider_bounds
from lstm_harness.worker.older_kernels import unsupported
from lstm_harness.worker.passes import Malformed, make_pass
from lstm_harness.worker.verify import failure, judge, tolerance
from lstm_kernels import registry
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Weights, run, run_layers

# The set of inputs whose answer is known.
FIRST_SET = 0
MOST_BYTES = 4 << 30
# The backends that may replace `reference`, the fastest first, if they are that much nearer to the
# answer than a backend must be.
STAND_INS = ("aten", "naive")
NEARER = 4.0

_Key = tuple[Problem, int, Call]  # with the seed


@dataclass(frozen=True)
class Answer:
    """What is right for one problem.

    `tensors` are every output and gradient of the checked inputs, float64 on the CPU, each a list
    with an entry a layer and direction. `rows` are the batch rows that were answered, None for all.
    """

    rows: tuple[int, ...] | None
    tensors: Mapping[str, list[Tensor]]


def checked_inputs(
    problem: Problem, seed: int, device: str, weights: tuple[Weights, ...] | None = None
) -> Inputs:
    """The set whose answer is known: its output gradients are 0 outside the answered rows."""
    inputs = make_inputs(problem, seed, FIRST_SET, device, weights)
    rows = rows_to_answer(problem, device)
    return inputs if rows is None else silence_other_rows(inputs, rows)


def answer(problem: Problem, seed: int, device: str, call: Call = PLAIN) -> Answer:
    """Compute the answer in float64 on a device, in the order of a plain call."""
    rows = rows_to_answer(problem, device)
    inputs = as_plain(_as_called(problem, seed, device, call), call)
    if rows is not None:
        inputs = only_rows(inputs, rows)
    double = replace(_wide(problem, "float64"), batch=inputs.x.shape[1])
    masks = masks_of(problem, call, str(seed), 0, device)
    if rows is not None:
        masks = tuple(mask[:, list(rows)] for mask in masks)
    made = _executed(_dropping(registry.load("reference"), masks), double, inputs, "train")
    return Answer(rows, {name: [t.cpu() for t in group] for name, group in made.items()})


def _as_called(problem: Problem, seed: int, device: str, call: Call) -> Inputs:
    """The set whose answer is known, with all its output gradients."""
    return as_called(make_inputs(problem, seed, FIRST_SET, device), problem, call)


def _checked_inputs(problem: Problem, seed: int, device: str, call: Call) -> Inputs:
    """The numbers of the checked set under such a call, in the order of a plain one."""
    return as_plain(as_called(checked_inputs(problem, seed, device), problem, call), call)


@dataclass(frozen=True)
class _Known:
    """An answer, the backend that replaces `reference`, and its format."""

    answer: Answer
    stand_in: Any
    wide: Problem

    @property
    def nbytes(self) -> int:
        return sum(t.nbytes for group in self.answer.tensors.values() for t in group)


class Oracle:
    """Holds answers, and judges what was handed over by them.

    The oldest answers are dropped if they take too much memory, and computed again.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._mixer = Mixer(device)
        self._known: OrderedDict[_Key, _Known] = OrderedDict()
        self._last: tuple[_Key, Inputs] | None = None

    def know(self, problem: Problem, seed: int, call: Call = PLAIN) -> Answer:
        """The answer to a problem that is called so, found once."""
        key = problem, seed, call
        if key not in self._known:
            found = answer(problem, seed, self._device, call)
            self._known[key] = _Known(found, *self._stand_in(*key, found))
            while len(self._known) > 1 and self._bytes() > MOST_BYTES:
                self._known.popitem(last=False)
        return self._known[key].answer

    def judge_proof(
        self, problem: Problem, seed: int, place: str, handed: Handed, call: Call = PLAIN
    ) -> Judged:
        """Compare a cell's first execution, and the gradients of another, with the answer."""
        right = self.know(problem, seed, call)
        like, bound = self._like(problem, seed, call), tolerance(call.computed(problem))
        execute = self._right_results((problem, seed, call), str(seed), 0, "train")
        errors: dict[str, float | None] = {}
        judgements = []
        for execution in range(len(handed.counts)):
            made = _taken(place, handed, like, execution)
            if isinstance(made, Judged):
                return made
            judged = judge(made_plain(made, call), right.tensors, bound, right.rows)
            if judged.failure:
                inputs = _checked_inputs(problem, seed, self._device, call)
                judged = _again(judged, execute, inputs)
            judgements.append(judged)
            # An error of the pass itself says more than one of the extra execution.
            errors = {**judged.errors, **errors}
        wrong = next((each.failure for each in judgements if each.failure), "")
        return Judged(errors, wrong, max(each.bound for each in judgements))

    def judge_sample(self, asked: JudgeSample) -> Judged:
        """Compare one execution of a sample with the right result for its inputs."""
        problem, call = asked.problem, asked.call
        key = problem, asked.seed, call
        self.know(*key)
        like, bound = self._like(*key), tolerance(call.computed(problem))
        made = _taken(asked.place, asked.handed, like, asked.execution)
        if isinstance(made, Judged):
            return made
        with_gradients = any(name.startswith("d_") for name in made)
        inputs = self._mixer.inputs(like, asked.draw.inputs, asked.execution, with_gradients)
        inputs = replace(inputs, weights=changed_weights(like.weights, asked.draw.weights, bound))
        if with_gradients:
            self._mixer.gradients(inputs, asked.draw.gradients, asked.execution)
        pass_name = "train" if with_gradients else "inference"
        inputs = as_plain(inputs, call)
        execute = self._right_results(key, asked.draw.inputs, asked.execution, pass_name)
        judged = judge(made_plain(made, call), execute(inputs), bound)
        return _again(judged, execute, inputs) if judged.failure else judged

    def _right_results(
        self, key: _Key, word: str, execution: int, pass_name: str
    ) -> Callable[[Inputs], dict[str, list[Tensor]]]:
        """What makes right results of inputs, with the masks of an execution."""
        problem, _, call = key
        known = self._known[key]
        masks = masks_of(problem, call, word, execution, self._device)
        stand_in = _dropping(known.stand_in, masks)

        return lambda inputs: _executed(stand_in, known.wide, inputs, pass_name)

    def _stand_in(
        self, problem: Problem, seed: int, call: Call, right: Answer
    ) -> tuple[Any, Problem]:
        """The backend that computes the right results on other inputs, and its format."""
        wide = _wide(problem, "float64" if problem.dtype == "float64" else "float32")
        inputs = _checked_inputs(problem, seed, self._device, call)
        masks = masks_of(problem, call, str(seed), 0, self._device)
        for name in STAND_INS:
            implementation = registry.load(name)
            if unsupported(name, wide, self._device):
                continue
            made = _executed(_dropping(implementation, masks), wide, inputs, "train")
            bound = tolerance(call.computed(problem)) / NEARER
            if not judge(made, right.tensors, bound, right.rows).failure:
                return implementation, wide
        return registry.load("reference"), _wide(problem, "float64")

    def _like(self, problem: Problem, seed: int, call: Call) -> Inputs:
        """The shapes and weights of a problem; cached, as cells mostly come problem by problem."""
        key = problem, seed, call
        if self._last is None or self._last[0] != key:
            self._last = key, _as_called(problem, seed, self._device, call)
        return self._last[1]

    def _bytes(self) -> int:
        return sum(known.nbytes for known in self._known.values())


def _taken(
    place: str, handed: Handed, like: Inputs, execution: int
) -> dict[str, list[Tensor]] | Judged:
    """The results of an execution, or a failure if they are malformed."""
    try:
        return taken(place, handed, like, execution)
    except Malformed as wrong:
        return Judged({}, str(wrong))


def _again(
    judged: Judged, execute: Callable[[Inputs], dict[str, list[Tensor]]], inputs: Inputs
) -> Judged:
    """Judge errors over the bound by how far right results move if the inputs do a little."""
    if not judged.errors or None in judged.errors.values():
        return judged
    for bounds in wider_bounds(execute, inputs, judged.bound):
        wrong = failure(judged.errors, bounds)
        if not wrong:
            break
    return Judged(judged.errors, wrong, max(bounds[name] for name in judged.errors))


def _dropping(implementation: Any, masks: tuple[Tensor, ...]) -> Any:
    """The same backend with the factors of dropout between its layers; as it is without any."""
    return _Dropping(implementation, masks) if masks else implementation


@dataclass(frozen=True)
class _Dropping:
    implementation: Any
    masks: tuple[Tensor, ...]

    def stack(
        self,
        x: Tensor,
        h0: Tensor,
        c0: Tensor | None,
        weights: tuple[Weights, ...],
        *,
        problem: Problem,
        **more: Any,
    ) -> Outputs:
        """All layers, each on the output of the one before times a mask."""

        def layer(
            index: int, x: Tensor, h0: Tensor, c0: Tensor | None, weights: tuple[Weights, ...]
        ) -> Outputs:
            x = x * self.masks[index - 1].to(x.dtype) if index else x
            return run(self.implementation, x, h0, c0, weights, problem=problem.layer(index))

        return run_layers(layer, x, h0, c0, weights, directions=problem.directions)


def _wide(problem: Problem, dtype: str) -> Problem:
    return replace(problem, dtype=dtype, precision="ieee")


def _executed(
    implementation: Any, problem: Problem, inputs: Inputs, pass_name: str
) -> dict[str, list[Tensor]]:
    """A backend's results for inputs in its problem's format, by name."""
    the_pass = make_pass(implementation, problem, pass_name)
    state = the_pass.prepare(cast(inputs, TORCH_DTYPES[problem.dtype]))
    the_pass.execute(state)
    tensors = state.tensors().items()
    return {name: [tensor.detach() for tensor in group] for name, group in tensors if group}
