"""What a backend is asked to do: a problem, a pass over it, and how it is launched."""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lstm_harness.model.typed import known
from lstm_kernels import PASSES, Problem

LAUNCHES = ("eager", "graph")
CACHES = ("warm", "cold")
DEVICES = ("cpu", "cuda")

# What is inside the timed region of each pass; the report prints it.
PASS_MEANING = {
    "inference": "forward without gradients",
    "forward": "forward that saves what backward needs",
    "backward": "gradients of x, h0, c0 and every parameter, over a fresh graph each time",
    "train": "forward then backward",
}

_KNOWN = {"pass": PASSES, "launch": LAUNCHES, "cache": CACHES, "device": DEVICES}


@dataclass(frozen=True)
class Case:
    """A problem + pass + launch + cache + device: one row of the race, run by every backend."""

    problem: Problem
    pass_name: str
    launch: str = "eager"
    cache: str = "warm"
    device: str = "cpu"

    @property
    def makes_gradients(self) -> bool:
        """Whether its pass makes gradients inside the timed region."""
        return self.pass_name in ("backward", "train")

    def label(self) -> str:
        """A short name: the problem, the pass, then everything that is not the default."""
        parts = [self.problem.label(), self.pass_name]
        parts += [self.launch] if self.launch != "eager" else []
        parts += [self.cache] if self.cache != "warm" else []
        return " ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """The case's fields, as a record and a plan store them."""
        return {
            "problem": self.problem.to_dict(),
            "pass": self.pass_name,
            "launch": self.launch,
            "cache": self.cache,
            "device": self.device,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Case":
        """The case that a record or a plan stores.

        Raises:
            KeyError, TypeError, ValueError: it is not one; the message says which field.
        """
        problem = _problem(json.dumps(fields["problem"]))
        for name, names in _KNOWN.items():
            if fields[name] not in names:
                raise ValueError(f"{name} {fields[name]!r}; expected one of {', '.join(names)}")
        return cls(problem, fields["pass"], fields["launch"], fields["cache"], fields["device"])


@lru_cache(maxsize=10_000)
def _problem(text: str) -> Problem:
    """The problem of a JSON object; cached, because a run's records repeat a few problems."""
    return Problem(**known(json.loads(text), Problem, "problem"))
