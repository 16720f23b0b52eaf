import csv
import os
import shutil

import pytest
from known_limits import cpu_limits
from synthetic_runs import HOSTILE, blocks, case, grid, record, run

from lstm_harness.limits.floor import with_floor
from lstm_harness.report import write

pytestmark = pytest.mark.browser

REQUIRED = os.environ.get("LSTM_BENCH_REQUIRE_BROWSER") == "1"
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
)


def absent(why):
    """Skip for want of a browser, or fail where one was promised."""
    (pytest.fail if REQUIRED else pytest.skip)(why)


@pytest.fixture(scope="module")
def chromium():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        absent("playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        absent("no Chromium found; install it to test the page")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture
def view(chromium, tmp_path):
    """Open the report of runs with the network cut; its console must stay silent."""
    said, contexts = [], []

    def open_page(*runs, width=1280, scheme="light", fragment=""):
        out = write(runs, tmp_path / "report.html")
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if outside(request) else None)
        page.goto(out.as_uri() + fragment)
        page.wait_for_function("document.querySelectorAll('#all-rows tbody').length === 1")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def outside(request):
    return not request.url.startswith(("file:", "data:", "blob:"))


def marks_drawn(page, plot):
    page.wait_for_selector(f"#{plot} .scatterlayer")
    return page.locator(f"#{plot} .scatterlayer .point").count()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_figure_has_its_marks(view, scheme):
    page = view(run(grid()), scheme=scheme)
    assert page.locator("#map-table tbody button").count() == 9
    assert marks_drawn(page, "over_t") == 5 * 3
    assert marks_drawn(page, "over_b") == 5 * 3
    assert page.locator("#detail li").count() == 5
    for plot in ("over_t", "over_b"):
        said = page.get_attribute(f"#{plot}", "aria-label")
        assert said == page.inner_text(f"#{plot}-answer")
        assert "steps a second" in said


def test_the_distance_to_the_floor_follows_the_map(view):
    records = [with_floor(one, cpu_limits()) for one in grid()]
    records += blocks("aten", [9000] * 3, of=case(seq_len=256, batch=1, hidden_size=128))
    page = view(run(records, limits=cpu_limits().to_dict()))
    page.locator('#map-table button[data-t="32"][data-b="1"]').click()
    assert marks_drawn(page, "share") == 5 * 2
    first = page.inner_text("#distance-answer")
    assert "of the floor" in first
    assert first in page.get_attribute("#step", "aria-label")
    page.locator('#map-table button[data-t="128"][data-b="16"]').click()
    assert page.inner_text("#distance-answer") != first
    page.locator('#map-table button[data-t="256"][data-b="1"]').click()
    assert page.inner_text("#distance-answer") == "No floor is known here."
    assert not page.locator("#distance").is_visible()


def test_a_switch_changes_what_it_says_and_nothing_else(view):
    page = view(run(grid()))
    before = page.inner_text("#map-answer"), page.inner_text("#over_t-answer")
    page.locator("#switches label", has_text="256").click()
    after = page.inner_text("#map-answer"), page.inner_text("#over_t-answer")
    assert after[1] != before[1]
    chosen = page.locator("#switches input:checked + span").all_inner_texts()
    assert chosen == ["forward", "256"]


def test_switches_answer_the_keyboard(view):
    page = view(run(grid()))
    page.locator("#switches input:checked").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#switches input:checked + span").all_inner_texts()[0] == "backward"
    assert "pass=backward" in page.url


def test_the_map_chooses_what_the_curves_show(view):
    page = view(run(grid()))
    page.locator('#map-table button[data-t="32"][data-b="1"]').press("Enter")
    assert page.inner_text("#detail h3").startswith("T = 32, B = 1")
    assert page.inner_text(".chosen-b") == "1"
    assert page.locator('#map-table button[aria-pressed="true"]').count() == 1


def test_a_switch_to_a_slice_that_lacks_the_others_shows_the_nearest(view):
    records = [
        *blocks("aten", [10] * 3, of=case("forward", hidden_size=64)),
        *blocks("aten", [10] * 3, of=case("backward", hidden_size=128)),
    ]
    page = view(run(records))
    page.locator("#switches label", has_text="backward").click()
    chosen = page.locator("#switches input:checked + span").all_inner_texts()
    assert chosen == ["backward", "128"]


def test_a_link_restores_the_view(view):
    fragment = "#pass=backward&hidden_size=256&T=64&B=4&hide=naive"
    page = view(run(grid()), fragment=fragment)
    chosen = page.locator("#switches input:checked + span").all_inner_texts()
    assert chosen == ["backward", "256"]
    assert page.inner_text("#detail h3").startswith("T = 64, B = 4")
    assert marks_drawn(page, "over_t") == 4 * 3


