"""Record how the recurrent layers of this process are called, without changing what they do.

It runs in the user's program, whose Python need not have this package: it stands alone. It draws
no random number, keeps no tensor, and reads no number from a device: only the shapes of tensors,
and for a packed sequence the batch sizes, which PyTorch keeps on the CPU.

A kind of call has a line in `PID-TIME.jsonl`, written when it is first met: what it is, and where
it is counted, by the number of a file `PID-TIME-NUMBER.counts` and a place in it. That file holds
numbers of 64 bits, in memory that the file shares, so that a count is kept however the process
ends: the calls, and after them, of packed ones of T steps, T numbers: how many sequences had a
step t, all calls together.

Limits: a call that torch.jit, torch.export or torch.compile goes through is not one, nor is one
whose tensors have no numbers (`meta`, fake).
"""

import json
import mmap
import os
import sys
import threading
import time
import weakref
from contextlib import suppress
from typing import Any

import torch
from torch.nn.modules import module as modules
from torch.nn.modules.rnn import RNNBase, RNNCellBase
from torch.nn.utils.rnn import PackedSequence

# Numbers in a file of counts; a kind of call with more has a file of its own.
FILE_NUMBERS = 1 << 16
# More different reasons than anybody reads.
MOST_TROUBLES = 20
_NO_COUNTS = memoryview(b"").cast("Q")
_CALL = modules.Module._call_impl.__code__
_COMPILER = "torch._dynamo"
_FAKE = "torch._subclasses.fake_tensor"


class Notes:
    """The calls that this process has recorded so far.

    Args:
        folder: where the files go; it must exist.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """Start again: the records that a forked process inherits belong to its parent."""
        # A signal handler may call a layer while a call is being recorded.
        self._lock = threading.RLock()
        self._name = f"{os.getpid()}-{time.time_ns()}"
        self._places: dict[Any, tuple[memoryview, int]] = {}
        self._modules: weakref.WeakKeyDictionary[Any, tuple[Any, ...]] = weakref.WeakKeyDictionary()
        self._troubles: set[str] = set()
        self._files = 0
        self._counts, self._free = _NO_COUNTS, 0

    def call(self, module: RNNBase, given: Any, output: Any) -> None:
        """Record one call of a layer.

        Args:
            given: its input, x [T, B, I], or [B, T, I], or [T, I], or packed.
            output: what it returned.
        """
        is_packed = isinstance(given, PackedSequence)
        x, y = given, output[0]
        if is_packed:
            x, y = given.data, y.data
        if x.is_meta or _is_fake(x):
            return
        running: list[int] = given.batch_sizes.tolist() if is_packed else []
        if is_packed:
            T, B = len(running), running[0]
        elif x.dim() == 2:
            T, B = x.shape[0], 1
        else:
            B, T = x.shape[:2] if module.batch_first else (x.shape[1], x.shape[0])
        if not T or not B:
            return
        facts = self._modules.get(module) or self._facts_of(module)
        low = _autocast_dtype(x)
        dtype = x.dtype if low is None else low
        precision = _precision(module, x.device.type, dtype)
        kind = (*facts, T, B, is_packed, dtype, low, x.device.type, precision, y.requires_grad)
        with self._lock:
            counts, place = self._places.get(kind) or self._new(kind, 1 + len(running))
            counts[place] += 1
            for at, sequences in enumerate(running, place + 1):
                counts[at] += sequences

    def cell(self, module: RNNCellBase) -> None:
        """Record one call of a cell, which runs one step only."""
        kind = type(module).__name__
        with self._lock:
            counts, place = self._places.get(kind) or self._new(kind, 1)
            counts[place] += 1

    def trouble(self, reason: str) -> None:
        """Record that a call could not be recorded; if nothing can be written, this is lost."""
        with self._lock, suppress(OSError):
            if reason not in self._troubles and len(self._troubles) < MOST_TROUBLES:
                self._troubles.add(reason)
                self._write({"trouble": reason})

    def _new(self, kind: Any, numbers: int) -> tuple[memoryview, int]:
        """Make room for a kind of call that was not met before, and write its line."""
        if self._free + numbers > len(self._counts):
            # If no file can be made, the next kind tries again.
            self._counts, self._free = _NO_COUNTS, 0
            self._counts = self._new_file(max(FILE_NUMBERS, numbers))
        at, self._free = self._free, self._free + numbers
        what = {"cell": kind} if isinstance(kind, str) else {"call": _told(kind)}
        self._write({"file": self._files, "at": at} | what)
        self._places[kind] = self._counts, at
        return self._counts, at

    def _new_file(self, numbers: int) -> memoryview:
        self._files += 1
        path = os.path.join(self._folder, f"{self._name}-{self._files}.counts")  # noqa: PTH118 - no import the program may not have
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            # With no room on the disk this raises; writing to memory would end the program.
            os.posix_fallocate(file, 0, 8 * numbers)
            memory = memoryview(mmap.mmap(file, 8 * numbers)).cast("Q")
        finally:
            os.close(file)
        return memory

    def _write(self, line: dict[str, Any]) -> None:
        """Append a line; the file is opened each time, because a program may close open files."""
        path = os.path.join(self._folder, f"{self._name}.jsonl")  # noqa: PTH118 - the same
        with open(path, "a") as file:  # noqa: PTH123 - the same
            file.write(json.dumps(line) + "\n")

    def _facts_of(self, module: RNNBase) -> tuple[Any, ...]:
        """What does not change from call to call, in the order of `_FACTS`."""
        names = _FACTS[2:]
        own = tuple(getattr(module, name) for name in names)
        facts = _name_of(module), module.mode.lower(), *own
        self._modules[module] = facts
        return facts


_FACTS = (
    *("layer", "cell", "input_size", "hidden_size", "num_layers", "bidirectional", "bias"),
    *("proj_size", "batch_first", "dropout"),
)
_OF_A_CALL = ("seq_len", "batch", "packed", "dtype", "autocast", "device", "precision", "gradients")


def _told(kind: tuple[Any, ...]) -> dict[str, Any]:
    """A kind of call in the form of its line."""
    told = dict(zip((*_FACTS, *_OF_A_CALL), kind, strict=True))
    dtype = str(told["dtype"]).removeprefix("torch.")
    more = {"dtype": dtype, "autocast": told["autocast"] is not None}
    return told | more | {"threads": torch.get_num_threads()}


def _name_of(module: RNNBase) -> str:
    """A layer's path within the outermost module that called it: `Tagger.encoder`."""
    root: Any = module
    frame: Any = sys._getframe()
    while frame is not None:
        if frame.f_code is _CALL:
            root = frame.f_locals["self"]
        frame = frame.f_back
    names = (name for name, each in root.named_modules() if each is module)
    return ".".join(filter(None, (type(root).__name__, next(names, type(module).__name__))))


