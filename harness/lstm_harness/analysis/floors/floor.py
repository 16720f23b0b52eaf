"""The floor: a time that no implementation can beat on this device, if its ceilings are right.

It is the largest of several bounds, each valid by itself (in short: docs/method.md, A floor). A
step takes at least the longest of product, weights and gathered h, and then one synchronisation and
the pointwise work. Where that is not a true lower bound, it is loosened here; where more is
certain, it is tightened:

- *products*: every product of the pass at the highest rate measured for the dtype: of a library, or
  of a CPU's multiply-adds in registers. Half types may be computed in any wider one, and bfloat16
  in float16, so the fastest of these counts.
- *weights*: each step reads a layer's recurrent weights, except those that can stay nearer: a
  device's registers and shared memory, then each cache. Beyond a level's capacity, and that of all
  nearer ones, they come from the next. A projection may be multiplied into W_hh, where that is
  smaller.
- *data*: x, y, the states and every weight (and in a backward the gradients), each once, from the
  level they fit. Where the cache is flushed first, what is read comes from memory.
- *the chain of steps* of each layer. To products and weights comes h, gathered by the fewest SMs
  that can hold the weights. One SM that streams all weights need not gather h: the smaller time
  counts. The same holds for the flag from SM to SM and the time to stream what one SM cannot hold.
  A layer whose weights, or those of each of its heads, fit in one SM synchronises nothing. The
  gates' pointwise work is the time that `fused_gates` takes. On a CPU neither was measured, and
  both count as 0. Layers of a stack in one direction overlap as a wavefront: the longest chain, and
  a step of every other layer. In a bidirectional stack each layer waits for all of the one before;
  the directions of a layer overlap. A `train` has the chains of both its passes.
- *launch*: a pass on a GPU is at least one kernel.

What could still beat it, if it were built: an exchange of h through a cluster's shared memory, if
that is faster than a flag through L2; gates by approximate instructions; float32 products made of
several in a smaller type, which `ieee` does not allow.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from lstm_harness.model.ceilings import Ceilings
from lstm_harness.model.record import Record
from lstm_harness.model.spec import Spec
from lstm_kernels.problem import Problem

# The dtypes and precisions that a product may be computed in within the dtype's error bound.
COMPUTED_IN = {
    "float64 ieee": ("float64 ieee",),
    "float32 ieee": ("float32 ieee",),
    "float32 tf32": ("float32 tf32", "float32 ieee"),
    # No rate of int8 products was measured.
    "float32 w8": (),
    "float16 ieee": ("float16 ieee", "float32 tf32", "float32 ieee"),
    "bfloat16 ieee": ("bfloat16 ieee", "float16 ieee", "float32 tf32", "float32 ieee"),
}
SHOWN_PASSES = ("inference", "backward")
FORWARD, BACKWARD = "forward", "backward"
# The sweeps over the steps that a pass consists of.
SWEEPS = {
    "inference": (FORWARD,),
    "forward": (FORWARD,),
    "backward": (BACKWARD,),
    "train": (FORWARD, BACKWARD),
}


@dataclass(frozen=True)
class Floor:
    """The least time of a pass in ns, which bound sets it, and every bound by name."""

    ns: float
    term: str
    terms: dict[str, float]


def floor(
    problem: Problem, pass_name: str, ceilings: Ceilings, cache: str = "warm"
) -> Floor | None:
    """The floor of a pass over a problem; None if no ceiling applies to it."""
    device = _Device(ceilings, problem)
    terms = dict(device.totals(pass_name, cache))
    chain = device.chain(pass_name)
    bounds = terms | {"chain of steps": chain.total} if chain.total else terms
    if not bounds:
        return None
    ns = max(bounds.values())
    binding = max(bounds, key=lambda name: bounds[name])
    term = chain.longest_part() if binding == "chain of steps" else binding
    return Floor(ns, term, bounds)


def floor_rows(ceilings: Ceilings, spec: Spec) -> list[dict[str, Any]]:
    """The floor of every problem of a spec, in the passes that differ most, one row each."""
    problems = dict.fromkeys(case.computed for case in spec.cases(ceilings.device))
    return [
        _row(problem, pass_name, floor(problem, pass_name, ceilings))
        for problem in problems
        for pass_name in SHOWN_PASSES
    ]


def _row(problem: Problem, pass_name: str, least: Floor | None) -> dict[str, Any]:
    return {
        "problem": problem.to_dict(),
        "pass": pass_name,
        "floor_ns": least.ns if least else None,
        "step_us": least.ns / problem.seq_len / 1e3 if least else None,
        "term": least.term if least else None,
        "terms": least.terms if least else {},
    }


def with_floor(record: Record, ceilings: Ceilings | None) -> Record:
    """A record with its floor added, and a warning if its times are below it."""
    if ceilings is None or record.status != "ok" or record.case.device != ceilings.device:
        return record
    case = record.case
    least = floor(case.computed, case.pass_name, ceilings, case.cache)
    if least is None:
        return record
    time_ns = median(record.samples_ns)
    warnings = record.warnings
    if time_ns < least.ns:
        warnings += (
            f"its median of {time_ns / 1e3:.4g} µs is below the floor of {least.ns / 1e3:.4g} µs "
            f"that {least.term} sets: it leaves work out, or the ceilings are too low "
            "(lstm-bench limits measures them again; then run again)",
        )
    return replace(record, floor_ns=least.ns, floor_term=least.term, warnings=warnings)


@dataclass(frozen=True)
class _Chain:
    """The serial time of the steps by its parts: of parts that overlap only the longest counts."""

    overlapping: dict[str, float]
    adding: dict[str, float]

    @property
    def total(self) -> float:
        return max(self.overlapping.values(), default=0.0) + sum(self.adding.values())

    def longest_part(self) -> str:
        parts = self.overlapping | self.adding
        return max(parts, key=lambda name: parts[name])


@dataclass(frozen=True)
class _Device:
    """The bounds of one problem on one device."""

    ceilings: Ceilings
    problem: Problem

    def totals(self, pass_name: str, cache: str) -> Iterator[tuple[str, float]]:
        """The bounds of the whole pass that do not depend on the order of its steps."""
        problem = self.problem
        rate = self._rate()
        if rate:
            yield "products", problem.flops(pass_name) / rate * 1e9
        near = self.ceilings.near_bytes * self.ceilings.units
        layers = problem.num_layers * problem.directions * len(SWEEPS[pass_name])
        for level, ns in self._from_levels(self._weight_bytes(), near):
            yield f"weights from {level}", ns * self._steps() * layers
        read, written = _compulsory_bytes(problem, pass_name)
        # On a GPU nothing stays in an SM from one kernel to the next.
        stays = near if self.ceilings.device == "cpu" else 0
        for level, ns in self._from_levels(read + written, stays):
            yield f"data from {level}", ns
        if cache == "cold" and (bandwidth := self._bandwidth("memory")):
            yield "data from memory", read / bandwidth * 1e9
        launches = [self.ceilings.best("launch", how) for how in ("in a stream", "in a graph")]
        if known := [each for each in launches if each]:
            yield "one launch", min(known)

    def chain(self, pass_name: str) -> _Chain:
        """The serial steps of all layers, one sweep after the other; layers differ only in x."""
        problem, steps, sweeps = self.problem, self._steps(), SWEEPS[pass_name]
        in_turn = problem.num_layers if problem.bidirectional else 1
        # In a wavefront, the last layer's chain starts a step later for every layer below.
        late = 0 if problem.bidirectional else min(1, steps) * (problem.num_layers - 1)
        adding: dict[str, float] = {}
        for sweep in sweeps:
            for name, ns in self._latencies(sweep).items():
                adding[name] = adding.get(name, 0.0) + ns * (steps * in_turn + late)
        work = self._step_work().items()
        return _Chain({name: ns * in_turn * len(sweeps) for name, ns in work}, adding)

    def _step_work(self) -> dict[str, float]:
        """The time that a layer's steps take to move and multiply, all steps together, by bound."""
        problem, ceilings = self.problem, self.ceilings
        work = {}
        if rate := self._rate():
            elements = self._weight_bytes() / problem.weight_bytes
            work["products of the steps"] = 2 * elements * problem.valid_steps / rate * 1e9
        near = ceilings.near_bytes * ceilings.units
        for level, ns in self._from_levels(self._weight_bytes(), near):
            work[f"weights from {level}"] = ns * self._steps()
        l2 = self._bandwidth("L2")
        beyond = self._beyond_an_sm()
        if ceilings.device == "cuda" and l2 and beyond > 0:
            state = problem.valid_steps * problem.state_size * problem.element_bytes
            # For each head: those bytes, and its own part of h.
            gathered = beyond / ceilings.near_bytes * state
            streamed = beyond * problem.heads * self._steps()
            work["gathering h"] = min(gathered, streamed) / l2 * 1e9
        return work

    def _latencies(self, sweep: str) -> dict[str, float]:
        """What each step adds: one synchronisation if SMs must meet, and the pointwise work."""
        ceilings = self.ceilings
        latencies = {}
        beyond = self._beyond_an_sm()
        flag = ceilings.best("flag", "from SM to SM")
        streaming = ceilings.best("read", "L2 by one SM") or self._bandwidth("L2")
        if ceilings.device == "cuda" and beyond > 0 and flag and streaming:
            latencies["synchronisation"] = min(flag, beyond / streaming * 1e9)
        pointwise = ceilings.best("gates", f"{self.problem.cell} {sweep}")
        if pointwise:
            latencies["gates"] = pointwise
        return latencies

    def _from_levels(self, moved: float, nearer: float) -> Iterator[tuple[str, float]]:
        """The least time of each level to deliver bytes, some of which may stay nearer, in ns."""
        for level in self.ceilings.levels:
            if moved <= nearer:
                return
            if bandwidth := self._bandwidth(level.name):
                yield level.name, (moved - nearer) / bandwidth * 1e9
            nearer += level.bytes or 0

    def _bandwidth(self, level: str) -> float | None:
        rates = [self.ceilings.best(kind, level) for kind in ("read", "copy")]
        return max((each for each in rates if each), default=None)

    def _rate(self) -> float | None:
        asked = f"{self.problem.dtype} {self.problem.precision}"
        rates = [self.ceilings.best("product", each) for each in COMPUTED_IN[asked]]
        return max((each for each in rates if each), default=None)

    def _weight_bytes(self) -> float:
        """The fewest recurrent weights of one layer and direction."""
        problem = self.problem
        gates, H, P = problem.h_gates, problem.hidden_size, problem.proj_size
        whole = gates * H * H // problem.heads
        elements = min(gates * H * P + P * H, whole) if P else whole
        return elements * problem.weight_bytes

    def _beyond_an_sm(self) -> float:
        """Bytes of a head's recurrent weights that do not fit in one SM.

        If all fit, its steps need nothing from another SM.
        """
        return self._weight_bytes() / self.problem.heads - self.ceilings.near_bytes

    def _steps(self) -> int:
        """The steps of the longest sequence."""
        problem = self.problem
        if problem.lengths == "full":
            return problem.seq_len
        return max(problem.sequence_lengths())


def _compulsory_bytes(problem: Problem, pass_name: str) -> tuple[int, int]:
    """Bytes that a pass must read and must write, apart from what it keeps or recomputes."""
    valid = problem.valid_steps
    x = valid * problem.input_size
    y = valid * problem.directions * problem.state_size
    carried = problem.state_size + problem.cell_state_size
    states = problem.num_layers * problem.directions * problem.batch * carried
    # As many elements of the rest.
    weights = problem.parameter_count() * problem.weight_bytes // problem.element_bytes
    read, written = x + states + weights, 0
    if FORWARD in SWEEPS[pass_name]:
        written += y + states
    if BACKWARD in SWEEPS[pass_name]:
        read += y  # the gradient of y
        written += x + states + weights
    return read * problem.element_bytes, written * problem.element_bytes
