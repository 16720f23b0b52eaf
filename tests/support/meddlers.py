"""Cheats that change what is around them: the worker's own code, and what is outside its process.

They know the harness they are in; `cheats` enters them.
"""

import mmap
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import torch
from honest import Honest, zeros

# Those who meddle with the worker's own code.


class _Meddles(Honest):
    """Changes the process it is in when it is first asked, and works honestly."""

    meddled = False

    def layer(self, *given, **rest):
        if not self.meddled:
            self.meddled = True
            self.meddle()
        return super().layer(*given, **rest)


class _MeddlesAndIsWrong(_Meddles):
    def layer(self, *given, **rest):
        return zeros(super().layer(*given, **rest))


class SlowsTheClock(_Meddles):
    """Lets a twentieth of the time pass."""

    def meddle(self):
        from lstm_harness.worker import clock

        real = time.perf_counter_ns
        clock.time = SimpleNamespace(**vars(time) | {"perf_counter_ns": lambda: real() // 20})


class SlowsTheClockOfShortSamples(_Meddles):
    """Lets a twentieth pass, where a sample is so short that nobody may notice."""

    def meddle(self):
        from lstm_harness.worker import clock

        measure = clock.CpuClock.measure

        def measured(self, executes):
            reading = measure(self, executes)
            short = reading.elapsed_ns < 20_000_000
            return replace(reading, elapsed_ns=max(1, reading.elapsed_ns // (20 if short else 1)))

        clock.CpuClock.measure = measured


class SlowsTheClockUnlessDoubted(_Meddles):
    """Lets a twentieth of the time pass, until sample after sample is taken from it."""

    def meddle(self):
        from lstm_harness.worker import clock
        from lstm_harness.worker.executor import Executor

        measure, handed_over = clock.CpuClock.measure, []
        open_cell, hand_over = Executor.open, Executor.hand_over

        def opened(self, asked):
            handed_over.clear()
            return open_cell(self, asked)

        def measured(self, executes):
            handed_over.append(False)
            reading = measure(self, executes)
            # Of the samples that count no seven in a row are handed over, but by a rare chance.
            is_doubted = len(handed_over) > 10 and all(handed_over[-8:-1])
            part = 1 if is_doubted else 20
            return replace(reading, elapsed_ns=max(1, reading.elapsed_ns // part))

        def handed(self):
            handed_over[-1] = True
            return hand_over(self)

        clock.CpuClock.measure = measured
        Executor.open, Executor.hand_over = opened, handed


class StopsTheClock(_Meddles):
    def meddle(self):
        from lstm_harness.worker import clock

        clock.time = SimpleNamespace(**vars(time) | {"perf_counter_ns": lambda: 0})


class TurnsBackTheClock(_Meddles):
    def meddle(self):
        from lstm_harness.worker import clock

        real = time.perf_counter_ns
        clock.time = SimpleNamespace(**vars(time) | {"perf_counter_ns": lambda: -real()})


class TellsOfMoreTime(_Meddles):
    """More than passed: what does not fit is no sample."""

    def meddle(self):
        from lstm_harness.worker import clock

        real = time.perf_counter_ns
        clock.time = SimpleNamespace(**vars(time) | {"perf_counter_ns": lambda: 3 * real()})


class WidensTheTolerance(_MeddlesAndIsWrong):
    def meddle(self):
        from lstm_harness.worker import verify

        for key in verify.TOLERANCES:
            verify.TOLERANCES[key] = 1e9


class HasNoNorm(_MeddlesAndIsWrong):
    def meddle(self):
        torch.linalg.vector_norm = lambda *_, **__: torch.zeros(())
        torch.isfinite = lambda tensor: torch.ones_like(tensor, dtype=torch.bool)


class JudgesItself(_MeddlesAndIsWrong):
    def meddle(self):
        from lstm_harness.model.protocol import Judged
        from lstm_harness.worker import oracle, verify

        verify.judge = oracle.judge = lambda *_, **__: Judged({"y": 0.0}, "")
        oracle.Oracle.judge_sample = oracle.Oracle.judge_proof = lambda *_: Judged({}, "")


def _waited(executions):
    """A reading of an execution that did nothing for as long as one might be believed to take."""
    from lstm_harness.model.protocol import Reading

    started = time.perf_counter_ns()
    while time.perf_counter_ns() - started < 1_000_000 * executions:
        pass
    return Reading(elapsed_ns=time.perf_counter_ns() - started)


class ExecutesNothing(_Meddles):
    """Once it was checked, samples take no time, and hold what the first execution made."""

    def meddle(self):
        from lstm_harness.worker.executor import Executor

        hand_over = Executor.hand_over

        def handed(self):
            for state in self._cell.states:
                self._cell.the_pass.execute(state)
            return hand_over(self)

        Executor.execute = lambda self: _waited(len(self._cell.states))
        Executor.hand_over = handed


class ExecutesAhead(_Meddles):
    """Executes while a sample is prepared, where no clock of the worker runs."""

    def meddle(self):
        from lstm_harness.worker.executor import Executor

        prepare, draw = Executor.prepare, Executor.draw_gradients

        def run(self):
            for state in self._cell.states:
                self._cell.the_pass.execute(state)

        def prepared(self, asked):
            prepare(self, asked)
            if self._cell.job.case.pass_name in ("inference", "forward"):
                run(self)

        def drawn(self, nonce):
            draw(self, nonce)
            run(self)

        Executor.prepare, Executor.draw_gradients = prepared, drawn
        Executor.execute = lambda self: _waited(len(self._cell.states))


class HandsOverOld(_Meddles):
    """Hands over what an earlier sample made."""

    def meddle(self):
        from lstm_harness.worker.handing import HandedOut

        hand, kept_by_kind = HandedOut.hand, {}

        def handed(self, executions):
            # How many executions a sample has may change, and then all samples begin anew.
            kept = kept_by_kind.setdefault(tuple(map(tuple, executions)), [])
            if len(kept) < 2:
                kept.append([{n: [t.clone() for t in g] for n, g in e.items()} for e in executions])
            return hand(self, kept[-1])

        HandedOut.hand = handed


class KeepsAHandOnIt(_Meddles):
    """Keeps what it handed over in its own memory, to change it when nobody looks."""

    def meddle(self):
        from lstm_harness.worker.handing import HandedOut

        hand, self.maps = HandedOut.hand, []
        keep = self.maps.append

        def handed(self, executions):
            made = hand(self, executions)
            keep(mmap.mmap(made.descriptor, 0))
            return made

        HandedOut.hand = handed


class HandsOverAnotherFile(_Meddles):
    def meddle(self):
        from lstm_harness.worker.handing import HandedOut

        hand = HandedOut.hand
        file = os.open(Path(os.environ["TRITON_CACHE_DIR"]).parent / "mine", os.O_RDWR | os.O_CREAT)
        HandedOut.hand = lambda self, made: replace(hand(self, made), descriptor=file)


class HandsOverLess(_Meddles):
    """Hands over fewer tensors than there are: nobody can be wrong in what is not there."""

    def meddle(self):
        from lstm_harness.worker.handing import HandedOut

        hand = HandedOut.hand
        HandedOut.hand = lambda self, made: hand(self, [{"h_n": e["h_n"]} for e in made])


class ForgesReplies(_Meddles):
    """Answers ahead of its worker."""

    def meddle(self):
        forged = b'{"message": "Reading", "fields": {"elapsed_ns": 1000}}\n'
        for descriptor in range(3, 64):
            try:
                os.write(descriptor, forged)
            except OSError:
                continue


class ReplaysReplies(_Meddles):
    """Says again what it said before, word by word."""

    def meddle(self):
        from lstm_harness.worker import serving

        encode = serving.wire.encode

        def again(message):
            line = encode(message)
            return line if type(message).__name__ != "Reading" else line + self.last

        frame = sys._getframe()
        while "nonce" not in frame.f_locals or "replies" not in frame.f_locals:
            frame = frame.f_back
        self.last = f'{frame.f_locals["nonce"]} {{"message": "Done", "fields": {{}}}}\n'
        serving.wire = SimpleNamespace(**vars(serving.wire) | {"encode": again})


# Those who meddle with what is outside their process.


class EditsRecords(_Meddles):
    """Makes itself faster, and others slower, where it is written down."""

    name = "records.jsonl"

    def meddle(self):
        path = _run_of_ours() / self.name
        path.write_bytes(path.read_bytes().replace(b"aten", b"atem") + b"\n")


class EditsTheManifest(EditsRecords):
    name = "run.json"


class ReplacesRecords(_Meddles):
    """Puts another file there, so that what is written goes where nobody looks."""

    def meddle(self):
        path = _run_of_ours() / "records.jsonl"
        path.unlink()
        path.symlink_to("/dev/null")


def _run_of_ours():
    """The folder of the run, above its scratch."""
    return Path(os.environ["TRITON_CACHE_DIR"]).parents[1]


class EndsItsRivals(_Meddles):
    """Every process beside its own that has the same parent, and that parent."""

    def meddle(self):
        parent = os.getppid()
        beside = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        for pid in map(int, beside):
            if pid != os.getpid():
                os.kill(pid, signal.SIGKILL)


class LeavesAChild(Honest):
    """A process of its own, beside the worker, which could do its work."""

    executions = 0

    def layer(self, *given, **rest):
        # Another one now and then: the last one may be ending, and not have ended.
        self.executions += 1
        if self.executions % 10 == 1 and os.fork() == 0:
            time.sleep(3600)  # until somebody ends it
            os._exit(0)
        return super().layer(*given, **rest)


class LeavesADaemon(Honest):
    """One that left its group and lost its parent."""

    executions = 0

    def layer(self, *given, **rest):
        self.executions += 1
        if self.executions % 10 == 1:
            child = os.fork()
            if child == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(3600)  # until somebody ends it
                os._exit(0)
            os.waitpid(child, 0)
        return super().layer(*given, **rest)


class WorksInChildren(Honest):
    """Has processes work that are gone before anyone looks for them."""

    def layer(self, *given, **rest):
        child = os.fork()
        if child == 0:
            ended = time.process_time() + 0.03
            while time.process_time() < ended:
                pass
            os._exit(0)
        os.waitpid(child, 0)
        return super().layer(*given, **rest)


class MoreThreads(_Meddles):
    """A thread that works without Python's lock, for as long as the worker may run."""

    def meddle(self):
        threading.Thread(target=self.work, daemon=True).start()

    def work(self):
        many = torch.randn(400, 400)
        while True:
            torch.mm(many, many)
