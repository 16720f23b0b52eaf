"""What the repository's pages and sources point to is there."""

import re
from pathlib import Path

import pytest
from places import ROOT

PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "results/README.md",
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
)
SOURCES = sorted(
    path for top in ("harness", "kernels", "tests") for path in (ROOT / top).rglob("*.py")
)
# A page of this repository, as a comment cites it.
CITED = re.compile(r"\b(?:[\w-]+/)*[A-Z][A-Z_-]{2,}\.md\b|\bdocs/[\w-]+\.md\b")
CITED_SECTION = re.compile(r"docs/([\w-]+\.md), ([A-Z][a-z]*(?: [a-z]+)*)")


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)


def anchors(page: Path) -> set[str]:
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings(page)}


def text_of(source: Path) -> str:
    """A source as one line, the marks of comments taken out."""
    return re.sub(r"\s*\n\s*(?:# )?", " ", source.read_text())


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


def test_every_page_that_a_source_cites_is_there():
    cited = {page for source in SOURCES for page in CITED.findall(text_of(source))}
    assert "docs/method.md" in cited
    assert [page for page in sorted(cited) if not (ROOT / page).exists()] == []


def test_every_section_that_a_source_cites_is_there():
    cited = {found for source in SOURCES for found in CITED_SECTION.findall(text_of(source))}
    assert ("method.md", "A verdict") in cited
    missing = [(page, name) for page, name in cited if name not in headings(ROOT / "docs" / page)]
    assert missing == []
