"""Worker processes as the harness sees them: start, ask, time out, replace."""

import os
import re
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any, TypeVar

import lstm_harness
import lstm_kernels
from lstm_harness.model import wire
from lstm_harness.model.definitions import Definitions
from lstm_harness.model.protocol import LearnCells, Refusal, Request, reply_of
from lstm_harness.race.layout import padding
from lstm_harness.race.nursery import Nursery
from lstm_harness.race.strangers import end_below, has_not_ended
from lstm_harness.race.waiting import Waiting

Reply = TypeVar("Reply")

START_TIMEOUT_S = 120.0
# How long a worker that closed its replies may take to end by itself.
LAST_BREATH_S = 2.0


class Failed(Exception):  # noqa: N818 - a finding about a cell, which becomes its record
    """A worker could not do what it was asked; `status` is a record's status."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Spent:
    """What one request took, by the harness's own clocks.

    `cpu_ns` is that of all threads of the worker, None if this system does not report it;
    `waiting_ns` is how long the worker and the harness waited for a core, one after the other.
    """

    wall_ns: int
    cpu_ns: int | None
    waiting_ns: int = 0


@dataclass(frozen=True)
class _Arrived:
    """A reply as it came, the nonce that it must repeat, and the time of its request."""

    line: bytes
    nonce: str
    spent: Spent


@dataclass(frozen=True)
class WorkerSettings:
    """What every worker of a run is started with.

    `scratch` takes logs, and compilers' caches unless `kept` names a folder for these. `kernels` is
    the folder that holds the `lstm_kernels` to measure, if it is not our own; such kernels never
    share a compiler cache. `cores` are those it may run on, all if there are none. `cells` are
    definitions of cells that are not built in, which a worker gets first. `layout` is how many
    bytes its memory is moved by.
    """

    device: str
    scratch: Path
    threads: int | None = None
    kernels: Path | None = None
    cores: tuple[int, ...] = ()
    cells: Definitions = ()
    layout: int = 0
    kept: Path | None = None

    @property
    def first(self) -> tuple[Request[Any], ...]:
        """The requests to a worker before any request with a problem."""
        return (LearnCells(self.cells),) if self.cells else ()


class WorkerProcess:
    """One worker. It is started at once and answers when it is ready; `close` ends it.

    With a nursery it is forked there, unless that has ended. A worker that is `held` runs only
    while it answers: it is stopped after its last reply, so it can do nothing that no clock sees.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        name: str,
        nursery: Nursery | None = None,
        held: bool = False,
    ) -> None:
        self.name = name
        self._held = held
        self._nursery = nursery
        self._sent_ns = self._asked_ns = self._waiting_ns = 0
        self._cpu_ns: int | None = None
        self._goes_on = False
        plain = re.sub(r"[^\w.-]", "_", name)[:60]
        self._log = settings.scratch / f"worker-{plain}-{time.monotonic_ns()}.log"
        with self._log.open("wb") as log:
            forked = nursery and nursery.start(
                _arguments(settings, nursery.pid), _environment(settings), log
            )
            self._process = forked or subprocess.Popen(
                # -P: a folder here with the name of one of our packages must not be imported.
                [sys.executable, "-P", "-m", *_arguments(settings, os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(settings),
                start_new_session=True,
            )
        self._waiting = Waiting(self.pid)
        self._unread = b""
        self._nonces: list[str] = []
        self._lost: Failed | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can still answer."""
        return self._process.poll() is None and has_not_ended(self.pid)

    def ask(self, request: Request[Reply], timeout_s: float = START_TIMEOUT_S) -> Reply:
        """Send one request and wait for its reply; see `receive` for what it raises."""
        self.send(request)
        return self.receive(request, timeout_s)

    def send(self, *requests: Request[Any]) -> None:
        """Send requests; each reply must be received, in order, before others are sent.

        Between requests that are sent together the worker neither stops nor sleeps.
        """
        self._nonces = [secrets.token_hex(4) for _ in requests]
        pairs = zip(self._nonces, requests, strict=True)
        messages = "".join(f"{nonce} {wire.encode(request)}" for nonce, request in pairs)
        if not self._goes_on:
            self._cpu_ns, self._waiting_ns = cpu_ns(self.pid), self._waiting.ns()
            self._let(signal.SIGCONT)
            self._sent_ns = self._asked_ns = time.perf_counter_ns()
        with suppress(BrokenPipeError, ValueError):  # it has ended, and `receive` says how
            self._stdin.write(messages.encode())
            self._stdin.flush()

    def receive(self, request: Request[Reply], timeout_s: float) -> Reply:
        """Wait for the reply to a request that was sent.

        Raises:
            Failed: it refused, died (`crashed`), sent nonsense (`crashed`) or took too long
                (`timed_out`); after the last three, and where its CUDA context is lost, the worker
                is gone, and says so if asked again.
        """
        return self._understood(request, self._next(timeout_s, goes_on=False))

    def _next(self, timeout_s: float, goes_on: bool) -> _Arrived:
        """The next reply. No more is done with it, because the worker may execute meanwhile."""
        if self._lost:
            raise self._lost
        line = self._read_line(timeout_s)
        replied_ns = time.perf_counter_ns()
        wall_ns, self._asked_ns = replied_ns - self._asked_ns, replied_ns
        nonce = self._nonces.pop(0)
        if not self._nonces:
            self._goes_on = goes_on
            if not goes_on:
                self._let(signal.SIGSTOP)
        waiting_ns = self._waiting.ns()
        waited_ns, self._waiting_ns = waiting_ns - self._waiting_ns, waiting_ns
        # The CPU time of a running thread is reported late, so it is unknown between requests.
        return _Arrived(line, nonce, Spent(wall_ns, None, waited_ns))

    def _understood(self, request: Request[Reply], arrived: _Arrived) -> Reply:
        """The reply to a request; see `receive` for what it raises."""
        reply = self._parse(arrived.line, arrived.nonce, reply_of(type(request)))
        if isinstance(reply, Refusal):
            failure = Failed(reply.status, reply.reason)
            raise self._lose(failure) if reply.poisoned else failure
        return reply

    def _let(self, number: signal.Signals) -> None:
        """Stop a held worker and everything that it started, or let it continue."""
        if self._held:
            with suppress(ProcessLookupError):  # it may have ended by itself
                os.killpg(self.pid, number)

    @property
    def spent_together(self) -> Spent:
        """The time of the last requests that were sent together, once the worker is stopped."""
        before, now = self._cpu_ns, cpu_ns(self.pid)
        used_ns = None if before is None or now is None else now - before
        return Spent(self._asked_ns - self._sent_ns, used_ns)

    def ask_together(
        self, requests: Sequence[Request[Any]], timeout_s: float, goes_on: bool = False
    ) -> list[tuple[Any, Spent]]:
        """Send requests together, and wait for every reply; each comes with its time.

        Args:
            goes_on: others follow at once, as if they were sent together with these: a held worker
                is not stopped in between, and the time until they are sent counts as theirs.
        Raises:
            Failed: the first that failed; see `receive`.
        """
        self.send(*requests)
        arrived, lost = self._collect(len(requests), timeout_s, goes_on)
        answered: list[tuple[Any, Spent]] = []
        failures: list[Failed] = []
        for request, each in zip(requests, arrived, strict=False):
            try:
                answered.append((self._understood(request, each), each.spent))
            except Failed as failure:
                failures.append(failure)
        failures += [lost] if lost else []
        if failures:
            if self._goes_on:
                self._let(signal.SIGSTOP)
            self._goes_on = False
            raise failures[0]
        return answered

    def _collect(
        self, count: int, timeout_s: float, goes_on: bool
    ) -> tuple[list[_Arrived], Failed | None]:
        """The next replies, `count` of them; fewer if the worker was lost, and why it was."""
        arrived: list[_Arrived] = []
        try:
            while len(arrived) < count:
                arrived.append(self._next(timeout_s, goes_on))
        except Failed as failure:
            return arrived, failure
        return arrived, None

    def end_strangers(self) -> int:
        """End the processes that the worker started, and return how many there were."""
        return end_below(self.pid) + (self._nursery.end_strangers() if self._nursery else 0)

    def close(self) -> None:
        """End the process and whatever it started."""
        end_below(self.pid)
        with suppress(ProcessLookupError):  # it may have ended by itself
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with suppress(BrokenPipeError):  # requests that it never read
            self._stdin.close()
        self._stdout.close()
        self._waiting.close()

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _read_line(self, timeout_s: float) -> bytes:
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            readable, _, _ = select.select([self._stdout], [], [], max(0.0, left))
            if not readable:
                raise self._lose(Failed("timed_out", f"no answer within {timeout_s:g} s; killed"))
            chunk = os.read(self._stdout.fileno(), 1 << 16)
            if not chunk:
                raise self._crashed()
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _parse(self, line: bytes, asked: str, expected: type[Reply]) -> Reply | Refusal:
        """A reply, which only the worker's own code can write, unless a backend meddles with it."""
        known: dict[str, type[Any]] = {each.__name__: each for each in (expected, Refusal)}
        nonce, _, message = line.partition(b" ")
        try:
            if nonce != asked.encode():
                raise wire.BadMessage(f"not a reply to what was asked: {line[:80]!r}")
            return wire.decode(message, known)  # type: ignore[no-any-return] # one of these
        except wire.BadMessage as error:
            raise self._lose(
                Failed("crashed", f"the worker's reply is not valid: {error}; killed")
            ) from None

    def _crashed(self) -> Failed:
        """How a worker ended that closed its reply pipe, with the last line of its output."""
        try:
            code = self._process.wait(LAST_BREATH_S)
            how = (
                f"was killed by {_signal_name(-code)}"
                if code < 0
                else f"ended with exit code {code}"
            )
        except subprocess.TimeoutExpired:
            how = "closed its reply pipe and kept running; killed"
        words = self._log.read_text(errors="replace").strip().splitlines()
        last = f"; its last line of output: {words[-1][:200]}" if words else ""
        return self._lose(Failed("crashed", f"the worker {how}{last}"))

    def _lose(self, failure: Failed) -> Failed:
        """End a worker that cannot be used any more, and store why."""
        if self._lost is None:
            self._lost = failure
            self.close()
        return failure


def cpu_ns(pid: int) -> int | None:
    """The CPU time of all threads of another process, in ns; None if it is unknown."""
    if not sys.platform.startswith("linux"):
        return None
    with suppress(OSError):
        # clock_getcpuclockid(3): the CPU time of all threads of a process.
        return time.clock_gettime_ns((~pid << 3) | 2)
    return None


def _signal_name(number: int) -> str:
    hint = " (the kernel's out-of-memory killer sends it)" if number == signal.SIGKILL else ""
    return signal.Signals(number).name + hint


def _arguments(settings: WorkerSettings, parent: int) -> list[str]:
    """The arguments after `python -m` for a worker whose parent is that process."""
    arguments = ["lstm_harness.worker", "--device", settings.device, "--parent", str(parent)]
    arguments += ["--threads", str(settings.threads)] if settings.threads else []
    arguments += ["--cores", ",".join(map(str, settings.cores))] if settings.cores else []
    return arguments


def _environment(settings: WorkerSettings) -> dict[str, str]:
    """A worker's environment: our packages, the compilers' caches, no compiler processes.

    A cache that the user names is used instead, so that nothing is compiled twice.
    """
    kernels = settings.kernels or _root_of(lstm_kernels)
    roots = [str(kernels.resolve()), str(_root_of(lstm_harness))]
    inherited = os.environ.get("PYTHONPATH", "")
    folder = settings.kept or settings.scratch
    caches = {
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
        "NUMBA_CACHE_DIR": str(folder / "numba"),
    }
    named = {} if settings.kernels else os.environ
    ours = {name: named.get(name, folder) for name, folder in caches.items()} | {
        "PYTHONPATH": os.pathsep.join([*roots, *([inherited] if inherited else [])]),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        # Trust the CPU's flags: to compile a test program for each takes seconds in every run.
        "TORCHINDUCTOR_VEC_ISA_OK": "1",
    }
    if settings.threads:
        ours["OMP_NUM_THREADS"] = str(settings.threads)
    return os.environ | ours | padding(settings.layout)


def _root_of(package: ModuleType) -> Path:
    return Path(package.__path__[0]).resolve().parent
