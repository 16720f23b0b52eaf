"""What is measured: a problem, a pass over it, how it is launched, and how the layer is called."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from lstm_harness.model.typed import known
from lstm_kernels import PASSES, Problem

LAUNCHES = ("eager", "graph")
CACHES = ("warm", "cold")
DEVICES = ("cpu", "cuda")
# The dtypes of a torch.autocast around the call.
AUTOCASTS = ("none", "bfloat16", "float16")

# What is inside the timed region of each pass; the report prints it.
PASS_MEANING = {
    "inference": "forward without gradients",
    "forward": "forward that saves what backward needs",
    "backward": "gradients of x, h0, c0 and every parameter, over a fresh graph each time",
    "train": "forward then backward",
}

_KNOWN = {"pass": PASSES, "launch": LAUNCHES, "cache": CACHES, "device": DEVICES}


@dataclass(frozen=True)
class Call:
    """How a module calls its backend: what it does around the backend is timed with it.

    `batch_first`: x and y are [B, T, features]. `autocast`: the dtype of a torch.autocast around
    the forward of float32 inputs and parameters, or `none`. `dropout`: the probability of dropout
    between layers, in training.
    """

    batch_first: bool = False
    autocast: str = "none"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout {self.dropout}; expected a number from 0 to below 1")
        if self.autocast not in AUTOCASTS:
            raise ValueError(f"autocast {self.autocast!r}; expected one of {', '.join(AUTOCASTS)}")

    def computed(self, problem: Problem) -> Problem:
        """The problem in the dtype that it is computed in."""
        return problem if self.autocast == "none" else replace(problem, dtype=self.autocast)

    def label(self) -> str:
        """What is not the default, in words; empty for a plain call."""
        parts = ["batch-first"] if self.batch_first else []
        parts += [f"autocast-{self.autocast}"] if self.autocast != "none" else []
        parts += [f"dropout-{self.dropout:g}"] if self.dropout else []
        return " ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Its fields as a record stores them; defaults are not stored, as before there were any."""
        return {name: value for name, value in asdict(self).items() if value != _PLAIN[name]}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Call":
        """The call that a record, a plan or a row of a table stores; a plain one if it stores none.

        Raises:
            ValueError: it is not one; the message says which field.
        """
        given = {name: fields[name] for name in CALL_FIELDS if name in fields}
        if not given or given == _PLAIN:
            return PLAIN
        return cls(**known(given, cls, "the case"))

    def check(self, problem: Problem, pass_name: str, launch: str) -> None:
        """Refuse what no module is called so for, or what nobody could check.

        Raises:
            ValueError: one line with what was found and what is expected.
        """
        if self.autocast != "none" and (problem.dtype, problem.precision) != ("float32", "ieee"):
            raise ValueError(
                f"autocast {self.autocast!r} with dtype {problem.dtype!r} and precision "
                f"{problem.precision!r}: autocast casts float32; expected float32 and ieee"
            )
        if self.batch_first and problem.lengths != "full":
            raise ValueError(
                f"batch-first with lengths {problem.lengths!r}: a module ignores batch_first for a "
                "packed batch; leave one out"
            )
        if self.dropout:
            self._check_dropout(problem, pass_name, launch)

    def _check_dropout(self, problem: Problem, pass_name: str, launch: str) -> None:
        said = f"dropout {self.dropout:g} with"
        if problem.num_layers < 2:
            raise ValueError(f"{said} one layer: it is between layers; expected --layers 2 or more")
        if pass_name == "inference":
            raise ValueError(f"{said} pass 'inference', which has none; leave one out")
        if problem.lengths != "full":
            raise ValueError(
                f"{said} lengths {problem.lengths!r}: backends draw the masks of a ragged batch in "
                "different orders, so that they cannot be checked; leave one out"
            )
        if launch != "eager":
            raise ValueError(
                f"{said} launch {launch!r}: a replay draws its masks from a state of its own, so "
                "that they cannot be checked; leave one out"
            )


PLAIN = Call()
_PLAIN = asdict(PLAIN)
CALL_FIELDS = tuple(_PLAIN)


@dataclass(frozen=True)
class Case:
    """A problem + pass + launch + cache + device: one row of the race, run by every backend.

    `call` says how the layer is called, where that is not plainly.
    """

    problem: Problem
    pass_name: str
    launch: str = "eager"
    cache: str = "warm"
    device: str = "cpu"
    call: Call = PLAIN

    def __post_init__(self) -> None:
        if self.call is not PLAIN:
            self.call.check(self.problem, self.pass_name, self.launch)

    @property
    def makes_gradients(self) -> bool:
        """Whether its pass makes gradients inside the timed region."""
        return self.pass_name in ("backward", "train")

    @property
    def computed(self) -> Problem:
        """The problem in the dtype that it is computed in: autocast's, if there is one."""
        return self.call.computed(self.problem)

    def label(self) -> str:
        """A short name: the problem, the pass, then everything that is not the default."""
        parts = [self.problem.label(), self.pass_name]
        parts += [self.launch] if self.launch != "eager" else []
        parts += [self.cache] if self.cache != "warm" else []
        parts += [self.call.label()] if self.call != PLAIN else []
        return " ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """The case's fields, as a record and a plan store them."""
        return {
            "problem": self.problem.to_dict(),
            "pass": self.pass_name,
            "launch": self.launch,
            "cache": self.cache,
            "device": self.device,
            **self.call.to_dict(),
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
        place = fields["pass"], fields["launch"], fields["cache"], fields["device"]
        return cls(problem, *place, Call.from_dict(fields))


@lru_cache(maxsize=10_000)
def _problem(text: str) -> Problem:
    """The problem of a JSON object; cached, because a run's records repeat a few problems."""
    return Problem(**known(json.loads(text), Problem, "problem"))