def _is_fake(x: Any) -> bool:
    """Whether a tensor has a shape only; if nobody imported that class, none is."""
    imported = sys.modules.get(_FAKE)
    return imported is not None and isinstance(x, imported.FakeTensor)


def _autocast_dtype(x: torch.Tensor) -> torch.dtype | None:
    """What autocast runs the layer in, or None where it is off, or leaves float64 alone."""
    device = x.device.type
    available = torch.amp.is_autocast_available(device) and x.dtype is not torch.float64
    if available and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return None


def _precision(module: RNNBase, device: str, dtype: torch.dtype) -> str:
    """How float32 products are made: `ieee`, or `tf32` where the program allows it on CUDA."""
    if device != "cuda" or dtype is not torch.float32:
        return "ieee"
    if hasattr(module, "chosen_backend"):  # ours, which asks only this
        relaxed = torch.get_float32_matmul_precision() != "highest"
    else:
        relaxed = torch.backends.cudnn.enabled and torch.backends.cudnn.allow_tf32
    return "tf32" if relaxed else "ieee"


def begin(folder: str) -> None:
    """Record every call of a recurrent module of torch.nn, and of its subclasses.

    These classes get a `__call__` of their own, and nothing else changes. A global forward hook
    would make torch.compile warn, and slow down the call of every other module.
    """
    notes = Notes(folder)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = modules.Module.__call__(self, *args, **kwargs)
        if not torch.compiler.is_compiling():
            # torch.compile traces everything that is called outside its own graphs.
            note = torch.compiler.disable(_note) if _COMPILER in sys.modules else _note
            note(notes, self, args, kwargs, output)
        return output

    for each in (RNNBase, RNNCellBase):
        each.__call__ = call  # type: ignore[method-assign] # the only change


def _note(notes: Notes, module: Any, args: Any, kwargs: Any, output: Any) -> None:
    """Record one call of a module that has returned."""
    if torch._C._get_tracing_state():
        return
    try:
        given = args[0] if args else kwargs["input"]
        if not isinstance(given, (torch.Tensor, PackedSequence)):
            return  # torch.fx goes through
        if isinstance(module, RNNCellBase):
            notes.cell(module)
        else:
            notes.call(module, given, output)
    except Exception as error:  # noqa: BLE001 - whatever it is, the program continues; the end reports it
        notes.trouble(f"{type(error).__name__}: {error}")
