"""`lstm-bench`, and `python -m lstm_harness`."""

import os
import signal
import sys
from typing import Any

import typer

from lstm_harness.cli import app
from lstm_harness.errors import Exit, UserError

# Click's UsageError, which newer versions of typer carry inside and older ones beside themselves.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def main() -> None:
    """Run the command line; whatever the user did wrong ends in one line, never a traceback."""
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        code = app(arguments, prog_name="lstm-bench", standalone_mode=False)
        sys.stdout.flush()
    except UsageError as error:
        return _fail(_usage(error), Exit.USAGE)
    except UserError as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", Exit.INTERRUPTED)
    except (BrokenPipeError, SystemExit):
        # Whoever reads the output has enough, for which typer exits; what is left goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    except OSError as error:
        return _fail(f"{error.filename or 'output'}: {error.strerror}", Exit.MEASURING_FAILED)
    return int(code or 0)


def _usage(error: Any) -> str:
    command = error.ctx.command_path if error.ctx else "lstm-bench"
    return f"{error.format_message()} (see {command} --help)"


def _fail(message: str, code: Exit) -> int:
    print(f"lstm-bench: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201 - the one line
    return code


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
