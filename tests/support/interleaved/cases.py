"""What the tests of both backends' interleaved kernels say alike: cases, memory, mutants."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import closeness
import pytest
import torch

import lstm_kernels as lk
from interleaved.defects import Wrong
from interleaved.machine import Machine
from interleaved.mutants import Mutant

SEEDS = (0, 1, 2)


def poisoned() -> Iterator[None]:
    """Fill memory that nobody wrote with NaN; a test module makes a fixture of it."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.ones(3).new_empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def problem_of(fields: Mapping[str, Any], *not_its_own: str, input_size: int) -> lk.Problem:
    """The problem of a case; some of a case's fields say how it runs."""
    own = {name: value for name, value in fields.items() if name not in not_its_own}
    ragged = own.pop("ragged")
    lengths = f"uniform:0:{own['seq_len']}" if ragged else "full"
    return lk.Problem(input_size=input_size, lengths=lengths, **own)


def name_of(words: Sequence[Any], flags: Mapping[str, bool]) -> str:
    """A case's name: words, then which of the flags are up."""
    return "-".join([*map(str, words), *(name for name, flag in flags.items() if flag)])


def with_seeds(mutants: Sequence[Mutant], every_change: Sequence[str]) -> list[Any]:
    """Mutants by seed, as pytest takes them; every change runs those that are named, once."""
    names = [mutant.name for mutant in mutants]
    assert len(set(names)) == len(names) >= 20
    assert set(every_change) <= set(names)
    return [
        pytest.param(
            mutant, seed, id=f"{mutant.name}-{seed}", marks=[] if fast else pytest.mark.slow
        )
        for mutant in mutants
        for seed in SEEDS
        for fast in [mutant.name in every_change and seed == 0]
    ]


def assert_caught(
    mutant: Mutant,
    seed: int,
    problem: lk.Problem,
    running: AbstractContextManager[list[Machine]],
    errors: Callable[[lk.Problem], dict[str, float]],
) -> None:
    """A mutant is found by the defect it has, and told of so that a person can go there.

    Args:
        running: has its launches run interleaved.
        errors: of its outputs and gradients; over the bound they are a defect too.
    """
    with pytest.raises(mutant.found) as caught, running as machines:
        assert_right(errors(problem), problem, machines)
    message = str(caught.value)
    for text in mutant.told:
        assert re.search(text, message), message
    assert re.search(rf"seed {seed}, launch \d", message), message


def assert_right(found: dict[str, float], problem: lk.Problem, machines: list[Machine]) -> None:
    """Something was launched, and what came of it is near float64.

    Raises:
        Wrong: it is not, with the errors and how to see them again.
    """
    assert machines, "nothing was launched"
    bound = closeness.LAYER[problem.dtype]
    over = {name: error for name, error in found.items() if not error <= bound}
    if over:
        errors = ", ".join(f"{name} by {error:.1e}" for name, error in over.items())
        replays = "\n".join(machine.replay() for machine in machines)
        raise Wrong(
            f"{problem.label()}: wrong, and nothing else was found; relative errors of more than "
            f"{bound:g}: {errors}\n{replays}"
        )
