"""What differs between two machines, so that times measured on them cannot be compared.

The hardware, how much of it is used, and every setting that changes numerics: with any of these
another, a ratio of times says nothing about the code. Versions of the software and the revision of
the kernels may be what is being compared; they are told as notes.
"""

import re
from collections.abc import Mapping
from typing import Any

Manifest = Mapping[str, Any]

# How a fact is told, and where a manifest has it; of several places the first that tells counts.
DECISIVE = {
    "device": ("plan.device",),
    "cpu": ("environment.cpu.model",),
    "cpu generation": ("environment.cpu.generation",),
    "cpu cores": ("environment.cpu.physical_cores",),
    "threads": ("environment.cpu.threads",),
    "cpu instructions": ("environment.cpu.capability",),
    "gpu": ("environment.gpu.name",),
    "gpu SMs": ("environment.gpu.sm_count",),
    "gpu power limit in mW": (
        "environment.gpu.power_limit_mw",
        "environment.start.gpu.power_limit_mw",
    ),
}
SETTINGS = "environment.settings"
TUNED = "environment.tuned"
# A setting of the checks, not of what is timed.
WITHOUT_EFFECT = ("poisoned_memory",)
TOLD = {
    "host": ("environment.host",),
    "os": ("environment.os",),
    "python": ("environment.python",),
    "torch": ("environment.torch",),
    "cuda": ("environment.cuda",),
    "cudnn": ("environment.cudnn",),
    "triton": ("environment.triton",),
    "numba": ("environment.numba",),
    "onnxruntime": ("environment.onnxruntime",),
    "openvino": ("environment.openvino",),
    "jax": ("environment.jax",),
    "gpu driver": ("environment.gpu.driver",),
    "gpu UUID": ("environment.gpu.uuid",),
    "git commit": ("environment.git.commit",),
    "lstm-bench": ("lstm_bench",),
    "kernels' sources": ("kernels_digest",),
}


def differences(base: Manifest, new: Manifest) -> list[str]:
    """What forbids comparing, like `cpu A in the base, B in the new`; empty where nothing does.

    A fact that either side does not know forbids nothing: see `notes`.
    """
    there, here = decisive(base), decisive(new)
    return [
        _told(name, there[name], here[name])
        for name in there
        if name in here and there[name] != here[name]
    ]


def notes(base: Manifest, new: Manifest) -> list[str]:
    """What else differs or is not known, which a reader of the comparison wants to hear."""
    said = []
    for name, places in TOLD.items():
        there, here = _fact(base, places), _fact(new, places)
        if there != here:
            said.append(_told(name, there, here))
    there, here = _plugins(base), _plugins(new)
    said += [
        _told(f"plugin {file}", there[file], here[file])
        for file in sorted({*there} & {*here})
        if there[file] != here[file]
    ]
    there, here = _tuned(base), _tuned(new)
    for backend in sorted({*there, *here}):
        if there.get(backend) != here.get(backend):
            name = f"tuned parameters of {backend}"
            said.append(_told(name, there.get(backend), here.get(backend)))
    there_only, here_only = decisive(base), decisive(new)
    for side, lacks, knows in (("base", there_only, here_only), ("new", here_only, there_only)):
        if not lacks:
            said.append(f"the machine of {side} is not recorded")
        else:
            said += [
                f"{name} not recorded in {side}"
                for name in knows
                if name not in lacks and name in DECISIVE
            ]
    return said


def decisive(manifest: Manifest) -> dict[str, Any]:
    """The facts that must agree before times are compared, those alone that are known."""
    facts = {name: _fact(manifest, places) for name, places in DECISIVE.items()}
    facts |= _settings(manifest)
    return {name: value for name, value in facts.items() if value is not None}


def _plugins(manifest: Manifest) -> dict[str, str]:
    """The digest of each plugin; a baseline knows none."""
    return {each["file"]: each["sha256"] for each in manifest.get("plugins") or ()}


def _tuned(manifest: Manifest) -> dict[str, str]:
    """The digest of the file of tuned parameters that each backend used."""
    tuned = _at(manifest, TUNED)
    known = tuned.items() if isinstance(tuned, Mapping) else ()
    digests = {str(name): _at(facts, "used.digest") for name, facts in known}
    return {name: str(digest) for name, digest in digests.items() if digest is not None}


def _settings(manifest: Manifest) -> dict[str, Any]:
    """Every setting that has an effect; a group of them, like OMP's variables, as one text."""
    settings = _at(manifest, SETTINGS)
    if not isinstance(settings, Mapping):
        return {}
    return {
        str(name): _group(value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if name not in WITHOUT_EFFECT
    }


def _group(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(settings.items())) or "none set"


def _fact(manifest: Manifest, places: tuple[str, ...]) -> Any:
    return next((fact for place in places if (fact := _at(manifest, place)) is not None), None)


def _at(manifest: Manifest, place: str) -> Any:
    value: Any = manifest
    for name in place.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _told(name: str, there: Any, here: Any) -> str:
    """What differs; of two long texts the part from where they do."""
    old, now = _shown(there), _shown(here)
    if len(old) > _LONGEST and len(now) > _LONGEST:
        pairs = enumerate(zip(old, now, strict=False))
        same = next((place for place, (a, b) in pairs if a != b), min(len(old), len(now)))
        old, now = (f"…{text[same:]}" if same else text for text in (old, now))
    return f"{name} {_short(old)} in the base, {_short(now)} in the new"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    text = " ".join(str(value).split())
    return text[:_DIGITS] if _DIGEST.fullmatch(text) else text


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


# A model name fits; a hostile one does not fill the page.
_LONGEST = 80
# A commit or a digest, and how much of one is told.
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_DIGITS = 12
