"""What `gradients` prints: what is left of each gradient, step by step on its way back."""

import shlex
from collections.abc import Sequence
from typing import Any

from rich.text import Text

from lstm_harness import __version__
from lstm_harness.analysis.gradients import Fading, Gradients, fadings, names, steps_told
from lstm_harness.console import output
from lstm_harness.model import text

WHAT = "norm of dL_T/dh_t over that at t = T, by T - t"


def write(found: Gradients) -> None:
    """The answer in a sentence, a row a line with its half-life, then who has none, and why."""
    lines = fadings(found.followed)
    if lines:
        output.line(sentence(lines))
        steps = columns(lines)
        table = output.empty_table("", *map(str, steps), "half-life, steps")
        for line in lines:
            shares = [share(line.median, step) for step in steps]
            table.add_row(Text(line.name), *shares, half_life(line))
        output.line(f"{WHAT}, {medians(found)}:")
        output.print_table(table)
    for said in refusals(found):
        output.line(said)


def sentence(lines: Sequence[Fading]) -> str:
    """What is left half way back, the most first."""
    longest = min(len(line.median) for line in lines) - 1
    step = max((each for each in steps_told(longest) if 2 * each <= longest), default=0) or longest
    known = [line for line in lines if line.median[step] is not None]
    if not known:
        return f"{text.count(step, 'step')} before the loss, no gradient is finite."
    most, *rest = sorted(known, key=lambda line: line.median[step] or 0, reverse=True)
    said = f"{text.count(step, 'step')} before the loss, {most.name} has "
    left = share(most.median, step)
    grown = (most.median[step] or 0) > 1
    said += f"{left} times its gradient" if grown else f"{left} of its gradient left"
    others = [f"{line.name} {share(line.median, step)}" for line in rest]
    return ", ".join([said, *others]) + "."


def columns(lines: Sequence[Fading]) -> list[int]:
    """The T - t that a table of these lines has."""
    return sorted({step for line in lines for step in steps_told(len(line.median) - 1)})


def share(shares: Sequence[float | None], step: int) -> str:
    """What is left at a step, as a table has it; nothing before the sequence begins."""
    if step >= len(shares):
        return ""
    left = shares[step]
    return "not finite" if left is None else text.significant(left, 2)


def half_life(line: Fading) -> str:
    """In how many steps a gradient halves, as a table has it."""
    steps = line.half_life_steps
    return "does not fall" if steps is None else text.significant(steps, 2)


def medians(found: Gradients) -> str:
    """Of how many seeds a figure is the median."""
    return f"median of {text.count(len(found.seeds), 'seed')}"


def refusals(found: Gradients) -> list[str]:
    """A line for each that has no gradient, with the reason."""
    return [
        f"{one.backend} on {one.problem.label()}: {one.status}: {one.reason}"
        for one in found.followed
        if one.reason
    ]


def command(found: Gradients) -> str:
    """The command that followed them, as one would type it."""
    return shlex.join(found.command)


def document(found: Gradients) -> dict[str, Any]:
    """What `gradients --json` prints; its schema is gradients.schema.json."""
    lines = {id(line.of): line for line in fadings(found.followed)}
    rows = zip(names(found.followed), found.followed, strict=True)
    return {
        "schema": 1,
        "sentence": sentence(list(lines.values())) if lines else None,
        "command": list(found.command),
        "lstm_bench": __version__,
        "start": found.start,
        "device": found.device,
        "seeds": list(found.seeds),
        "lines": [
            {
                "name": name,
                "backend": one.backend,
                "problem": one.problem.to_dict(),
                "status": one.status,
                "reason": one.reason,
                **_numbers(lines.get(id(one))),
            }
            for name, one in rows
        ],
        "environment": dict(found.environment),
    }


def _numbers(line: Fading | None) -> dict[str, Any]:
    """By T - t, from 0 on; nothing of one that was refused."""
    if line is None:
        return {"norms": []}
    return {
        "half_life_steps": line.half_life_steps,
        "median": list(line.median),
        "low": list(line.low),
        "high": list(line.high),
        "norms": [list(norms) for norms in line.of.norms],
    }
