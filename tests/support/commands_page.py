"""The page docs/commands.md: every command and option, from the commands' own help.

    python tests/support/commands_page.py docs/commands.md

`tests/harness/test_commands_page.py` holds the page to the commands as they are.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from lstm_harness.cli.app import app

PROGRAM = "lstm-bench"
# Options of these panels are many, and the same for several commands: the page lists them once.
SHARED_PANELS = ("Axes", "Measuring")
# The command whose shared options the page lists.
EXAMPLE = "run"

HEAD = """# Commands

Every command of `lstm-bench`, with its arguments and options. `lstm-bench COMMAND --help` prints
the same text. `make commands-page` makes this page from it, and a test holds the two together.
`--help` is an option of every command.

"""

SHARED_HEAD = """## Shared options

Several commands share the options below. The section of a command names the ones that it takes.

"""


def page() -> str:
    """The whole page."""
    root = typer.main.get_command(app)
    context = root.context_class(root, info_name=PROGRAM)
    commands = dict(_commands(root, context))
    shared = _shared(*commands[f"{PROGRAM} {EXAMPLE}"])
    overview = _table(
        ("command", "what it does"),
        [(f"[`{name}`](#{_anchor(name)})", _summary(each[0])) for name, each in commands.items()],
    )
    everywhere = _options(list(_records(root, context)))
    panels = [f"### {name}\n\n{_options(list(rows.items()))}" for name, rows in shared.items()]
    sections = [_section(name, *each, shared) for name, each in commands.items()]
    return HEAD + "\n".join([overview, everywhere, SHARED_HEAD + "\n".join(panels), *sections])


def _commands(group: Any, context: Any) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Each command with its context, by its full name, in the order of the help."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        own = command.context_class(command, info_name=name, parent=context)
        if hasattr(command, "list_commands"):
            yield from _commands(command, own)
        else:
            yield own.command_path, (command, own)


def _shared(command: Any, context: Any) -> dict[str, dict[str, str]]:
    """The options of the shared panels: name to help, by panel."""
    return {panel: dict(_records(command, context, panel)) for panel in SHARED_PANELS}


def _records(command: Any, context: Any, panel: str | None = None) -> Iterator[tuple[str, str]]:
    """What the help says of each parameter, of one panel or of all."""
    for parameter in command.get_params(context):
        if panel is None or getattr(parameter, "rich_help_panel", None) == panel:
            record = parameter.get_help_record(context)
            if record:
                yield record


def _section(name: str, command: Any, context: Any, shared: dict[str, dict[str, str]]) -> str:
    """One command: what it does, how it is called, its options, its examples."""
    everywhere = set(_records(context.find_root().command, context.find_root()))
    records = [each for each in _records(command, context) if each not in everywhere]
    parts = [f"## {name}\n", f"{_paragraphs(command.help)}\n"]
    parts.append(f"Usage: `{' '.join([name, *command.collect_usage_pieces(context)])}`\n")
    same = [record for record in records if any(record in s.items() for s in shared.values())]
    parts.append(_options([record for record in records if record not in same]))
    for panel, options in shared.items():
        taken = [_flag(record) for record in same if record in options.items()]
        if taken:
            parts.append(f"[{panel}](#{_anchor(panel)}): {', '.join(taken)}.\n")
    examples = [line for line in (command.epilog or "").splitlines() if line.startswith(PROGRAM)]
    if examples:
        parts.append("Examples:\n")
        parts.append("".join(f"    {line}\n" for line in examples))
    return "\n".join(parts)


def _options(records: list[tuple[str, str]]) -> str:
    rows = [(f"`{name}`", text) for name, text in records]
    return _table(("argument or option", "what it does"), rows)


def _table(titles: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    lines = [f"| {' | '.join(titles)} |", "|---|---|"]
    lines += [f"| {' | '.join(_cell(text) for text in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("*", r"\*")


def _flag(record: tuple[str, str]) -> str:
    return f"`{record[0].split()[0].rstrip(',')}`"


def _paragraphs(text: str) -> str:
    paragraphs = [" ".join(each.split()) for each in text.split("\n\n")]
    return "\n\n".join(paragraphs)


def _summary(command: Any) -> str:
    return _paragraphs(command.help).split("\n\n")[0]


def _anchor(heading: str) -> str:
    return heading.lower().replace(" ", "-")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())
