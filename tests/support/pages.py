"""What the tests of pages share: the pages, their prose, and the commands that they show."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path

import typer
from places import ROOT

from lstm_harness.cli.app import app

DOCS = tuple(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))
PAGES = ("README.md", "CONTRIBUTING.md", "results/README.md", *DOCS)
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", flags=re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?<=\n\n)(?:(?: {4}.*)?\n)+")
WITHIN_A_LINE = re.compile(r"`([^`]+)`")
# What ends a command in a shell: an operator, or where the output goes.
OPERATOR = re.compile(r"[0-9]?[<>|&;()]+")


def text_of(page: str) -> str:
    """A page as it is written."""
    return (ROOT / page).read_text()


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCED.sub("", page.read_text())


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return [block for _, named, block in FENCED.findall(text_of(page)) if named == language]


def indented(page: str) -> list[str]:
    """The indented blocks of a page, as code."""
    found = INDENTED.findall(prose(ROOT / page))
    return [textwrap.dedent(block).strip("\n") for block in found if block.strip()]


def commands(page: str, program: str) -> list[list[str]]:
    """The commands of a page that start a program: the words after the program's name.

    Found in shell blocks, in indented blocks and between backticks in the text; the usage of a
    command, as its help has it, is nothing to type.
    """
    shell = [re.sub(r"\\\n *", " ", code) for code in (*blocks(page, "sh"), *indented(page))]
    within = [" ".join(code.split()) for code in WITHIN_A_LINE.findall(_running_text(page))]
    # What stands apart, after two spaces, is a word on the command.
    lines = [re.split(" {2,}", line)[0] for code in shell for line in code.splitlines()]
    return [words for line in (*lines, *within) for words in _started(line, program)]


def parsed(words: list[str]) -> typer.Context | None:
    """A command line of lstm-bench, parsed and not run; None where it only names or asks for help.

    A mistaken command, option or value raises.
    """
    command, name = typer.main.get_command(app), "lstm-bench"
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        name, *words = words
        command = command.commands[name]
    options = {option for parameter in command.params for option in parameter.opts}
    if hasattr(command, "commands") or {"-h", "--help"} & {*words}:
        unknown = {*words} - options - {"-h", "--help"}
        assert not unknown, f"{name} has no {unknown}"
        return None
    return command.make_context(name, words) if words else None


def _running_text(page: str) -> str:
    return INDENTED.sub("\n", prose(ROOT / page))


def _started(line: str, program: str) -> Iterator[list[str]]:
    """The words after the program's name, where a line begins with it."""
    if not re.match(rf"(?:[A-Z_]+=\S* )*(?:\S+/)?{re.escape(program)}(?: |$)", line):
        return
    shell = shlex.shlex(line, posix=True, punctuation_chars=True)
    shell.whitespace_split = True
    words = [*shell]
    start = next(n for n, word in enumerate(words) if Path(word).name == program)
    rest = words[start + 1 :]
    end = next((n for n, word in enumerate(rest) if OPERATOR.fullmatch(word)), len(rest))
    if "[OPTIONS]" not in rest and rest[:1] != ["COMMAND"]:
        yield rest[:end]
