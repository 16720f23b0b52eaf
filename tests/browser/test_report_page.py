import csv
import math

import pytest
from report_pages import choices, drawn, full_run, payload, shows
from synthetic_runs import blocks, case, grid, record, run

from lstm_harness.analysis.summary import CASE_COLUMNS, plain_rows, summarise

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_figure_has_its_marks(view, scheme):
    page = view(full_run(), scheme=scheme)
    panels = payload(page)["panels"]
    assert {"ladder", "heaviness", "throughput-over-t", "limits", "memory"} <= {
        panel["id"] for panel in panels
    }
    for panel in panels:
        marks = drawn(page, panel["id"])
        assert marks, panel["id"]
        assert all(marks), (panel["id"], marks)
    assert drawn(page, "throughput-over-t") == [5 * 3]
    assert page.locator("#map-table tbody button").count() == 9
    assert page.locator("#detail li").count() == 5


def test_every_plot_says_in_words_what_it_shows(view):
    page = view(full_run())
    for panel in payload(page)["panels"]:
        answer = page.inner_text(f"#{panel['id']} .chosen-answer")
        for plot in page.locator(f"#{panel['id']} .plot").all():
            assert plot.get_attribute("role") == "img"
            assert plot.get_attribute("aria-label").endswith(answer)


def test_the_table_of_a_plot_holds_its_numbers(view):
    page = view(full_run(), fragment="#pass=forward&hidden_size=128&T=64&B=4")
    shows(page, "throughput-over-t")
    cells = page.locator("#throughput-over-t .tables tbody tr").nth(3).locator("th, td")
    summary = summarise(full_run().records)
    line = summary[(summary["backend"] == "aten") & (summary["batch"] == 4)]
    line = line[(line["pass"] == "forward") & (line["hidden_size"] == 128)].sort_values("seq_len")
    name, *values = cells.all_inner_texts()
    assert name == "aten"
    assert [float(value.replace(",", "")) for value in values] == pytest.approx(
        list(line["steps_per_s"]), rel=1e-3
    )


@pytest.mark.parametrize(
    ("column", "label", "to"), [("hidden_size", "256", 256), ("pass", "backward", "backward")]
)
def test_a_switch_changes_what_it_says_and_nothing_else(view, column, label, to):
    page = view(full_run(), fragment="#pass=forward&hidden_size=128&T=64&B=4")
    panels = payload(page)["panels"]
    before = {panel["id"]: shows(page, panel["id"]) for panel in panels}
    map_before = page.inner_text("#detail")
    page.locator("#switches label", has_text=label).click()
    wanted = {"pass": "forward", "hidden_size": 128} | {column: to}
    assert choices(page) == [str(value) for value in wanted.values()]
    assert page.inner_text("#detail h3").startswith("T = 64, B = 4")
    assert page.inner_text("#detail") != map_before
    for panel in panels:
        changed = shows(page, panel["id"]) != before[panel["id"]]
        assert changed == (column in panel["by"]), panel["id"]


def test_the_map_chooses_what_the_figures_show(view):
    page = view(full_run(), fragment="#pass=forward&hidden_size=128&T=64&B=4")
    panels = payload(page)["panels"]
    before = {panel["id"]: shows(page, panel["id"]) for panel in panels}
    page.locator('#map-table button[data-t="64"][data-b="16"]').click()
    assert page.locator('#map-table button[aria-pressed="true"]').get_attribute("data-b") == "16"
    assert page.inner_text("#detail h3").startswith("T = 64, B = 16")
    for panel in panels:
        changed = shows(page, panel["id"]) != before[panel["id"]]
        assert changed == ("batch" in panel["by"]), panel["id"]


def test_a_choice_without_a_figure_says_so_and_shows_none(view):
    records = [*blocks("aten", [10] * 3), *blocks("aten", [20] * 3, of=case(seq_len=64))]
    records.append(record("aten", of=case(batch=8), status="crashed"))
    page = view(run(records), fragment="#T=32&B=8")
    assert "nothing was measured here" in page.inner_text("#throughput-over-t .chosen")
    assert not page.locator("#throughput-over-t .drawn").is_visible()
    page.locator('#map-table button[data-t="64"][data-b="4"]').click()
    assert drawn(page, "throughput-over-t") == [2]


