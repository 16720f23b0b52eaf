"""The pages around a report, in Chromium: the index from a file and served, verdicts, history."""

import shutil
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from access import serious
from axe_playwright_python.sync_playwright import Axe
from report_pages import drawn
from synthetic_runs import HOSTILE, blocks, grid, record
from synthetic_store import environment, put, series, start

from lstm_harness.report.write import write_report
from lstm_harness.site import server as view
from lstm_harness.site import static_site
from lstm_harness.site.pages import Pages
from lstm_harness.store import run_folder

pytestmark = pytest.mark.browser

LEVEL = [100_000, 101_000, 99_000, 100_500, 99_500, 100_800, 99_200, 100_300, 99_700, 100_000]


@pytest.fixture(scope="module")
def axe():
    return Axe()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A store: a grid, twice, the second slower in one backend; a long series; a broken run."""
    folder = tmp_path_factory.mktemp("runs")
    first = list(grid(["aten", "naive"], block_count=5, seed=1))
    second = [
        record(r.backend, [2 * s for s in r.samples_ns], block=r.block, of=r.case)
        if r.backend == "naive" and r.case.problem.batch == 4
        else r
        for r in grid(["aten", "naive"], block_count=5, seed=2)
    ]
    put(folder / "grid-1", first, start=start(50), label="before", suite="sweep")
    put(folder / "grid-2", second, start=start(51), label="after", suite="sweep")
    series(folder / "daily", [*LEVEL, *[round(1.2 * time) for time in LEVEL]], label="nightly")
    put(folder / "bad", [record(status="incorrect")], start=start(60), label="wrong one")
    (folder / "torn").mkdir()
    (folder / "torn" / "run.json").write_text("{")
    return folder


@pytest.fixture(scope="module")
def written(runs, tmp_path_factory):
    place = tmp_path_factory.mktemp("web")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(place / "cache"))
        return static_site.write([runs], place / "site").parent.as_uri()


@pytest.fixture(scope="module")
def served(runs, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        with view.server(Pages(runs), 0) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            yield f"http://127.0.0.1:{server.server_address[1]}"
            server.shutdown()
            thread.join()


@pytest.fixture
def browse(visit):
    return visit


@pytest.fixture(params=["file", "served"])
def index(request):
    return request.getfixturevalue("written" if request.param == "file" else "served") + (
        "/index.html"
    )


def shown(page):
    return [card for card in page.locator(".card").all() if card.is_visible()]


def test_one_card_a_run_newest_first(browse, index):
    page = browse(index)
    names = page.locator(".card h2").all_inner_texts()
    assert names[:3] == ["wrong one", "after", "before"]
    assert names[3:] == ["nightly"] * 20
    assert page.inner_text("#filter-count") == "23 of 23 runs"
    assert "torn" in page.inner_text("#left-out")
    after = page.locator(".card").nth(1)
    assert "aten is fastest in 36 of 36 cases" in after.inner_text()
    assert "Regression against before" in after.inner_text()


def test_the_filter_shows_what_has_every_word(browse, index):
    page = browse(index)
    page.get_by_label("Filter").fill("SWEEP aten")
    assert page.inner_text("#filter-count") == "2 of 23 runs"
    assert len(shown(page)) == 2
    page.get_by_label("Filter").fill("no such thing")
    assert shown(page) == []
    page.get_by_label("Filter").fill("")
    assert len(shown(page)) == 23


def test_keys_alone_reach_filter_history_and_reports(browse, index):
    page = browse(index)
    reached, where = [], "document.activeElement.id || document.activeElement.href || ''"
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(where))
    assert "filter" in reached
    assert any(one.endswith("/history.html") for one in reached)
    assert any(one.endswith("/report.html") for one in reached)
    page.get_by_role("link", name="wrong one", exact=True).press("Enter")
    page.wait_for_url("**/runs/bad/report.html")
    assert page.inner_text("h1") == "wrong one"


def test_a_report_draws_its_figures_with_the_plotly_of_all(browse, index):
    page = browse(index)
    page.get_by_role("link", name="before", exact=True).click()
    assert all(drawn(page, "throughput-over-t"))
    sheets = page.evaluate("[...document.styleSheets].map((sheet) => sheet.href || '')")
    scripts = page.evaluate("[...document.scripts].map((script) => script.src).filter(Boolean)")
    assert "/assets/page-" in sheets[0]
    assert [name.rpartition("/assets/")[2].partition("-")[0] for name in scripts] == [
        *("report", "plotly")
    ]
    assert page.locator(".needs-site").is_hidden()
    page.locator("#samples-show").click()
    page.locator("#samples .main-svg").first.wait_for()


def test_a_report_that_was_copied_out_of_its_site_says_what_it_needs(chromium, written, tmp_path):
    site = Path(urlsplit(written).path)
    shutil.copyfile(site / "runs" / "grid-1" / "report.html", tmp_path / "report.html")
    context = chromium.new_context(offline=True)
    page = context.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    said = page.locator(".needs-site")
    assert said.is_visible()
    assert "lstm-bench report RUN -o FILE" in said.inner_text()
    context.close()


def test_a_single_report_that_is_moved_away_draws_its_figures(visit, runs, tmp_path):
    out = write_report([run_folder.load(runs / "grid-1")], tmp_path / "one.html")
    (tmp_path / "elsewhere").mkdir()
    moved = out.rename(tmp_path / "elsewhere" / "report.html")
    page = visit(moved.as_uri())
    assert all(drawn(page, "throughput-over-t"))
    assert page.evaluate("[...document.scripts].some((script) => script.src)") is False


def test_the_verdict_links_to_the_comparison(browse, index):
    page = browse(index)
    page.get_by_role("link", name="Regression", exact=True).first.click()
    page.wait_for_selector("#verdicts")
    assert "REGRESSION" in page.inner_text("#verdicts")
    map_of_naive = page.locator(".ratio-maps figure", has_text="naive, forward").first
    assert "slower" in map_of_naive.inner_text()
    assert map_of_naive.locator("td.slower.proven").count() == 3


def test_two_runs_are_chosen_and_compared(browse, served):
    page = browse(f"{served}/")
    cards = page.locator(".card")
    cards.nth(2).get_by_label("base").check()
    cards.nth(0).get_by_label("new").press("Space")
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url("**/compare?*")
    assert {"base=grid-1", "new=bad"} == set(page.url.partition("?")[2].split("&"))
    assert "2 runs side by side" in page.inner_text("h1")
    assert page.is_visible("#verdicts")


def test_nothing_is_compared_before_two_are_chosen(browse, served):
    page = browse(f"{served}/")
    page.get_by_role("button", name="Compare").press("Enter")
    assert page.url == f"{served}/"


def test_the_history_is_drawn_told_and_listed(browse, index):
    page = browse(index)
    page.get_by_role("link", name="How did times change").click()
    page.wait_for_selector("#series-0 .scatterlayer .point")
    plots = page.locator(".plot").count()
    for number in range(plots):
        assert page.locator(f"#series-{number} .scatterlayer .point").count() > 0
        names = page.get_attribute(f"#series-{number}", "aria-labelledby").split()
        assert all(page.inner_text(f"#{name}").strip() for name in names)
    told = page.locator("main section", has_text="naive stepped by +20").first
    told.locator("summary").press("Enter")
    assert told.locator("details tbody tr").count() == 20
    page.get_by_role("link", name="All runs").click()
    page.wait_for_selector("#filter-count")


def test_a_history_with_no_time_draws_nothing_and_says_so(browse, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    put(tmp_path / "store" / "one", [record(status="crashed")])
    out = static_site.write([tmp_path / "store"], tmp_path / "site")
    page = browse(out.with_name("history.html").as_uri())
    assert "nothing to draw" in page.inner_text("header")
    assert page.locator(".plot").count() == 0


@pytest.mark.parametrize("width", [400, 2560])
@pytest.mark.parametrize("where", ["index.html", "history.html", "runs/grid-2/compare.html"])
def test_no_page_scrolls_sideways(browse, written, served, where, width):
    for root in (written, served):
        page = browse(f"{root}/{where}", width=width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_phone_shows_who_changed_and_by_how_much(browse, written):
    page = browse(f"{written}/runs/grid-2/compare.html", width=400)
    cells = page.locator("#verdicts tbody tr").first.locator("td, th").all()[:3]
    verdict, backend, change = (cell.inner_text() for cell in cells)
    assert (verdict, backend) == ("REGRESSION", "naive")
    assert change.startswith("+")
    for box in (cell.bounding_box() for cell in cells):
        assert box["x"] + box["width"] <= 400


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("where", ["index.html", "history.html", "runs/grid-2/compare.html"])
def test_no_page_has_a_serious_fault_of_access(browse, written, axe, where, scheme):
    page = browse(f"{written}/{where}", scheme=scheme)
    assert serious(axe, page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_neither_has_a_served_index_or_the_verdicts_of_a_report(browse, served, axe, scheme):
    page = browse(f"{served}/", scheme=scheme)
    assert serious(axe, page) == []
    page = browse(f"{served}/compare?base=grid-1&new=grid-2", scheme=scheme)
    assert serious(axe, page, "#verdicts") == []


@pytest.mark.parametrize("how", ["file", "served"])
@pytest.mark.parametrize("width", [400, 1280])
def test_hostile_names_are_shown_and_do_nothing(browse, tmp_path, monkeypatch, how, width):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number, name in enumerate(HOSTILE):
        folder = name.replace("/", "%2f")[:80] + str(number)
        fields = {"label": name, "id": name, "suite": name, "environment": environment(host=name)}
        for day in (0, 1):
            records = blocks(name, [100_000 * (day + 1)] * 3)
            put(tmp_path / "store" / folder / str(day), records, start=start(day), **fields)
    if how == "file":
        addresses = [static_site.write([tmp_path / "store"], tmp_path / "site").parent.as_uri()]
        look_at(browse, addresses[0], width)
        return
    with view.server(Pages(tmp_path / "store"), 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            look_at(browse, f"http://127.0.0.1:{server.server_address[1]}", width)
        finally:
            server.shutdown()
            thread.join()


def look_at(browse, root, width):
    page = browse(f"{root}/index.html", width=width)
    assert page.locator(".card").count() == 2 * len(HOSTILE)
    links = page.locator(".against a").all()
    assert len(links) == len(HOSTILE)
    addresses = [link.evaluate("each => each.href") for link in links]
    for address in (f"{root}/index.html", f"{root}/history.html", *addresses[:3]):
        page = browse(address, width=width)
        assert page.title() != "taken"
        assert page.locator("img").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width
