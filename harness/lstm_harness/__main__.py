"""`lstm-bench`, and `python -m lstm_harness`."""

import io
import os
import signal
import sys
from typing import Any

from lstm_harness.model.errors import Exit, UserError


class _Pipe(io.RawIOBase):
    """A standard output whose reader may leave early: what a command ends with is still its own."""

    def __init__(self, file: int) -> None:
        self._file = file

    def fileno(self) -> int:
        """The file's number."""
        return self._file

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
    signal.signal(signal.SIGTERM, _interrupt)
    # Where it was closed before, there is none.
    out = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    pipe = _Pipe(out.fileno())
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(pipe), out.encoding, out.errors, line_buffering=out.isatty()
    )
    code = run(sys.argv[1:])
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


def _run(arguments: list[str]) -> int:
    import typer

    from lstm_harness.cli.app import app

    # Click's UsageError, which newer versions of typer carry inside and older ones beside them.
    usage_error: type[Exception] = typer.BadParameter.__mro__[1]
    try:
        code = app(arguments, prog_name="lstm-bench", standalone_mode=False)
        sys.stdout.flush()
    except usage_error as error:
        return _fail(_usage(error), Exit.USAGE)
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
    message = error.format_message() or f"{command} needs a command after it"
    return f"{message} (see {command} --help)"


def _fail(message: str, code: Exit) -> int:
    print(f"lstm-bench: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201 - the one line
    return code


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
