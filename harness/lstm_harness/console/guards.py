"""What a command says of a library that is not there."""

from collections.abc import Iterator
from contextlib import contextmanager

from lstm_harness.model.errors import NoReportLibraries

_LIBRARIES = ("jinja2", "junitparser", "markupsafe", "plotly")


@contextmanager
def libraries(lost: str = "", packages: str = "jinja2 plotly", instead: str = "") -> Iterator[None]:
    """Say which library is missing: a machine that only measures may have none of them.

    Args:
        lost: what there will not be, as the line begins.
        packages: what to install.
        instead: what else can be done.
    Raises:
        NoReportLibraries: one of them is imported inside, and is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in _LIBRARIES:
            raise
        begin = f"{lost}: " if lost else ""
        end = f", or {instead}" if instead else ""
        raise NoReportLibraries(
            f"{begin}{error.name} is not installed here; pip install {packages}{end}"
        ) from None
