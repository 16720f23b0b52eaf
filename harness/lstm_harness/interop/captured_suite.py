"""The calls of a program's recurrent layers as a suite: one weighted case for each kind of call.

A layer's calls with gradients become the pass `train`, the others `inference`. If a layer met
more shapes than `MOST_SHAPES` in a pass, they are joined: ordered by their steps (of all sequences
of a batch together), cut into this many parts of about equal work, each represented by the one of
its shapes whose steps are nearest to the part's mean. All calls are counted.

The lengths of packed batches become the nearest named distribution: `uniform:LOW:T` or
`uniform:1:HIGH`, the one with their mean if there is one, or a table of
`lstm_kernels.common.lengths`. Nearest is the least sum of differences of a batch's sorted lengths.

A padded call with batch_first, a call under autocast, and a padded call with gradients of layers
with dropout between them become cases that are called so. A packed call ignores batch_first; its
dropout is not raced, so a comment names it. A call that no case can represent, or that ran on
another device, becomes a comment too, and the command says so.
"""

import itertools
import json
import shlex
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import PurePath

from lstm_harness.interop.watched_program import Call, Count, Notes
from lstm_harness.model.case import AUTOCASTS, DEVICES
from lstm_harness.model.text import count as counted
from lstm_harness.model.text import shorten
from lstm_kernels import DTYPE_BYTES, Problem
from lstm_kernels.common.lengths import TABLES, sequence_lengths

MOST_SHAPES = 4
# A name that keeps less than this part of the longest length is reported.
LEAST_OF_LONGEST = 0.8
# Enough to detect a difference (README, Gate a CI).
BLOCKS = 5
FULL = "full"
# What may differ between the calls that one case represents.
_SHAPE = ("seq_len", "batch", "packed", "threads")


@dataclass(frozen=True)
class Shape:
    """Sizes that one layer was called with in one pass, and how often.

    `running` is that of a `Count`, `steps` are those of one call, of all its sequences together. If
    it represents others, `shapes` is their number, `longest` and `batches` their least and most T
    and B.
    """

    seq_len: int
    batch: int
    running: tuple[int, ...]
    calls: int
    steps: float
    shapes: int
    longest: tuple[int, int]
    batches: tuple[int, int]

    @classmethod
    def of(cls, call: Call, count: Count) -> "Shape":
        """The sizes of one kind of call."""
        T, B = call.seq_len, call.batch
        steps = sum(count.running) / count.calls if call.packed else float(T * B)
        return cls(T, B, tuple(count.running), count.calls, steps, 1, (T, T), (B, B))

    def sorted_lengths(self) -> list[int]:
        """B lengths, ascending: the middles of B equal parts of all lengths."""
        if not self.running:
            return [self.seq_len] * self.batch
        total = self.running[0]
        ended = [total - more for more in (*self.running[1:], 0)]  # at most this long, by length
        middles = (total * (row + 0.5) / self.batch for row in range(self.batch))
        return [bisect_right(ended, middle) + 1 for middle in middles]

    def lengths(self) -> str:
        """The name of the distribution that is nearest to these lengths."""
        drawn, T = self.sorted_lengths(), self.seq_len
        if drawn[0] == T:
            return FULL
        twice = round(2 * sum(drawn) / len(drawn))
        low, high = max(1, twice - T), min(T, max(1, twice - 1))
        names = (f"uniform:{low}:{T}", f"uniform:1:{high}", *TABLES)

        def distance(name: str) -> int:
            named = sorted(sequence_lengths(name, T, len(drawn)))
            return sum(abs(a - b) for a, b in zip(named, drawn, strict=True))

        return min(names, key=distance)

    def raced_lengths(self) -> list[int]:
        """The lengths that such a name gives, ascending."""
        return sorted(sequence_lengths(self.lengths(), self.seq_len, self.batch))

    @property
    def is_raced_otherwise(self) -> bool:
        """Whether the longest raced length is far off; it is how many steps wait for each other."""
        return self.raced_lengths()[-1] < LEAST_OF_LONGEST * self.sorted_lengths()[-1]


@dataclass(frozen=True)
class Captured:
    """The suite as text, empty if there is nothing to race; and notes for a reader."""

    text: str
    layers: int
    cases: int
    calls: int
    said: tuple[str, ...]