def test_a_panel_of_nothing_measured_is_one_line(view):
    page = view(full_run())
    (section,) = page.locator("#energy").all()
    assert "not measured" in section.inner_text()
    assert section.locator(".plot, .legend, details").count() == 0


def test_a_switch_to_a_slice_that_lacks_the_others_shows_the_nearest(view):
    records = [
        *blocks("aten", [10] * 3, of=case("forward", hidden_size=64)),
        *blocks("aten", [10] * 3, of=case("backward", hidden_size=128)),
    ]
    page = view(run(records))
    page.locator("#switches label", has_text="backward").click()
    assert choices(page) == ["backward", "128"]


def test_a_link_restores_the_view(view):
    fragment = "#pass=backward&hidden_size=256&T=64&B=4&hide=naive&theme=dark"
    fragment += "&filter=aten+backward&sort=-median_ns&samples=aten"
    page = view(full_run(), fragment=fragment)
    assert choices(page) == ["backward", "256"]
    assert page.inner_text("#detail h3").startswith("T = 64, B = 4")
    assert drawn(page, "throughput-over-t") == [4 * 3]
    assert page.locator("#theme input:checked").get_attribute("value") == "dark"
    assert "18 of 181 rows" in page.inner_text("#row-count")
    assert page.locator("#all-rows th[aria-sort=descending]").inner_text().startswith("Median")
    assert page.inner_text("#samples-answer").startswith("T = 64, B = 4: aten")
    page.locator("#switches label", has_text="forward").click()
    again = view(full_run(), fragment="#" + page.url.partition("#")[2])
    assert again.inner_text("#detail") == page.inner_text("#detail")
    assert again.url.partition("#")[2] == page.url.partition("#")[2]


def test_a_link_to_a_section_keeps_the_view(view):
    page = view(full_run(), fragment="#pass=backward&T=64&B=4", width=2560)
    page.locator('nav a[href="#trust"]').click()
    assert choices(page)[0] == "backward"
    assert "pass=backward" in page.url


def test_a_foolish_link_shows_the_page_all_the_same(view):
    fragment = "#pass=sideways&T=x&B=-1&hide=nobody&__proto__=1&sort=-x&theme=red&samples=nobody&%"
    page = view(run(grid()), fragment=fragment)
    assert page.locator("#map-table tbody button").count() == 9
    assert "no samples" in page.inner_text("#samples-answer")


def test_a_hidden_backend_leaves_every_figure_and_comes_back(view):
    page = view(full_run())
    box = page.locator("#throughput-over-b .legend label", has_text="naive").locator("input")
    box.uncheck()
    assert drawn(page, "throughput-over-b") == [4 * 3]
    assert drawn(page, "throughput-over-t") == [4 * 3]
    assert not page.locator("#memory .legend label", has_text="naive").locator("input").is_checked()
    box.check()
    assert drawn(page, "throughput-over-b") == [5 * 3]


def test_the_theme_is_the_readers(view):
    page = view(full_run())

    def paper():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = paper()
    page.locator("#theme label", has_text="dark").click()
    dark = paper()
    assert dark != light
    page.emulate_media(color_scheme="dark")
    page.locator("#theme label", has_text="light").click()
    assert paper() == light
    page.locator("#theme label", has_text="auto").click()
    assert paper() == dark
    assert drawn(page, "throughput-over-t") == [15]


def test_the_pointer_finds_backend_place_and_time(view):
    page = view(full_run(), fragment="#pass=forward&hidden_size=128&T=64&B=4")
    drawn(page, "throughput-over-t")
    page.locator("#throughput-over-t .points path").first.hover(force=True)
    page.wait_for_selector("#throughput-over-t .hoverlayer text")
    said = page.locator("#throughput-over-t .hoverlayer").first.inner_html()
    for part in ("per_gate", "T 32, B 4, H 128", "steps a second", "95%"):
        assert part in said


def test_the_file_equals_the_summary_of_the_records(view):
    reason = 'a "quoted", reason\nof two lines'
    made = full_run()
    records = [*made.records, record("=1+1", status="crashed", reason=reason)]
    page = view(run(records))
    page.fill("#filter", "naive forward")
    assert "18 of 182" in page.inner_text("#row-count")
    with page.expect_download() as download:
        page.click("#csv")
    with open(download.value.path(), newline="", encoding="utf-8") as file:  # noqa: PTH123 - newline
        rows = list(csv.DictReader(file))
    summary = plain_rows(summarise(records))
    known = {(row["backend"], row["label"]): row for row in summary}
    cells = {(row["backend"], *(row[name] for name in CASE_COLUMNS)): row for row in rows}
    assert len(rows) == len(cells) == len(known) == 182
    for row in known.values():
        name = "'=1+1" if row["backend"] == "=1+1" else row["backend"]
        place = (csv_text(row[column]) for column in CASE_COLUMNS)
        stored = cells[(name, *place)]
        for column, text in stored.items():
            if column != "backend":
                assert_same(text, row[column])


