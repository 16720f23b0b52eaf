"""The index page: device classes, a card for each run and how it compares, trainings.

A static index shows the newest runs; a page for each month has them all.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from lstm_harness.model import text
from lstm_harness.model.errors import Exit
from lstm_harness.report import assets
from lstm_harness.report.templating import fill
from lstm_harness.site.board import classes
from lstm_harness.site.board.classes import DeviceClass
from lstm_harness.site.catalogue import COMPARED, FEED, HISTORY, Catalogue, Listed, ListedTraining
from lstm_harness.store.run_folder import MANIFEST, RECORDS, REPORT
from lstm_harness.store.training_folder import TRAINING

# A static index with more runs shows this many.
MOST_RUNS = 200

# How a comparison's exit code looks; the words next to it say it too.
_TONES = {
    Exit.INCORRECT: "bad",
    Exit.MEASURING_FAILED: "bad",
    Exit.REGRESSION: "bad",
    Exit.DONE: "good",
}


def render(catalogue: Catalogue, served: bool) -> str:
    """The HTML of the index.

    Args:
        served: whether a server answers, which compares any two runs and has no month's page.
    """
    runs = list(catalogue.runs.values())
    months = {} if served or len(runs) <= MOST_RUNS else by_month(runs)
    return _filled(
        catalogue,
        runs if not months else runs[:MOST_RUNS],
        served,
        title=_title(catalogue),
        answer=_answer(catalogue),
        months=[(name, page, text.count(len(own), "run")) for (name, page), own in months.items()],
        feed="" if served else FEED,
        history=HISTORY,
        classes=[_class(*pair) for pair in classes.grouped(runs).items()],
        trainings=[_training(one) for one in catalogue.trainings.values()],
        left_out=[
            (text.shorten(path, 200), text.shorten(reason, 400))
            for path, reason in catalogue.left_out
        ],
    )


def render_month(catalogue: Catalogue, month: str, runs: Sequence[Listed]) -> str:
    """The HTML of a static page of the runs of one month, newest first."""
    return _filled(
        catalogue,
        runs,
        served=False,
        title=f"{text.count(len(runs), 'run')} of {month}",
        home="index.html",
    )


def by_month(runs: Sequence[Listed]) -> dict[tuple[str, str], list[Listed]]:
    """The runs of each month, by its name and its page, newest first."""
    months: dict[tuple[str, str], list[Listed]] = {}
    for one in runs:
        month = one.card.start[:7]
        key = (month, f"runs-{month}.html") if month else ("unknown start", "runs-undated.html")
        months.setdefault(key, []).append(one)
    return months


def _filled(catalogue: Catalogue, runs: Sequence[Listed], served: bool, **content: Any) -> str:
    """The template with the cards of some runs; what else it may show is absent unless given."""
    absent = {"answer": "", "months": [], "feed": "", "history": "", "home": "", "classes": []}
    return fill(
        "index.html",
        assets=assets.of_page("list", "list", at=assets.FOLDER),
        runs=[_card(one, catalogue.runs, served) for one in runs],
        served=served,
        **(absent | {"trainings": [], "left_out": []} | content),
    )


def _class(which: DeviceClass, runs: Sequence[Listed]) -> dict[str, str]:
    hosts = {one.card.host for one in runs}
    newest = text.moment(runs[0].card.start) if runs[0].card.start else "start not known"
    counted = f"{text.count(len(runs), 'run')} on {text.count(len(hosts), 'host')}"
    return {"name": which.name, "page": page_of(which), "facts": f"{counted}, newest {newest}"}


def page_of(which: DeviceClass) -> str:
    """Where a device class's page is."""
    return f"devices/{which.slug}.html"


def _title(catalogue: Catalogue) -> str:
    runs = text.count(len(catalogue.runs), "run")
    if not catalogue.trainings:
        return runs
    return f"{runs}, {text.count(len(catalogue.trainings), 'training')}"


def _training(one: ListedTraining) -> dict[str, str]:
    trained, place = one.trained, f"trainings/{one.name}"
    return {
        "label": text.shorten(trained.workload, 80),
        "start": text.moment(trained.start),
        "machine": text.shorten(trained.machine, 120),
        "name": text.shorten(one.name, 160),
        "answer": trained.answer,
        "report": f"{place}/{REPORT}",
        "manifest": f"{place}/{TRAINING.manifest}",
        "curves": f"{place}/{TRAINING.lines}" if (one.folder / TRAINING.lines).exists() else "",
    }


def _answer(catalogue: Catalogue) -> str:
    """What a reader with ten seconds should know of the store."""
    if not catalogue.runs:
        return "No run is here." if catalogue.trainings else "No run could be read."
    machines = {(one.card.host, one.card.machine) for one in catalogue.runs.values()}
    newest = next(iter(catalogue.runs.values())).card
    said = f"Measured on {text.count(len(machines), 'machine')}"
    said += f", most recently {text.moment(newest.start)}." if newest.start else "."
    judged = [one.against for one in catalogue.runs.values() if one.against]
    if not judged:
        return f"{said} No run has an earlier one to compare it with."
    worse = sum(_TONES.get(Exit(one.exit_code)) == "bad" for one in judged)
    pairs = text.count(len(judged), "comparison")
    return (
        f"{said} In {worse} of {pairs} with the run before, something is wrong, missing or worse."
    )


def _card(one: Listed, runs: Mapping[str, Listed], served: bool) -> dict[str, Any]:
    card, place = one.card, f"runs/{one.name}"
    return {
        "name": one.name,
        "label": text.shorten(card.label, 80),
        "folder": text.shorten(card.path if card.path != "." else one.name, 160),
        "facts": [
            text.shorten(fact, 120)
            for fact in (card.machine, card.host, f"suite {card.suite}" if card.suite else "")
            if fact
        ],
        "start": text.moment(card.start) if card.start else "start not known",
        "counted": _counted(one),
        "failed": card.failed,
        "headline": card.headline,
        "against": _against(one, runs, served),
        "report": f"{place}/{REPORT}",
        "manifest": f"{place}/{MANIFEST}",
        "records": f"{place}/{RECORDS}" if card.cells else "",
    }


def _counted(one: Listed) -> str:
    """How many cells there are, and how many of them failed."""
    card = one.card
    if not card.failed:
        return f"{text.count(card.cells, 'cell')}, none failed"
    wrong = f", {card.incorrect:,} of them incorrect" if card.incorrect else ""
    return f"{text.count(card.cells, 'cell')}, {card.failed:,} failed{wrong}"


def _against(one: Listed, runs: Mapping[str, Listed], served: bool) -> dict[str, str] | None:
    if one.against is None:
        return None
    base = runs[one.before].card
    link = "compare?" + urlencode({"base": one.before, "new": one.name})
    return {
        "tone": _TONES.get(Exit(one.against.exit_code), "open"),
        "headline": text.shorten(one.against.headline, 80),
        "counted": text.shorten(one.against.counted, 200),
        "base": text.shorten(base.label, 60),
        "start": text.moment(base.start),
        "link": link if served else f"runs/{one.name}/{COMPARED}",
    }
