"""The board's pages in Chromium: read, filtered, by keyboard, on a phone, with hostile names."""

import pytest
from access import serious
from axe_playwright_python.sync_playwright import Axe
from synthetic_runs import HOSTILE, blocks, case, grid, record
from synthetic_store import environment, put, start

from lstm_harness.site import index, static_site

pytestmark = pytest.mark.browser

SHA = "ab" * 32


@pytest.fixture(scope="module")
def axe():
    return Axe()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A board: two device classes, a plugin, a tie, what is wrong, more runs than one list."""
    store = tmp_path_factory.mktemp("store")
    plugins = [{"file": "mine.py", "sha256": SHA, "backends": ["mine"]}]
    put(store / "grid", grid(["aten", "naive", "mine"], seed=1), label="sweep", plugins=plugins)
    tie = [*blocks("aten", [1000, 1100, 1000]), *blocks("naive", [1010, 1000, 1090])]
    tied = [record(r.backend, r.samples_ns, block=r.block, of=case(hidden_size=7)) for r in tie]
    put(store / "tied", [*tied, record("per_gate", status="incorrect", of=case(hidden_size=7))])
    put(store / "edited", blocks("aten", [10] * 3), start=start(1), records_sha256=SHA)
    other = environment(cpu={"model": "Another CPU", "physical_cores": 64, "threads": 64})
    for day in range(3):
        put(
            store / f"other-{day}",
            blocks("aten", [1000] * 3),
            start=start(40 + day),
            environment=other,
        )
    place = tmp_path_factory.mktemp("web")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(place / "cache"))
        patched.setattr(index, "MOST_RUNS", 4)
        return static_site.write([store], place / "site").parent.as_uri()


def board(page, name="A CPU, 2 cores"):
    """Follow the index's link to a device class."""
    page.get_by_role("link", name=name, exact=True).click()
    page.wait_for_selector("#filter-count")
    return page


def test_a_reader_finds_the_fastest_from_the_index(visit, site):
    page = board(visit(f"{site}/index.html"))
    assert page.inner_text("h1") == "A CPU, 2 cores"
    assert "is fastest in" in page.inner_text("header .lead")
    rows = page.locator("#fastest tbody tr")
    assert rows.count() == 37
    assert page.inner_text("#filter-count") == "37 of 37 cases"
    tied = page.locator("#fastest tbody tr", has_text="H7")
    assert "tie: aten, naive" in tied.inner_text()
    submitted = page.locator("#submitted tbody tr").first.inner_text()
    assert "mine.py" in submitted
    assert SHA in submitted
    assert "SHA-256 differs" in page.inner_text("#refused")
    rows.last.get_by_role("link").click()
    page.wait_for_selector("#map-table")
    assert page.inner_text("h1") == "sweep"


def test_the_filter_shows_the_cases_that_have_every_word(visit, site):
    page = board(visit(f"{site}/index.html"))
    page.get_by_label("Filter").fill("backward b16")
    assert page.inner_text("#filter-count") == "6 of 37 cases"
    assert sum(row.is_visible() for row in page.locator("#fastest tbody tr").all()) == 6


def test_keys_alone_reach_a_class_its_filter_and_a_report(visit, site):
    page = visit(f"{site}/index.html")
    page.get_by_role("link", name="A CPU, 2 cores", exact=True).press("Enter")
    page.wait_for_url("**/devices/*.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the fastest backends"
    page.keyboard.press("Enter")
    reached = []
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.href || ''")
        )
    assert reached[0] == "filter"
    assert any(one.endswith("/report.html") for one in reached)


def test_older_runs_are_in_the_page_of_their_month(visit, site):
    page = visit(f"{site}/index.html")
    assert page.locator(".card").count() == 4
    page.get_by_role("link", name="2026-01", exact=True).click()
    page.wait_for_url("**/runs-2026-01.html")
    assert page.inner_text("h1") == "3 runs of 2026-01"
    page.get_by_role("link", name="All device classes and runs").click()
    page.wait_for_url("**/index.html")


@pytest.mark.parametrize("width", [400, 1280, 2560])
def test_no_page_scrolls_sideways(visit, site, width):
    page = visit(f"{site}/index.html", width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page = board(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_phone_shows_the_case_and_its_fastest(visit, site):
    page = board(visit(f"{site}/index.html", width=400))
    for cell in page.locator("#fastest tbody tr").first.locator("th, td").all()[:2]:
        box = cell.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 400
    case = page.locator("#fastest tbody th.case").first
    assert case.bounding_box()["width"] >= 140


def test_a_phone_has_no_tall_rows(visit, site):
    page = board(visit(f"{site}/index.html", width=400))
    rows = page.locator("#fastest tbody tr").all()
    lines = 4 * page.evaluate("1.6 * parseFloat(getComputedStyle(document.body).fontSize)")
    assert max(row.bounding_box()["height"] for row in rows) < lines


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_no_page_has_a_serious_fault_of_access(visit, site, axe, scheme, width):
    page = visit(f"{site}/index.html", width=width, scheme=scheme)
    assert serious(axe, page) == []
    assert serious(axe, board(page)) == []
    page.goto(f"{site}/runs-2026-01.html")
    assert serious(axe, page) == []


@pytest.mark.parametrize("width", [400, 1280])
def test_hostile_names_are_shown_and_do_nothing(visit, tmp_path, monkeypatch, width):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number, name in enumerate(HOSTILE):
        name = f"{name}\x1b[31m"
        cpu = {"model": name, "physical_cores": 2, "threads": 2}
        put(
            tmp_path / "store" / str(number),
            [*blocks(name, [1000] * 3), record("aten", status="incorrect", reason=name)],
            label=name,
            environment=environment(host=name, cpu=cpu),
            plugins=[{"file": name, "sha256": name, "backends": [name]}],
        )
    out = static_site.write([tmp_path / "store"], tmp_path / "site")
    pages = sorted((tmp_path / "site" / "devices").iterdir())
    assert len(pages) == len(HOSTILE)
    for one in (out, *pages):
        page = visit(one.as_uri(), width=width)
        assert page.title() != "taken"
        assert page.locator("img").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width