def csv_text(value):
    """As JavaScript writes it: 0.0 is 0."""
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def assert_same(text, value):
    if value is None or (isinstance(value, float) and math.isnan(value)):
        assert text == ""
    elif isinstance(value, bool | str):
        assert text == csv_text(value)
    else:
        assert float(text) == pytest.approx(value, rel=1e-5)


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


def test_samples_come_when_asked_with_the_marked_ones_apart(view):
    records = [record("aten", range(1000, 1030), block=block, marked=(3, 7)) for block in range(3)]
    records += [record("naive", range(2000, 2030), block=block) for block in range(3)]
    page = view(run(records))
    assert page.locator("#samples .drawn").is_hidden()
    page.locator("#detail button", has_text="samples of all").click()
    page.locator("#samples .main-svg").first.wait_for()
    order = page.locator("#samples .plot").first.locator(".scatterlayer .trace")
    counts = [order.nth(i).locator(".points path").count() for i in range(order.count())]
    assert counts == [3 * 30, 3 * 28, 3 * 2]
    assert "6 of all samples are marked" in page.inner_text("#samples-answer")
    assert page.locator("#samples .shapelayer path").count() == 2
    page.locator("#samples details summary").click()
    table = page.locator("#samples tbody tr").all_inner_texts()
    assert len(table) == 6
    assert "samples=" in page.url
    page.locator("#samples-show").click()
    assert page.locator("#samples .drawn").is_hidden()
    assert "samples=" not in page.url


def test_a_row_shows_its_own_samples(view):
    page = view(full_run(), fragment="#filter=aten+backward")
    row = page.locator("#all-rows tbody tr").last
    cells = row.locator("td").all_inner_texts()
    row.locator("button").click()
    said = page.locator("#samples-answer")
    said.filter(has_text="aten").wait_for()
    assert said.inner_text().startswith(f"T = {cells[1]}, B = {cells[2]}: aten")
    assert choices(page) == [cells[4], cells[3]]


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
    assert page.is_visible("#trust-title")
    count = len({(one.backend, one.case) for one in records})
    assert page.inner_text("#row-count") == f"{count} of {count} rows"
    for section in page.locator("main > section").all():
        assert len(section.inner_text().splitlines()) > 1
    for panel in payload(page)["panels"]:
        if page.locator(f"#{panel['id']} .drawn").is_visible():
            assert all(drawn(page, panel["id"]))


def test_a_thousand_cells_are_drawn_as_any(view):
    axes = {"hidden_size": (64, 128, 256, 512), "seq_len": (8, 16, 32, 64, 128)}
    page = view(run(grid(block_count=3, sample_count=2, batch=(1, 2, 4, 8, 16), **axes)))
    assert page.inner_text("#row-count") == "1000 of 1000 rows"
    assert page.locator("#map-table tbody button").count() == 25
    assert drawn(page, "throughput-over-t") == [5 * 5]


def test_several_runs_stand_side_by_side(view):
    page = view(run(grid(seed=1), label="before"), run(grid(seed=2), label="after"))
    first = shows(page, "throughput-over-t"), page.inner_text("#detail")
    page.locator("#switches label", has_text="after").click()
    assert (shows(page, "throughput-over-t"), page.inner_text("#detail")) != first


def test_what_a_bar_says_stands_beside_its_name(view):
    page = view(full_run(), fragment="#pass=forward&hidden_size=128&T=64&B=4")
    drawn(page, "ladder")
    labels = page.locator("#ladder .plot").first.locator(".ytick text").all_text_contents()
    assert labels[0] == "per_gatebottom"
    assert all("\N{MULTIPLICATION SIGN}" in label for label in labels[1:])
    page.locator("#ladder details summary").click()
    assert "per_gate\tper_gate\t1" in page.inner_text("#ladder .tables tbody >> nth=0")
