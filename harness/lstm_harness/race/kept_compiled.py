"""What backends compiled, kept from one run to the next while nothing changes that it was made of.

Each state of the kernels' sources, of the compilers' versions and of the machine has a folder of
its own in the user's cache. A run in which a stranger's backend races has no such folder: it
could change what other backends load in later runs.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lstm_harness.model.lasting import LASTING
from lstm_harness.race.survey import Survey
from lstm_kernels import user_cache
from lstm_kernels.registry import BUILT_IN

# An older folder is removed unless it was used within a day.
_MOST = 5
_DAY_S = 86_400.0


def folder_for(backends: Iterable[str], survey: Survey) -> Path | None:
    """The folder for a run of these backends; None if it keeps nothing."""
    parent = user_cache.folder("compiled")
    if parent is None or survey.plugins or not {b.name for b in BUILT_IN}.issuperset(backends):
        return None
    facts = {name: survey.environment.get(name) for name in LASTING}
    made_of = json.dumps([survey.kernels_digest, facts], sort_keys=True).encode()
    folder = parent / hashlib.sha256(made_of).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
    except OSError:  # a home that nobody can write to
        return None
    _sweep(parent)
    return folder


def _sweep(parent: Path) -> None:
    """Remove folders that were not used for long, except the newest."""
    used_s: dict[Path, float] = {}
    for folder in parent.iterdir():
        with suppress(FileNotFoundError):  # another program just removed it
            used_s[folder] = folder.stat().st_mtime
    for folder in sorted(used_s, key=used_s.__getitem__)[:-_MOST]:
        if time.time() - used_s[folder] > _DAY_S:
            shutil.rmtree(folder, ignore_errors=True)
