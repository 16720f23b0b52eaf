"""The device class that a run was measured on: a GPU's name, or a CPU's model and its cores."""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from lstm_harness.model import text
from lstm_harness.site.cards import Card
from lstm_harness.site.catalogue import Listed

# A longer name is cut in an address; the digest distinguishes it from others.
_LONGEST_SLUG = 60


@dataclass(frozen=True)
class DeviceClass:
    """A device class: its name for readers, and `slug`, its part of an address.

    The slug follows from the class alone, so that an address stays when runs are added.
    """

    name: str
    slug: str


def of(card: Card) -> DeviceClass:
    """The class of the device that a run was measured on."""
    device, environment = card.facts["plan"]["device"], card.facts["environment"]
    if device == "cpu":
        cpu = environment.get("cpu") or {}
        cores = cpu.get("physical_cores")
        counted = text.count(cores, "core") if isinstance(cores, int) else "cores not known"
        # Older runs do not say which generation it is.
        generation = [str(cpu["generation"])] if cpu.get("generation") else []
        return _class_of(device, str(cpu.get("model") or "unknown CPU"), *generation, counted)
    gpu = environment.get("gpu") or {}
    return _class_of(device, str(gpu.get("name") or "unknown GPU"))


@lru_cache(maxsize=1024)
def _class_of(*facts: str) -> DeviceClass:
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]
    name = ", ".join(text.shorten(fact, 120) for fact in facts[1:])
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower())[:_LONGEST_SLUG].strip("-")
    return DeviceClass(name, "-".join(filter(None, (plain, digest))))


def grouped(runs: Iterable[Listed]) -> dict[DeviceClass, list[Listed]]:
    """The runs of each class, in the order given; classes by name."""
    found: dict[DeviceClass, list[Listed]] = {}
    for one in runs:
        found.setdefault(of(one.card), []).append(one)
    return dict(sorted(found.items(), key=lambda pair: (pair[0].name, pair[0].slug)))
