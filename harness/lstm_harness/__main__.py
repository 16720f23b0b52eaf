"""`lstm-bench`, and `python -m lstm_harness`."""

import io
import os
import platform
import shlex
import signal
import sys
import tempfile
import time
import traceback
from typing import Any

from lstm_harness import __version__
from lstm_harness.model.errors import Exit, UserError
from lstm_harness.model.text import printable, without_secrets

# Cleaning up after an interruption may take so long; a further one is heard only then.
PATIENCE_S = 5.0
INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Pipe(io.RawIOBase):
    """A standard output whose reader may leave early: what a command ends with is still its own."""

    def __init__(self, file: int) -> None:
        self._file = file

    def fileno(self) -> int:
        """The file's number."""
        return self._file

    def isatty(self) -> bool:
        """Whether it is a terminal: tables fit one, and only there is colour."""
        return os.isatty(self._file)

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, content: Any) -> int:
        """Write, or let it go where nobody reads any more."""
        try:
            return os.write(self._file, content)
        except BrokenPipeError:
            self.give_up()
            return len(content)

    def give_up(self) -> None:
        """Send what is still to come nowhere."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._file)


def main() -> None:
    """Run the command line; whatever the user did wrong ends in one line, never a traceback."""
    _hear_interruptions()
    # Where it was closed before, there is none.
    out = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    pipe = _Pipe(out.fileno())
    # What the reader's encoding lacks is spelt out: \xb5s.
    errors = "backslashreplace" if out.errors == "strict" else out.errors
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(pipe), out.encoding, errors, line_buffering=out.isatty()
    )
    code = run(sys.argv[1:])
    # Nothing is left to be interrupted, and Python's own end would die of it.
    for number in INTERRUPTIONS:
        signal.signal(number, signal.SIG_IGN)
    try:
        sys.stdout.flush()
    except OSError:  # told already; Python would tell it again as it ends
        pipe.give_up()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return _fail("interrupted; nothing was kept", Exit.INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the last resort: whatever it is, it is a bug
        return _fail(_told_bug(arguments, error), Exit.BUG)


def _run(arguments: list[str]) -> int:
    import typer

    from lstm_harness.cli.app import app

    # Click's UsageError, which newer versions of typer carry and older ones take from click.
    usage_error: type[Exception] = typer.BadParameter.__mro__[1]
    try:
        code = app(arguments, prog_name="lstm-bench", standalone_mode=False)
        sys.stdout.flush()
    except usage_error as error:
        return _fail(_usage(error), Exit.USAGE)
    except SystemExit as answered:  # typer ends so once it has helped a shell to complete a line
        return int(answered.code or 0)
    except UserError as error:
        return _fail(str(error), error.exit_code)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except OSError as error:
        return _fail(f"{error.filename or 'output'}: {error.strerror}", Exit.MEASURING_FAILED)
    if code == Exit.INTERRUPTED:  # typer's own, which says nothing
        raise KeyboardInterrupt
    return int(code or 0)


def _usage(error: Any) -> str:
    command = error.ctx.command_path if error.ctx else "lstm-bench"
    return f"{error.format_message()} (see {command} --help)"


def _fail(message: str, code: Exit) -> int:
    print(f"lstm-bench: {printable(' '.join(message.split()))}", file=sys.stderr)  # noqa: T201 - the one line
    return code


def _told_bug(arguments: list[str], error: Exception) -> str:
    """One line that says where the whole of it was written."""
    said = f"this is a bug of lstm-bench, and not yours: {type(error).__name__}: {error}"[:300]
    command = without_secrets(shlex.join(["lstm-bench", *arguments]))
    told = f"lstm-bench {__version__}, Python {platform.python_version()}, {platform.platform()}"
    lines = [told, command, "", "".join(traceback.format_exception(error))]
    try:
        file, path = tempfile.mkstemp(".txt", "lstm-bench-bug-")
        with os.fdopen(file, "w", errors="backslashreplace") as report:
            report.write("\n".join(lines))
    except OSError as failure:
        return f"{said}; its report could not be written: {failure.strerror}"
    return f"{said}; please send us {path}, which says where"


def _hear_interruptions() -> None:
    """Have Ctrl-C, SIGTERM and SIGHUP end the program in order; more of them change nothing.

    What the caller had ignored (`nohup`, a shell's background) stays so.
    """
    first: list[float] = []

    def interrupt(*_: Any) -> None:
        now = time.monotonic()
        if not first:
            first.append(now)
            raise KeyboardInterrupt
        if now - first[0] > PATIENCE_S:
            os._exit(Exit.INTERRUPTED)

    for number in INTERRUPTIONS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)


if __name__ == "__main__":
    main()