def captured(notes: Notes, command: Sequence[str]) -> Captured:
    """The suite of the calls that a program's processes recorded."""
    told = {call: count for call, count in notes.counts.items() if count.calls}
    device = _device(told)
    raced = {call: count for call, count in told.items() if _why_not(call, device) is None}
    left = Counter[tuple[str, str]]()
    for call, count in told.items():
        reason = _why_not(call, device)
        if reason:
            left[call.layer, reason] += count.calls
    said = [f"{layer}: {counted(n, 'call')} left out: {why}" for (layer, why), n in left.items()]
    said += [
        f"{name}: {counted(n, 'call')} left out: a cell runs one step only, so it cannot be a case"
        for name, n in notes.cells.items()
    ]
    said += [f"some calls could not be recorded: {shorten(each, 200)}" for each in notes.troubles]
    groups = _by_layer_and_pass(raced)
    shapes = {call: _joined([Shape.of(*each) for each in group]) for call, group in groups.items()}
    said += [
        f"{call.layer}: packed lengths {_ends(each.sorted_lengths())} are raced as "
        f"{each.lengths()}, {_ends(each.raced_lengths())}, the nearest named distribution: "
        "the times may differ"
        for call, some in shapes.items()
        for each in some
        if each.is_raced_otherwise
    ]
    calls = sum(count.calls for count in raced.values())
    text = "".join(_lines(shapes, raced, said, device, command, calls)) if raced else ""
    layers = len({call.layer for call in groups})
    return Captured(text, layers, sum(map(len, shapes.values())), calls, tuple(said))


def _device(told: Mapping[Call, Count]) -> str:
    """The device with the most calls, of those that a case can be on."""
    calls = Counter[str]()
    for call, count in told.items():
        calls[call.device] += count.calls if call.device in DEVICES else 0
    return max(calls, key=lambda name: calls[name], default="cpu")


def _why_not(call: Call, device: str) -> str | None:
    """Why a call cannot be a case of a suite for this device; None if it can."""
    if call.device not in DEVICES:
        return f"on {call.device}; cases are on {' and '.join(DEVICES)}"
    if call.device != device:
        return f"on {call.device}, but most calls are on {device}; a suite is for one device"
    if call.dtype not in DTYPE_BYTES:
        return f"{call.dtype}; cases are in {', '.join(DTYPE_BYTES)}"
    if _drops(call) and call.dropout >= 1:
        return "dropout 1; cases have less than 1"
    if call.autocast and call.dtype not in AUTOCASTS:
        return f"under autocast to {call.dtype}; cases have {', '.join(AUTOCASTS[1:])}"
    try:
        _problem(call, call.seq_len, call.batch, FULL)
    except ValueError as error:
        return str(error)
    return None


def _problem(call: Call, seq_len: int, batch: int, lengths: str) -> Problem:
    # A layer of torch.nn has one head.
    own = {each.name for each in fields(Problem)} - {"seq_len", "batch", "lengths", "heads"}
    same = {name: getattr(call, name) for name in own}
    return Problem(seq_len=seq_len, batch=batch, lengths=lengths, **same)


def _by_layer_and_pass(raced: Mapping[Call, Count]) -> dict[Call, list[tuple[Call, Count]]]:
    """The calls that differ only in their sizes, under the first of them."""
    groups: dict[tuple[object, ...], list[tuple[Call, Count]]] = {}
    names = [each.name for each in fields(Call) if each.name not in _SHAPE]
    for call, count in raced.items():
        groups.setdefault(tuple(getattr(call, n) for n in names), []).append((call, count))
    return {group[0][0]: group for group in groups.values()}


def _joined(shapes: Sequence[Shape]) -> list[Shape]:
    """At most `MOST_SHAPES` that represent all of these, in the order of their steps."""
    shapes = sorted(shapes, key=lambda each: (each.steps, each.seq_len, each.batch))
    if len(shapes) <= MOST_SHAPES:
        return shapes
    work = list(itertools.accumulate(each.calls * each.steps for each in shapes))
    parts: dict[int, list[Shape]] = {}
    for shape, done in zip(shapes, work, strict=True):
        middle = done - shape.calls * shape.steps / 2
        parts.setdefault(int(MOST_SHAPES * middle / work[-1]), []).append(shape)
    return [_one_of(part) for part in parts.values()]


