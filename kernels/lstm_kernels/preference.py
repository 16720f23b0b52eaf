"""What `backend="auto"` prefers for a problem: the fastest backend measured on the nearest one.

A problem is near if it is equal in everything except sizes (cell, layers, directions, bias,
projection, heads, dtype, precision, lengths full or not) and, in sizes, at most `NEAR` doublings
away: the sum of |log2(ratio)| over T, B, I and H. The user's own results come first, then those
shipped with the package; if neither is near, PyTorch's own runs, or a loop of its operations if it
has no such layer. Of equally near problems the smaller one counts.

A preference is found once for a problem, a use, a device and a number of threads, and then looked
up. Every call checks that a backend runs this exact problem, as for one that was named.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.util import find_spec
from math import log2

from lstm_kernels import measured, registry
from lstm_kernels.measured import Row, own_on
from lstm_kernels.problem import Problem

# One size four times as large, or H doubled where I is H. In results/amd-epyc-2core a problem,
# left out, has another so near that names its winner or a tie, in all cases except one.
NEAR = 2.0
SIZES = ("seq_len", "batch", "input_size", "hidden_size")
# What runs without measurements if PyTorch has no such layer: a loop of its operations.
LOOP = "hoisted"
# Medians do not include what these cost a user who did not ask for them.
ONLY_BY_NAME = {
    "compiled": "compiles for seconds at each new shape",
    "onnxruntime": "compares its weights with a copy at each call, which no race measures",
    "jax": "compiles for tenths of a second at each new shape",
    "openvino": "compiles for tens of milliseconds at each new shape",
}


@dataclass(frozen=True)
class Preference:
    """The backend to take, and the next one if it refuses, down to PyTorch's own.

    `order` ends with PyTorch's own, or `LOOP` if PyTorch has no such layer.
    `ground` is the reason in a sentence, after the name; `row` is what was measured, None if
    nothing was, and `passed_over` holds its backends that cannot run here, each with the reason.
    """

    order: tuple[str, ...]
    ground: str
    row: Row | None = None
    passed_over: Mapping[str, str] = field(default_factory=dict)

    def why(self, name: str, refused: Mapping[str, str]) -> str:
        """Why this one of `order` runs, in a sentence.

        Args:
            refused: those before it, and the reason each gave against this exact problem.
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
            return f"{whose}, because nothing faster {count} can run here, on"
        fastest = min(row.median_ns, key=row.median_ns.__getitem__)
        if name == fastest:
            others = [each for each in row.tied if each != name]
            within_noise = f", within noise of {', '.join(others)}," if others else ""
            return f"the fastest {count}{within_noise} on"
        if name in row.tied and name == row.order[0]:
            return f"tied with the fastest {count}, {fastest}, on"
        return f"the next best {count} on"


@lru_cache(maxsize=1024)
def preferred(problem: Problem, device: str, training: bool, threads: int) -> Preference:
    """The preference for a problem.

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
    where = "this very problem" if is_same else f"{away:.2g} doublings from {problem.label()}"
    ground = f"{row.problem.label()} in {row.use}, {where}, in run {row.run.id} "
    ground += f"({source}; torch {row.run.torch}){refused}"
    return Preference(tuple(taken), ground, row, passed_over)


def unmeasured(problem: Problem, kind: str) -> tuple[str, ...]:
    """The backends that run if nothing better can be taken."""
    own = own_on(kind)
    return (LOOP,) if all(registry.unknown_kind(name, problem) for name in own) else own


def forget() -> None:
    """Read files again, and check what is installed, at the next call."""
    measured.forget()
    preferred.cache_clear()


def nearest(problem: Problem, use: str, rows: tuple[Row, ...]) -> tuple[Row, float] | None:
    """The row of the nearest problem, and how many doublings away it is; None if none is near."""
    away = [
        (distance(problem, row.problem), place) for place, row in enumerate(rows) if row.use == use
    ]
    least, place = min(away, default=(None, 0), key=_nearer)
    return None if least is None or least > NEAR else (rows[place], least)


def _nearer(found: tuple[float | None, int]) -> tuple[bool, float, int]:
    away, place = found
    return away is None, away or 0.0, place


def distance(one: Problem, other: Problem) -> float | None:
    """How many doublings lie between two problems' sizes; None if they differ in kind."""
    if _kind(one) != _kind(other):
        return None
    # Not of the quotient: a number in a file may be too large for it.
    return sum(abs(log2(getattr(one, size)) - log2(getattr(other, size))) for size in SIZES)


def _kind(problem: Problem) -> tuple[object, ...]:
    """What must be equal so that a result for one problem applies to another."""
    return (
        *(problem.cell, problem.num_layers, problem.bidirectional, problem.bias),
        *(problem.proj_size, problem.heads, problem.dtype, problem.precision),
        problem.lengths == "full",
    )


def _against(name: str, kind: str, training: bool) -> str | None:
    """Why a backend cannot be taken here for any problem, or None."""
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
