"""No text that a reader reads has a word of `plain_words.AVOIDED`."""

from collections.abc import Iterator
from pathlib import Path

import click
import plain_words
import pytest
import typer.main
from plain_words import AVOIDED, ROOT, Passage

from lstm_harness.cli.app import app

PAGES = (
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
SOURCES = sorted(path for room in ("kernels", "harness") for path in (ROOT / room).rglob("*.py"))
TEMPLATES = sorted((ROOT / "harness").rglob("templates/*.html"))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def found(passages: Iterator[Passage]) -> list[str]:
    return [str(each) for each in plain_words.findings(passages)]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_page_is_plain(page: Path) -> None:
    assert not found(plain_words.of_markdown(page.read_text(), named(page)))


@pytest.mark.parametrize("room", ["kernels", "harness"])
def test_docstrings_comments_and_messages_are_plain(room: str) -> None:
    sources = [path for path in SOURCES if path.is_relative_to(ROOT / room)]
    assert len(sources) > 90
    assert not [
        line
        for path in sources
        for line in found(plain_words.of_python(path.read_text(), named(path)))
    ]


def test_templates_are_plain() -> None:
    assert TEMPLATES
    assert not [
        line
        for path in TEMPLATES
        for line in found(plain_words.of_html(path.read_text(), named(path)))
    ]


def helps(command: click.Command, name: str) -> Iterator[Passage]:
    """The help of a command, of its options, and of the commands below it."""
    texts = [command.help, command.epilog, *(getattr(p, "help", None) for p in command.params)]
    yield from (Passage(f"{name} --help", 1, " ".join(text.split())) for text in texts if text)
    for below in getattr(command, "commands", {}).values():
        yield from helps(below, f"{name} {below.name}")


def test_every_help_is_plain() -> None:
    said = list(helps(typer.main.get_command(app), "lstm-bench"))
    assert any(passage.path == "lstm-bench run --help" for passage in said)
    assert not found(iter(said))


BAD = (
    "What the verdict hangs on",
    "how much slower is no matter",
    "Only then speaks speed, what is proven first",
    "what the figures run not along",
    "a plugin that takes no part",
    "a link is no file",
    "it is none of these; nobody knows whom to ask",
    "the states beside h, but for c",
    "Kept in a folder that is made where it lacks.",
    "compiled anew for ever",
)
GOOD = (
    "There is no such file, and where there is no file it says so.",
    "It is no longer than the one before; take part of the sample; therefore it is forever kept.",
    "What the verdict depends on; the speakers; so many-sided an example is fine for everyone.",
)


@pytest.mark.parametrize("sentence", BAD)
def test_a_bad_sentence_is_found(sentence: str) -> None:
    assert found(iter([Passage("here", 1, sentence)]))


@pytest.mark.parametrize("sentence", GOOD[:1])
def test_a_good_sentence_is_not(sentence: str) -> None:
    assert not found(iter([Passage("here", 1, sentence)]))


@pytest.mark.parametrize("avoided", AVOIDED, ids=lambda each: each.shown)
def test_what_the_list_shows_is_what_it_finds_and_what_it_offers_is_not(avoided) -> None:
    shown = avoided.shown.split(", ")
    assert all(avoided.regex.search(f"{each}.") for each in shown), shown
    assert not found(iter([Passage("here", 1, avoided.instead)]))


PYTHON = '''
"""A module that hangs on
another."""

# It is kept
# for ever.
@triton.jit
def compiled():
    """Likewise."""


def fails(name):
    raise ValueError(f"{name} is no cell")
'''


def test_where_a_word_is_in_a_module() -> None:
    lines = found(plain_words.of_python(PYTHON, "m.py"))
    assert [line.split(": ")[0] for line in lines] == ["m.py:2", "m.py:13", "m.py:5"]
    assert "'hangs on' in" in lines[0]
    assert lines[0].endswith("say: depends on")


def test_code_of_a_page_and_of_a_template_is_not_read() -> None:
    page = "Run\n\n```\nanew\n```\n\nand `beside`,\nor wait for\never.\n"
    (line,) = found(plain_words.of_markdown(page, "p.md"))
    assert line.startswith("p.md:7: 'for ever'")
    html = "<p class='anew'>{{ anew }}</p>{# anew #}<script>anew</script>\n\n<b>seldom</b>"
    (line,) = found(plain_words.of_html(html, "t.html"))
    assert line.startswith("t.html:3: 'seldom'")
