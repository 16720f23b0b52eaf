"""Run a user's program unchanged, and read what its processes recorded of their recurrent layers.

`worker/noting` records inside them. It gets there by PYTHONPATH, which every process of the program
inherits: `python train.py`, `python -m`, console scripts, torchrun and its ranks.
"""

import array
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import lstm_harness
from lstm_harness.model.errors import UserError
from lstm_harness.model.strict_json import Broken, parsed
from lstm_harness.model.typed import Unfit, built

NOTING = Path(lstm_harness.__path__[0]) / "worker" / "noting"
# Where the recorder finds its folder, and which marks it leaves there.
FOLDER = "LSTM_BENCH_NOTES"
PYTHON, TORCH, TROUBLE = "python", "torch", "trouble"
HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Call:
    """A kind of call of one layer; the fields are those of a line that `worker/noting` writes.

    `dtype` is what the layer computes in; `gradients` whether its output had a graph.
    """

    layer: str
    cell: str
    input_size: int
    hidden_size: int
    num_layers: int
    bidirectional: bool
    bias: bool
    proj_size: int
    batch_first: bool
    dropout: float
    seq_len: int
    batch: int
    packed: bool
    dtype: str
    autocast: bool
    device: str
    precision: str
    gradients: bool
    threads: int


@dataclass
class Count:
    """How often a kind of call was made, and how many sequences had a step t, all of them together.

    `running` has T entries where the calls were packed, else none.
    """

    calls: int = 0
    running: list[int] = field(default_factory=list)


@dataclass
class Notes:
    """What all processes of a program recorded.

    `cells` counts the calls of cells, by the name of their class; `troubles` are reasons for which
    calls were not recorded. `python` and `torch` say how far the recorder came.
    """

    counts: dict[Call, Count] = field(default_factory=dict)
    cells: dict[str, int] = field(default_factory=dict)
    troubles: dict[str, None] = field(default_factory=dict)
    python: bool = False
    torch: bool = False


def run(command: Sequence[str], folder: Path) -> int:
    """Run a program and record its recurrent layers in a folder; return a shell's exit code.

    Signals are forwarded to it: what ends it does not end this process.

    Raises:
        UserError: it cannot be started.
    """
    paths = [str(NOTING), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), FOLDER: str(folder)}
    with _handing_on() as (started, came):
        try:
            process = subprocess.Popen(command, env=environment)
        except OSError as error:
            raise UserError(
                f"cannot start {command[0]!r}: {error.strerror}; expected a program after --, "
                "like: lstm-bench capture -- python train.py"
            ) from None
        started.append(process)
        for number in came:
            process.send_signal(number)
        code = process.wait()
    return 128 - code if code < 0 else code


@contextmanager
def _handing_on() -> Iterator[tuple[list[subprocess.Popen[bytes]], list[int]]]:
    """Forward signals to the process that is put in the first list, and stay alive.

    Signals that came before it was there are in the second list.
    """
    started: list[subprocess.Popen[bytes]] = []
    came: list[int] = []

    def hand_on(number: int, _: Any) -> None:
        # A terminal's Ctrl-C reaches the program by itself.
        if not (number == signal.SIGINT and _in_foreground()):
            for process in started:
                process.send_signal(number)
            if not started:
                came.append(number)

    heard = [each for each in HANDED_ON if signal.getsignal(each) is not signal.SIG_IGN]
    before = {number: signal.signal(number, hand_on) for number in heard}
    try:
        yield started, came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_foreground() -> bool:
    """Whether this runs in a terminal's foreground."""
    with suppress(OSError), open("/dev/tty", "rb") as terminal:  # noqa: PTH123 - a device
        return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    return False


def read(folder: Path) -> Notes:
    """What the processes of a program recorded; a torn line is left out."""
    notes = Notes(python=(folder / PYTHON).exists(), torch=(folder / TORCH).exists())
    if (folder / TROUBLE).exists():
        notes.troubles.update(dict.fromkeys((folder / TROUBLE).read_text().splitlines()))
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            try:
                _take(notes, parsed(line), path)
            except (Broken, Unfit, IndexError, KeyError, OSError, TypeError) as error:
                notes.troubles[f"{path.name}: {error}"] = None
    return notes


def _take(notes: Notes, line: Mapping[str, Any], path: Path) -> None:
    """Add the facts of a line to what is known."""
    if "trouble" in line:
        notes.troubles[line["trouble"]] = None
        return
    numbers = _numbers(path.with_name(f"{path.stem}-{line['file']}.counts"))
    at = line["at"]
    if "cell" in line:
        notes.cells[line["cell"]] = notes.cells.get(line["cell"], 0) + numbers[at]
        return
    call: Call = built(line["call"], Call, "call")
    count = notes.counts.setdefault(call, Count())
    count.calls += numbers[at]
    if call.packed:
        more = numbers[at + 1 : at + 1 + call.seq_len]
        held = count.running or [0] * call.seq_len
        count.running = [a + b for a, b in zip(held, more, strict=True)]


@lru_cache(maxsize=1)
def _numbers(path: Path) -> "array.array[int]":
    """A file of counts; consecutive lines count in the same file."""
    numbers = array.array("Q")
    numbers.frombytes(path.read_bytes())
    return numbers
