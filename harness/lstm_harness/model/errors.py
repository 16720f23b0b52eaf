"""How the program ends: exit codes, and the one line a user sees instead of a traceback."""

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of every command (docs/exit-codes.md).

    `INCONCLUSIVE` is of `check` and `ab`: no time could be told, or `--fail-on` asks to fail where
    one could not.
    """

    DONE = 0
    REGRESSION = 1
    USAGE = 2
    INCONCLUSIVE = 3
    INCORRECT = 4
    NOT_COMPARABLE = 5
    MEASURING_FAILED = 6
    BUG = 70
    INTERRUPTED = 130


class UserError(Exception):
    """Something the user can correct; its message is one line: found, expected, what to type."""

    exit_code = Exit.USAGE


class NotComparable(UserError):  # noqa: N818 - names the exit code it ends with
    """There is no base to compare with, or none that is comparable here."""

    exit_code = Exit.NOT_COMPARABLE


class MeasuringFailed(UserError):  # noqa: N818 - names the exit code it ends with
    """The machine, not the command line, stopped the work."""

    exit_code = Exit.MEASURING_FAILED


class Interrupted(UserError):  # noqa: N818 - names the exit code it ends with
    """Ctrl-C or SIGTERM; the message says how to go on."""

    exit_code = Exit.INTERRUPTED


class NoReportLibraries(UserError):  # noqa: N818 - says what is not there
    """jinja2 or plotly is not installed; everything but the page can be had without them."""
