"""What pages share: within a page, or in files that it refers to."""

import hashlib
import re

import pytest
from plotly.offline import get_plotlyjs
from synthetic_runs import record, run
from written_pages import unpacked

from lstm_harness.report import assets
from lstm_harness.report.page import render


def directive(policy, name):
    return next(each for each in policy.split("; ") if each.startswith(f"{name} ")).split()[1:]


def test_plotly_comes_packed_and_whole_under_the_hash_of_its_code():
    page = assets.of_page("lines")
    code = unpacked(page.packed_plotly)
    assert code == get_plotlyjs()
    assert len(page.packed_plotly) < 0.45 * len(code)
    allowed = [assets._source_hash(one) for one in (code, page.script.content)]
    assert directive(page.policy, "script-src") == allowed


def test_a_page_that_runs_nothing_is_allowed_nothing():
    for at in ("", "assets"):
        assert "script-src" not in assets.of_page(at=at).policy


def test_a_page_that_refers_to_its_scripts_runs_none_within_it():
    allowed = directive(assets.of_page("lines", at="assets").policy, "script-src")
    assert allowed == ["'self'", "file:"]


@pytest.mark.parametrize("one", assets.every(), ids=lambda one: one.name)
def test_a_file_has_the_digest_of_its_content_in_its_name(one):
    assert (
        hashlib.sha256(one.content.encode())
        .hexdigest()
        .startswith(re.search(r"-([0-9a-f]{16})\.(js|css)$", one.name)[1])
    )


def test_a_report_of_a_site_says_the_same_and_has_nothing_of_its_own():
    runs = [run([record()])]
    alone, shared = render(runs), render(runs, shared="../../assets")
    names = [one.name for one in assets.every()]
    used = re.findall(r'(?:src|href)="\.\./\.\./assets/([^"]+)"', shared)
    assert len(used) == 3
    assert set(used) < set(names)
    assert not any(name in alone for name in names)
    assert "<style" not in shared
    assert len(shared) < 100_000 < 2_000_000 < len(alone)
    said = [re.search(r"<main.*</main>", page, re.DOTALL)[0] for page in (alone, shared)]
    assert said[0] == said[1]


def test_a_report_of_a_site_says_what_it_needs_where_it_was_copied_alone():
    runs = [run([record()])]
    assert "needs the folder <code>assets</code>" in render(runs, shared="assets")
    assert "needs the folder" not in render(runs)
