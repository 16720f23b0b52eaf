"""What `backends`, `suites` and `plan` print: who can run, and what would."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.text import Text

from lstm_harness.console import output
from lstm_harness.console.case_names import shared_words
from lstm_harness.model.plan import Plan
from lstm_harness.model.spec import Suite, build
from lstm_harness.model.text import count
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
    output.print_table(table)


def suites(every: Sequence[Suite]) -> None:
    """Every suite in a line."""
    table = output.empty_table("suite", "cases", "what it stands for")
    for each in every:
        table.add_row(each.name, str(len(_cases(each))), Text(each.title))
    output.print_table(table)


def suite_row(suite: Suite) -> dict[str, Any]:
    """A suite as `suites --json` prints it."""
    cases = [case.to_dict() for case in _cases(suite)]
    return {"name": suite.name, "title": suite.title, "source": suite.source, "cases": cases}


def suite(one: Suite) -> None:
    """One suite's shapes and their source."""
    output.line(f"{one.name}: {one.title}")
    output.line(f"source: {one.source}")
    passes: dict[str, list[str]] = {}
    for case in _cases(one):
        label = f"{case.problem.label()} {case.call.label()}".rstrip()
        passes.setdefault(label, []).append(case.pass_name)
    for label, names in passes.items():
        output.line(f"  {label}: {', '.join(dict.fromkeys(names))}")


def _cases(suite: Suite) -> tuple[Any, ...]:
    return build(suite, {}, {}).cases("cpu")


def plan(made: Plan) -> None:
    """What would run, what is skipped and why, how long."""
    common, short = shared_words([case.label() for case in made.cases])
    table = output.empty_table("case", "run by", "skipped by")
    for case in made.cases:
        skipping = [name for name in made.backends if (name, case) in made.skips]
        running = [name for name in made.backends if name not in skipping]
        shown = (_of_all(names, made.backends) for names in (running, skipping))
        table.add_row(Text(short[case.label()]), *map(Text, shown))
    output.print_table(table)
    if common:
        output.line(f"Every case: {common}")
    output.line(f"Backends: {', '.join(made.backends)}")
    skips = Counter((backend, skip.reason) for (backend, _), skip in made.skips.items())
    for (backend, reason), number in skips.items():
        output.line(f"{backend} skips {count(number, 'case')}: {reason}")
    for name, reason in made.absent.items():
        output.line(f"{name} does not run: {reason}")
    output.line(
        f"{made.planned_records} records in {count(made.blocks, 'block')} on {made.device}; about "
        f"{made.estimated_s / 60:.1f} minutes and {made.estimated_bytes / 2**20:,.0f} MiB, "
        "guessed from the sizes"
    )


def _of_all(names: Sequence[str], backends: Sequence[str]) -> str:
    """Names of backends, or that it is all of them."""
    return f"all {len(backends)}" if len(names) == len(backends) > 1 else ", ".join(names)
