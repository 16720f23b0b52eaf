"""What the repository's pages and sources point to, and tell to type, is there."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import typer
from pages import PAGES, commands, parsed, prose
from places import ROOT

from lstm_harness.cli.app import app
from lstm_harness.model.spec import suite_names
from lstm_harness.model.workloads import WORKLOADS

SOURCES = sorted(
    path for top in ("harness", "kernels", "tests") for path in (ROOT / top).rglob("*.py")
)
# A page of this repository, as a comment cites it.
CITED = re.compile(r"\b(?:[\w-]+/)*[A-Z][A-Z_-]{2,}\.md\b|\bdocs/[\w-]+\.md\b")
CITED_SECTION = re.compile(r"docs/([\w-]+\.md), ([A-Z][a-z]*(?: [a-z]+)*)")
# Made by scripts, or tables of machine code: looked up, not read through.
REFERENCES = {
    *("docs/commands.md", "docs/compatibility.md", "docs/verdicts-simulated.md"),
    "docs/scale-simulated.md",
    *("docs/numba-cuda-machine-code.md", "docs/triton-machine-code.md"),
}
MAKEFILE = (ROOT / "Makefile").read_text()
TYPED = [(page, words) for page in PAGES for words in commands(page, "lstm-bench")]
MADE = [(page, words) for page in PAGES for words in commands(page, "make")]


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)


@cache
def anchors(page: Path) -> set[str]:
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings(page)}


def text_of(source: Path) -> str:
    """A source as one line, the marks of comments taken out."""
    return re.sub(r"\s*\n\s*(?:# )?", " ", source.read_text())


def shown(command: tuple[str, list[str]]) -> str:
    page, words = command
    return f"{page}: {shlex.join(words)[:80]}"


@pytest.mark.parametrize("name", PAGES)
def test_every_relative_link_leads_somewhere(name):
    page = ROOT / name
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    links = [target for target in targets if "://" not in target]
    for link in links:
        path, _, anchor = link.partition("#")
        place = page.parent / path if path else page
        assert place.exists(), link
        assert not anchor or anchor in anchors(place), link


@pytest.mark.parametrize("name", PAGES)
def test_every_path_that_a_page_names_is_there(name):
    paths = re.findall(r"`((?:kernels|harness|tests|docs)/[\w./-]+)`", prose(ROOT / name))
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_pages_tell_to_type_every_command():
    told = {words[0] for _, words in TYPED if words}
    known = typer.main.get_command(app).commands.keys()
    assert told >= known
    assert {"README.md", "docs/getting-started.md", "docs/ci.md"} <= {page for page, _ in TYPED}


@pytest.mark.parametrize("command", TYPED, ids=shown)
def test_a_command_of_a_page_parses(command):
    _, words = command
    context = parsed(words)
    given = {} if context is None else context.params
    suite, workload = given.get("suite"), given.get("workload")
    assert suite is None or suite in suite_names() or suite.endswith(".toml")
    assert workload is None or workload in WORKLOADS or workload.isupper()


@pytest.mark.parametrize("command", MADE, ids=shown)
def test_a_target_of_make_that_a_page_names_is_there(command):
    _, words = command
    for target in (word for word in words if "=" not in word):
        assert re.search(rf"^{re.escape(target)}:", MAKEFILE, flags=re.MULTILINE), target


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_short_enough_to_read(name):
    words = len((ROOT / name).read_text().split())
    assert words <= {"README.md": 900}.get(name, 1500) or name in REFERENCES, words


def test_every_page_that_a_source_cites_is_there():
    cited = {page for source in SOURCES for page in CITED.findall(text_of(source))}
    assert "docs/method.md" in cited
    assert [page for page in sorted(cited) if not (ROOT / page).exists()] == []


def test_every_section_that_a_source_cites_is_there():
    cited = {found for source in SOURCES for found in CITED_SECTION.findall(text_of(source))}
    assert ("method.md", "A verdict") in cited
    missing = [(page, name) for page, name in cited if name not in headings(ROOT / "docs" / page)]
    assert missing == []