def test_a_foolish_link_shows_the_page_all_the_same(view):
    page = view(run(grid()), fragment="#pass=sideways&T=x&B=-1&hide=nobody&__proto__=1&%")
    assert page.locator("#map-table tbody button").count() == 9


def test_a_hidden_backend_leaves_the_curves_and_comes_back(view):
    page = view(run(grid()))
    box = page.locator("#legend label", has_text="naive").locator("input")
    box.uncheck()
    assert marks_drawn(page, "over_b") == 4 * 3
    box.check()
    assert marks_drawn(page, "over_b") == 5 * 3


def test_the_file_has_every_row_whatever_the_table_shows(view):
    records = [*grid(), record("=1+1", status="crashed", reason='a "quoted", reason\nof two lines')]
    page = view(run(records))
    page.fill("#filter", "naive forward")
    assert "18 of 181" in page.inner_text("#row-count")
    with page.expect_download() as download:
        page.click("#csv")
    with open(download.value.path(), newline="", encoding="utf-8") as file:  # noqa: PTH123 - newline
        rows = list(csv.DictReader(file))
    assert len(rows) == len({(r.backend, r.case) for r in records}) == 181
    crashed = next(row for row in rows if row["status"] == "crashed")
    assert crashed["reason"] == 'a "quoted", reason\nof two lines'
    assert crashed["backend"] == "'=1+1"
    assert crashed["median_ns"] == ""


def test_rows_sort_by_a_column_both_ways(view):
    page = view(run(grid()))
    head = page.locator("#all-rows th button", has_text="Median")
    place = page.locator("#all-rows th").all_inner_texts().index("Median (ns)")
    for direction, order in (("ascending", sorted), ("descending", lambda v: sorted(v)[::-1])):
        head.press("Enter")
        assert page.locator("#all-rows th[aria-sort]").get_attribute("aria-sort") == direction
        cells = page.locator(f"#all-rows tbody td:nth-child({place + 1})").all_inner_texts()
        values = [float(cell.replace(",", "")) for cell in cells]
        assert values == order(values)


def test_more_rows_come_on_demand(view):
    page = view(run(grid(block_count=1)))
    assert page.locator("#all-rows tbody tr").count() == 30
    page.click("#more")
    assert page.locator("#all-rows tbody tr").count() == 180
    assert page.is_hidden("#more")


@pytest.mark.parametrize("width", [400, 1280, 2560])
def test_hostile_names_are_shown_and_do_nothing(view, width):
    slow = [one for name in HOSTILE for one in blocks(name, [1000, 1001, 1002])]
    bad = [record("bad", status="error", reason=name) for name in HOSTILE[:1]]
    made = run([*slow, *bad], label=HOSTILE[3], environment={HOSTILE[0]: HOSTILE[3]})
    page = view(made, width=width)
    title = page.title()
    assert title != "taken"
    assert page.locator("#detail li").count() == len(HOSTILE) + 1
    assert page.locator("img").count() == 0
    page.locator("#over_t .scatterlayer .point").first.hover(force=True)
    assert page.title() == title
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scroll(view, scheme):
    axes = {"batch": (1, 2, 4, 8, 16, 32, 64, 128), "hidden_size": (128, 256, 512, 1024, 2048)}
    page = view(run(grid(block_count=1, **axes)), width=400, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_dark_and_light_follow_the_reader(view):
    page = view(run(grid(block_count=1)))
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    assert marks_drawn(page, "over_t") == 15


@pytest.mark.parametrize(
    "records",
    [
        [],
        [record(samples_ns=(5,))],
        [record(status="incorrect"), record("aten", status="crashed")],
        list(grid(["naive"], block_count=1)),
    ],
    ids=["nothing", "one-sample", "nothing-correct", "one-backend"],
)
def test_a_run_of_little_is_still_a_page(view, records):
    page = view(run(records))
    assert page.is_visible("text=Can I trust it?")
    count = len({(one.backend, one.case) for one in records})
    assert page.inner_text("#row-count") == f"{count} of {count} rows"


def test_several_runs_stand_side_by_side(view):
    page = view(run(grid(seed=1), label="before"), run(grid(seed=2), label="after"))
    first = page.inner_text("#over_t-answer"), page.inner_text("#detail")
    page.locator("#switches label", has_text="after").click()
    assert (page.inner_text("#over_t-answer"), page.inner_text("#detail")) != first
