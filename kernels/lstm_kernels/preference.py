"""Whom `backend="auto"` prefers for a problem: the fastest backend measured on the nearest one.

Near is what is alike in everything but sizes (cell, layers, directions, bias, projection, heads,
dtype, precision, lengths full or not) and, in sizes, at most `NEAR` doublings away: the sum of
|log2(ratio)| over T, B, I and H. The user's own results come first, then those shipped with the
package; with neither near, PyTorch's own runs, or a loop of its operations where it has no such
layer. Of equally near problems the smaller counts.

A preference is found once for a problem, a use, a device and a number of threads, and then looked
up. Whether a backend runs the very problem is asked at every call, as for one that was named.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.util import find_spec
from math import log2

from lstm_kernels import measured, registry
from lstm_kernels.measured import Row, own_on
from lstm_kernels.problem import Problem

# One size four times as large, or H doubled where I is H. In results/amd-epyc-2core each problem,
# left out, has another so near that names its winner or a tie.
NEAR = 2.0
SIZES = ("seq_len", "batch", "input_size", "hidden_size")
# What runs unmeasured where PyTorch has no such layer: a loop of its operations.
LOOP = "hoisted"
# Medians tell nothing of what these cost whoever did not ask for them.
ONLY_BY_NAME = {
    "compiled": "compiles for seconds at each new shape",
    "onnxruntime": "compares its weights with a copy at each call, which no race times",
    "jax": "compiles for tenths of a second at each new shape",
    "openvino": "compiles for tens of milliseconds at each new shape",
}


@dataclass(frozen=True)
class Preference:
    """Whom to take, and whom where that one refuses, down to PyTorch's own.

    `order` ends with PyTorch's own, or `LOOP` where PyTorch has no such layer.
    `ground` is what a sentence says after who it is; `row` is what was measured, None where
    nothing was, and `passed_over` those of it that cannot be taken here, each with the reason.
    """

    order: tuple[str, ...]
    ground: str
    row: Row | None = None
    passed_over: Mapping[str, str] = field(default_factory=dict)

    def why(self, name: str, refused: Mapping[str, str]) -> str:
        """Why this one of `order` runs, in a sentence.

        Args:
            refused: those before it, and the reason each gave against the very problem.
        """
        return self._told(name, refused) if refused else self._why_first

    @cached_property
    def _why_first(self) -> str:
        return self._told(self.order[0], {})

    def _told(self, name: str, refused: Mapping[str, str]) -> str:
        over = "".join(
            f"; passed over: {each} ({reason})"
            for each, reason in (*self.passed_over.items(), *refused.items())
        )
        return f"{name}: {self._standing(name)} {self.ground}{over}"

    def _standing(self, name: str) -> str:
        row = self.row
        whose = "a loop of PyTorch's operations" if name == LOOP else "PyTorch's own"
        if row is None:
            return f"{whose}, as"
        count = f"of {len(row.median_ns)} measured"
        if name not in row.order:
            return f"{whose}, as none better can be taken {count} on"
        fastest = min(row.median_ns, key=row.median_ns.__getitem__)
        if name == fastest:
            return f"the fastest {count} on"
        if name in row.tied and name == row.order[0]:
            return f"not to be told from the fastest {count}, {fastest}, on"
        return f"the next best {count} on"


@lru_cache(maxsize=1024)
def preferred(problem: Problem, device: str, training: bool, threads: int) -> Preference:
    """Whom to prefer.

    Args:
        device: a text, like "cpu" or "cuda:1".
        training: whether gradients may be asked for.
        threads: how many torch computes with on a CPU.
    """
    kind, use = device.partition(":")[0], measured.USES[training]
    if kind not in measured.KINDS:
        return Preference(unmeasured(problem, kind), f"nothing is measured on {kind}")
    here = measured.device_class(device, threads)
    sources = measured.sources(here)
    refused = "".join(f"; {each.whose} results: {each.refused}" for each in sources if each.refused)
    for source in sources:
        found = nearest(problem, use, source.rows)
        if found is not None:
            return _of_row(problem, kind, *found, f"{source.whose}; {here.label()}", refused)
    nothing = f"nothing near {problem.label()} in {use} was measured on {here.label()}"
    return Preference(unmeasured(problem, kind), nothing + refused)


def _of_row(
    problem: Problem, kind: str, row: Row, away: float, source: str, refused: str
) -> Preference:
    reasons = {name: _against(name, kind, row.use == "training") for name in row.order}
    passed_over = {name: reason for name, reason in reasons.items() if reason}
    names = (*row.order, *unmeasured(problem, kind))
    taken = dict.fromkeys(name for name in names if name not in passed_over)
    is_same = row.problem == problem
    where = "the very problem" if is_same else f"{away:.2g} doublings from {problem.label()}"
    ground = f"{row.problem.label()} in {row.use}, {where}, in run {row.run.id} "
    ground += f"({source}; torch {row.run.torch}){refused}"
    return Preference(tuple(taken), ground, row, passed_over)


def unmeasured(problem: Problem, kind: str) -> tuple[str, ...]:
    """Who runs where nobody better can be taken."""
    own = own_on(kind)
    return (LOOP,) if all(registry.unknown_kind(name, problem) for name in own) else own


def forget() -> None:
    """Read files anew, and ask who is installed, at the next question."""
    measured.forget()
    preferred.cache_clear()


def nearest(problem: Problem, use: str, rows: tuple[Row, ...]) -> tuple[Row, float] | None:
    """The row of the nearest problem, and how many doublings away it is; None of none near."""
    away = [
        (distance(problem, row.problem), place) for place, row in enumerate(rows) if row.use == use
    ]
    least, place = min(away, default=(None, 0), key=_nearer)
    return None if least is None or least > NEAR else (rows[place], least)


def _nearer(found: tuple[float | None, int]) -> tuple[bool, float, int]:
    away, place = found
    return away is None, away or 0.0, place


def distance(one: Problem, other: Problem) -> float | None:
    """How many doublings lie between two problems' sizes; None where they differ in kind."""
    if _kind(one) != _kind(other):
        return None
    # Not of the quotient, which a file's number may be too large for.
    return sum(abs(log2(getattr(one, size)) - log2(getattr(other, size))) for size in SIZES)


def _kind(problem: Problem) -> tuple[object, ...]:
    """What must be the same for a result of one problem to tell of another."""
    return (
        *(problem.cell, problem.num_layers, problem.bidirectional, problem.bias),
        *(problem.proj_size, problem.heads, problem.dtype, problem.precision),
        problem.lengths == "full",
    )


def _against(name: str, kind: str, training: bool) -> str | None:
    """Why a backend cannot be taken here, whatever the problem, or None."""
    record = registry.registered().get(name)
    if record is None:
        return "is not registered here"
    if name in ONLY_BY_NAME:
        return ONLY_BY_NAME[name]
    if kind not in record.devices:
        return f"is not for {kind}"
    if training and "backward" not in record.passes:
        return "has no gradients"
    try:
        # By their top-level names: looking inside would import them.
        missing = [each for each in record.requires if find_spec(each.partition(".")[0]) is None]
        if missing:
            return f"needs {', '.join(missing)}, which is not installed"
        registry.load(name)
    except Exception as error:  # noqa: BLE001 - a stranger's module may raise anything; why tells it
        return f"cannot be imported ({type(error).__name__}: {error})"
    return None
