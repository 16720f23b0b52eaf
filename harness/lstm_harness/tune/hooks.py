"""What a backend must have in its module for `tune` or `phases`, and who has it here."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from lstm_harness.model.errors import MeasuringFailed, UserError
from lstm_harness.model.protocol import FindHooksLacking, Request
from lstm_harness.race.process import Failed
from lstm_harness.race.survey import Survey, SurveyWorker

Reply = TypeVar("Reply")


@dataclass(frozen=True)
class Needed:
    """Functions of a backend's module, what cannot `be` done without them, and where to read more.

    `has_none` says what a backend without them has not.
    """

    hooks: tuple[str, ...]
    be: str
    has_none: str
    see: str


def refuse_lacking(name: str, needed: Needed, survey: Survey, worker: SurveyWorker) -> None:
    """Refuse a backend that cannot run here, or that does not have what is needed.

    Raises:
        UserError: with the names of the backends that have it; `MeasuringFailed` if it cannot be
            asked.
    """
    if name in survey.missing:
        raise UserError(f"backend {name!r} cannot {needed.be} here: {survey.missing[name]}")
    lacking = asked(name, needed, worker, "lacks", FindHooksLacking(name, needed.hooks)).names
    if not lacking:
        return
    able = list(_able(needed, survey, worker))
    these = f"these have: {', '.join(able)}" if able else "no backend here has them"
    raise UserError(
        f"backend {name!r} {needed.has_none}: its module lacks {', '.join(lacking)} "
        f"(see {needed.see}); {these}"
    )


def asked(
    name: str, needed: Needed, worker: SurveyWorker, what: str, request: Request[Reply]
) -> Reply:
    """Ask the worker about a backend.

    Raises:
        MeasuringFailed: the backend failed; `what` it was asked for is named.
    """
    try:
        return worker.ask(request)
    except Failed as failure:
        what = f"backend {name!r} cannot {needed.be}: it failed when asked for {what!r}"
        raise MeasuringFailed(f"{what}: {failure.reason}") from None


def _able(needed: Needed, survey: Survey, worker: SurveyWorker) -> Iterator[str]:
    """The backends that have what is needed; one that ends the worker has not."""
    for name in survey.backends:
        if name in survey.missing:
            continue
        try:
            if not worker.ask(FindHooksLacking(name, needed.hooks)).names:
                yield name
        except Failed:
            worker.restart(survey)