def _one_of(part: Sequence[Shape]) -> Shape:
    calls = sum(each.calls for each in part)
    mean = sum(each.calls * each.steps for each in part) / calls
    nearest = min(part, key=lambda each: (abs(each.steps - mean), -each.calls))
    return replace(
        nearest,
        calls=calls,
        shapes=len(part),
        longest=(min(each.seq_len for each in part), max(each.seq_len for each in part)),
        batches=(min(each.batch for each in part), max(each.batch for each in part)),
    )


def _lines(
    shapes: Mapping[Call, Sequence[Shape]],
    raced: Mapping[Call, Count],
    said: Sequence[str],
    device: str,
    command: Sequence[str],
    calls: int,
) -> Iterator[str]:
    program = " ".join(PurePath(word).name for word in command[:3])
    title = f"the recurrent layers of {program}: {counted(calls, 'call')}"
    yield f"title = {_text(title)}\n"
    yield f"source = {_text('lstm-bench capture -- ' + shlex.join(command))}\n\n"
    yield from (f"# {shorten(each, 200)}\n" for each in said)
    yield f'[run]\ndevice = "{device}"\nblocks = {BLOCKS}\n'
    if device == "cpu":
        threads = Counter[int]()
        for call, count in raced.items():
            threads[call.threads] += count.calls
        yield f"threads = {threads.most_common(1)[0][0]}\n"
    for call, each in shapes.items():
        for shape in each:
            yield "\n" + "".join(f"# {line}\n" for line in _remarks(call, shape))
            yield from _grid(call, shape)


def _remarks(call: Call, shape: Shape) -> Iterator[str]:
    notes = []
    if shape.running:
        drawn = shape.sorted_lengths()
        mean = sum(drawn) / len(drawn)
        notes.append(f"packed: lengths {drawn[0]} to {drawn[-1]}, mean {mean:.3g}")
    if _drops(call) and shape.running:
        notes.append(f"dropout {call.dropout:g}, which is not raced for a packed batch")
    if notes:
        yield "; ".join(notes)
    if shape.shapes > 1:
        sizes = f"T {_range(shape.longest)}, B {_range(shape.batches)}"
        yield f"stands for {shape.shapes} shapes: {sizes}"
    if call.precision == "tf32":
        yield (
            "TF32, because cuDNN may use it here; for lk.LSTM: "
            'torch.set_float32_matmul_precision("high")'
        )


def _grid(call: Call, shape: Shape) -> Iterator[str]:
    """One case: every value that is not an axis's default, with its layer and its calls."""
    yield f"[[grid]]\nlayer = {_text(call.layer)}\ncalls = {shape.calls}\n"
    yield f'cell = "{call.cell}"\nseq-len = {shape.seq_len}\nbatch = {shape.batch}\n'
    yield f"input = {call.input_size}\nhidden = {call.hidden_size}\n"
    yield f"layers = {call.num_layers}\n" if call.num_layers > 1 else ""
    yield "bidirectional = true\n" if call.bidirectional else ""
    yield "" if call.bias else "bias = false\n"
    yield f"proj = {call.proj_size}\n" if call.proj_size else ""
    # What a call under autocast computes in is not the dtype of its parameters.
    dtype = "float32" if call.autocast else call.dtype
    yield f'dtype = "{dtype}"\nprecision = "{call.precision}"\n'
    yield f'autocast = "{call.dtype}"\n' if call.autocast else ""
    yield "batch-first = true\n" if call.batch_first and not shape.running else ""
    yield f"dropout = {call.dropout:g}\n" if _drops(call) and not shape.running else ""
    yield f'lengths = "{shape.lengths()}"\n'
    yield f'pass = "{"train" if call.gradients else "inference"}"\n'


def _drops(call: Call) -> bool:
    """Whether there is dropout between layers, if the module was in training."""
    return bool(call.dropout and call.gradients and call.num_layers > 1)


def _ends(lengths: Sequence[int]) -> str:
    return f"{lengths[0]} to {lengths[-1]}"


def _range(ends: tuple[int, int]) -> str:
    low, high = ends
    return str(low) if low == high else f"{low} to {high}"


def _text(text: str) -> str:
    """A TOML string, on one line, without characters that a terminal would obey."""
    return json.dumps(shorten(text, 200), ensure_ascii=False)
