"""Stages of work within a time budget: each gets its share, and what one leaves goes to the next.

What each stage came to is kept in `stages.json` beside what it made, so that a second call goes on:
stages that passed are not done again.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

STATE = "stages.json"
# Runs what follows as python does, and ends it with all that it started once its stdin ends.
ON_A_LEASH = (sys.executable, str(Path(__file__).with_name("leash.py")), sys.executable)
# A stage with less time than this is not begun.
LEAST_S = 5.0
# How long before its time is up a stage is interrupted, so that it can keep what it has; and after
# that, until it is killed where its leash did not end it.
GRACE_S, LAST_S = 15.0, 5.0
# The part of its time that it has at least before that, and that getting ready for it may take.
HALF = 0.5
# Of a stage's time until then, what is left for measuring: the rest goes to starting, planning,
# reporting.
FOR_MEASURING = 0.8
# What a test run that was cut says at its end where tests failed before.
FAILED = re.compile(r"\b[1-9]\d* failed\b")


@dataclass(frozen=True)
class Stage:
    """One command of a campaign.

    `command` is what follows `python`; `{seconds}` in it becomes the time it may measure for.
    `share` is its part of the time, beside the other stages', `least_s` the least that it is given
    whatever its share.
    `run` is the folder of the run it makes, if any: one that is there already is resumed, and is
    partial until it has every record. `before` is a command that makes ready for it, in its time.
    """

    name: str
    command: tuple[str, ...]
    share: float
    run: Path | None = None
    least_s: float = LEAST_S
    before: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What became of a stage: passed, partial, cut, failed, or not reached.

    `said` is the last line that it printed.
    """

    status: str
    seconds: float = 0.0
    exit_status: int | None = None
    command: tuple[str, ...] = ()
    said: str = ""


@dataclass(frozen=True)
class Campaign:
    """Runs stages into a folder.

    `sources` must be the same for a campaign to go on: a digest of what is measured. `tell` takes
    every line that a stage prints. `ended` is called whenever what became of a stage is kept.
    `started_s` is when the budget began, by the clock of this module.
    """

    out: Path
    budget_s: float
    sources: str
    tell: Callable[[str], None]
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    cwd: Path | None = None
    grace_s: float = GRACE_S
    ended: Callable[[dict[str, Result]], None] = lambda results: None
    started_s: float = field(default_factory=lambda: time.monotonic())

    @property
    def is_foreign(self) -> bool:
        """Whether the folder holds a campaign of other sources."""
        return self._state().get("sources", self.sources) != self.sources

    def run(self, stages: Sequence[Stage]) -> dict[str, Result]:
        """Run what has not passed yet, and return what became of every stage."""
        self.out.mkdir(parents=True, exist_ok=True)
        earlier = self._state().get("stages", {})
        results = {name: Result(**fields) for name, fields in earlier.items()}
        passed = {name for name, result in results.items() if result.status == "passed"}
        pending = [stage for stage in stages if stage.name not in passed]
        for stage in stages:
            if stage.name in passed:
                self.tell(f"== {stage.name}: passed before")
        for place, stage in enumerate(pending):
            left = self.budget_s - (time.monotonic() - self.started_s)
            share_s = left * stage.share / sum(each.share for each in pending[place:])
            allowed_s = min(left, max(share_s, stage.least_s))
            if allowed_s >= LEAST_S:
                results[stage.name] = self._do(stage, allowed_s)
            else:
                results.setdefault(stage.name, Result("not reached"))
            self._keep(results)
        return {stage.name: results[stage.name] for stage in stages}

    def _do(self, stage: Stage, allowed_s: float) -> Result:
        began, left_s = time.monotonic(), allowed_s
        self.tell(f"\n== {stage.name}, at most {allowed_s:.0f} s")
        if stage.before:
            self._execute(stage.before, HALF * allowed_s)
            left_s = max(LEAST_S, allowed_s - (time.monotonic() - began))
        command = _command(stage, self._undisturbed_s(left_s))
        exit_status, late, said = self._execute(command, left_s)
        status = _status(stage, exit_status, late, said)
        seconds = round(time.monotonic() - began, 1)
        self.tell(f"== {stage.name}: {status}, {seconds:.0f} s")
        return Result(status, seconds, exit_status, command, said)

    def _undisturbed_s(self, allowed_s: float) -> float:
        """When a command is interrupted that may take so long."""
        return max(HALF * allowed_s, allowed_s - self.grace_s)

    def _execute(self, command: tuple[str, ...], allowed_s: float) -> tuple[int, bool, str]:
        """Run a command on a leash.

        Returns:
            Its exit status, whether its time was up, and the last line that it printed.
        """
        self.tell(f"$ python3 {' '.join(command)}")
        late, said = threading.Event(), ""
        with subprocess.Popen(
            [*ON_A_LEASH, *command],
            cwd=self.cwd,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            alarms = [
                threading.Timer(after_s, do, (process, late))
                for after_s, do in (
                    (self._undisturbed_s(allowed_s), _interrupt),
                    (allowed_s, _let_go),
                    (allowed_s + LAST_S, _kill),
                )
            ]
            for alarm in alarms:
                alarm.start()
            try:
                for line in process.stdout or ():
                    text = line.decode(errors="replace").rstrip("\n")
                    said = text.strip() or said
                    self.tell(text)
                process.wait()
            finally:
                for alarm in alarms:
                    alarm.cancel()
        self.tell(f"$ exit status {process.returncode}")
        return process.returncode, late.is_set(), said

    def _state(self) -> dict[str, Any]:
        path = self.out / STATE
        return json.loads(path.read_text()) if path.exists() else {}

    def _keep(self, results: dict[str, Result]) -> None:
        stages = {name: asdict(result) for name, result in results.items()}
        fresh = self.out / f"{STATE}.new"
        fresh.write_text(json.dumps({"sources": self.sources, "stages": stages}, indent=1) + "\n")
        fresh.replace(self.out / STATE)
        self.ended(results)


def _command(stage: Stage, undisturbed_s: float) -> tuple[str, ...]:
    if stage.run and (stage.run / "run.json").exists():
        return ("-m", "lstm_harness", "run", "--resume", str(stage.run))
    seconds = f"{max(1.0, FOR_MEASURING * undisturbed_s):.0f}"
    return tuple(word.replace("{seconds}", seconds) for word in stage.command)


def _interrupt(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)


def _let_go(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    """Have its leash end it."""
    late.set()
    with suppress(BrokenPipeError):
        process.stdin.close()  # type: ignore[union-attr] # a pipe


def _kill(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    """End its leash, and what is in its group."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def _status(stage: Stage, exit_status: int, late: bool, said: str) -> str:
    if late:
        return "failed" if FAILED.search(said) else "cut"
    if exit_status:
        return "failed"
    return "passed" if stage.run is None or _is_whole(stage.run) else "partial"


def _is_whole(run: Path) -> bool:
    """Whether a run has every record it planned."""
    planned = json.loads((run / "run.json").read_text())["plan"]["planned_records"]
    return len((run / "records.jsonl").read_bytes().splitlines()) >= planned
