"""The feed of new runs, in Atom (RFC 4287)."""

import uuid
from collections.abc import Mapping

from lstm_harness.model import text
from lstm_harness.report.templating import fill
from lstm_harness.site.board import classes
from lstm_harness.site.catalogue import FEED, Catalogue, Listed
from lstm_harness.store.run_folder import REPORT

# The newest ones; a reader that asks less often looks at the board.
MOST_ENTRIES = 50
# An id is made of the stores' names and of a run's name, so that it stays when runs are added.
_SPACE = uuid.uuid5(uuid.NAMESPACE_OID, "lstm-bench board")
# Atom wants a time, even of a feed without entries.
_NEVER = "1970-01-01T00:00:00+00:00"


def render(catalogue: Catalogue) -> str:
    """The Atom document of the newest runs; a run without a start has no place in it."""
    dated = [one for one in catalogue.runs.values() if one.card.start][:MOST_ENTRIES]
    stores = ", ".join(folder.resolve().name for folder in catalogue.stores)
    own = uuid.uuid5(_SPACE, stores.encode("utf-8", "replace").decode())
    return fill(
        "feed.xml",
        id=own.urn,
        title=text.shorten(stores, 120),
        updated=dated[0].card.start if dated else _NEVER,
        own=FEED,
        entries=[_entry(one, own) for one in dated],
    )


def _entry(one: Listed, own: uuid.UUID) -> Mapping[str, str]:
    told = [one.card.headline]
    if one.against:
        told.append(f"{one.against.headline}: {one.against.counted}.")
    return {
        "id": uuid.uuid5(own, one.name).urn,
        "title": f"{text.shorten(one.card.label, 80)} on {classes.of(one.card).name}",
        "updated": one.card.start,
        "report": f"runs/{one.name}/{REPORT}",
        "summary": text.shorten(" ".join(told), 400),
    }
