"""What `backends`, `suites` and `plan` print: who can run, and what would."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.text import Text

from lstm_harness.console import output
from lstm_harness.model.plan import Plan
from lstm_harness.model.spec import Suite, build
from lstm_harness.race.survey import Survey


def backend_rows(survey: Survey) -> list[dict[str, Any]]:
    """Every backend: name, whether it can run here, and why not."""
    return [
        {
            "name": name,
            "available": name not in survey.missing,
            "reason": survey.missing.get(name),
            "raced": backend.raced,
            "summary": backend.summary,
            "devices": list(backend.devices),
        }
        for name, backend in survey.backends.items()
    ] + [
        {"name": source, "available": False, "reason": f"cannot be imported: {error}"}
        for source, error in survey.unavailable.items()
    ]


def backends(survey: Survey) -> None:
    """Who can run here, who cannot and why."""
    table = output.empty_table("backend", f"on {survey.device}", "what it is, or why not")
    for row in backend_rows(survey):
        says = row["summary"] if row["available"] else row["reason"]
        table.add_row(Text(row["name"]), "yes" if row["available"] else "no", Text(says))
    output.out.print(table)


def suites(every: Sequence[Suite]) -> None:
    """Every suite in a line."""
    table = output.empty_table("suite", "cases", "what it stands for")
    for each in every:
        table.add_row(each.name, str(len(_cases(each))), Text(each.title))
    output.out.print(table)


def suite_row(suite: Suite) -> dict[str, Any]:
    """A suite as `suites --json` prints it."""
    cases = [case.to_dict() for case in _cases(suite)]
    return {"name": suite.name, "title": suite.title, "source": suite.source, "cases": cases}


def suite(one: Suite) -> None:
    """One suite's shapes and their source."""
    output.out.print(Text(f"{one.name}: {one.title}"), soft_wrap=True)
    output.out.print(Text(f"source: {one.source}"), soft_wrap=True)
    passes: dict[str, list[str]] = {}
    for case in _cases(one):
        passes.setdefault(case.problem.label(), []).append(case.pass_name)
    for label, names in passes.items():
        output.out.print(Text(f"  {label}: {', '.join(dict.fromkeys(names))}"), soft_wrap=True)


def _cases(suite: Suite) -> tuple[Any, ...]:
    return build(suite, {}, {}).cases("cpu")


def plan(made: Plan) -> None:
    """What would run, what is skipped and why, how long."""
    table = output.empty_table("case", *made.backends)
    for case in made.cases:
        marks = ["skip" if (name, case) in made.skips else "run" for name in made.backends]
        table.add_row(Text(case.label()), *marks)
    output.out.print(table)
    skips = Counter((backend, skip.reason) for (backend, _), skip in made.skips.items())
    for (backend, reason), count in skips.items():
        output.out.print(Text(f"{backend} skips {count} cases: {reason}"), soft_wrap=True)
    for name, reason in made.absent.items():
        output.out.print(Text(f"{name} takes no part: {reason}"), soft_wrap=True)
    output.out.print(
        f"{made.planned_records} records in {made.blocks} blocks on {made.device}; about "
        f"{made.estimated_s / 60:.1f} minutes and {made.estimated_bytes / 2**20:,.0f} MiB, "
        "guessed from the sizes",
        soft_wrap=True,
    )
