"""Who cannot use a mouse, or a wide screen, or bright light, gets the same page."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from report_pages import drawn, full_run, payload
from synthetic_runs import blocks, grid, run

from lstm_harness.report.marks import FIXED

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(view, theme):
    page = view(full_run(), fragment=f"#theme={theme}&samples=")
    page.locator("#samples .main-svg").first.wait_for()
    for panel in payload(page)["panels"]:
        drawn(page, panel["id"])
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    found = [
        (one["id"], node["target"], node["failureSummary"])
        for one in Axe().run(page).response["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
    assert found == []


# The contrast of the text of a square of the map on its fill, which axe does not compute.
SQUARE = """([light, dark, strength]) => {
  const button = document.querySelector("#map-table button");
  button.style.setProperty("--mark", `light-dark(${light}, ${dark})`);
  button.style.setProperty("--strength", strength);
  const brush = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const luminance = (colour) => {
    brush.fillStyle = colour;
    brush.fillRect(0, 0, 1, 1);
    const linear = [...brush.getImageData(0, 0, 1, 1).data].slice(0, 3).map((byte) => {
      const part = byte / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const style = getComputedStyle(button);
  const both = [luminance(style.color), luminance(style.backgroundColor)].sort((a, b) => b - a);
  return (both[0] + 0.05) / (both[1] + 0.05);
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_square_of_the_map_can_be_read(view, theme):
    page = view(run(grid(block_count=1)), fragment=f"#theme={theme}")
    for name, mark in FIXED.items():
        for strength in (0, 1):
            contrast = page.evaluate(SQUARE, [mark.light, mark.dark, strength])
            assert contrast >= 4.5, (name, strength)


# Every control that is shown; of radio buttons the one in the tab order, of the map's squares too.
CONTROLS = """() => [...document.querySelectorAll("a[href], button, input, summary, [tabindex]")]
  .filter((node) => node.checkVisibility() && node.tabIndex >= 0)
  .filter((node) => node.type !== "radio" || node.checked)
  .map((node, number) => (node.dataset.stop = String(number)))"""


def test_the_keyboard_alone_reaches_everything(view):
    page = view(full_run(), fragment="#filter=aten+forward+256&samples=")
    page.locator("#samples .main-svg").first.wait_for()
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    wanted = page.evaluate(CONTROLS)
    assert len(wanted) > 80
    reached = set()
    for _ in range(len(wanted) + 5):
        page.keyboard.press("Tab")
        stop = page.evaluate("document.activeElement?.dataset.stop")
        if stop is not None:
            reached.add(stop)
    missed = set(wanted) - reached
    assert missed == set(), [
        page.locator(f'[data-stop="{stop}"]').evaluate("(node) => node.outerHTML.slice(0, 200)")
        for stop in missed
    ]


def test_switches_and_map_answer_arrow_keys(view):
    page = view(full_run(), fragment="#pass=forward&hidden_size=128&T=64&B=4")
    page.locator("#switches input:checked").first.focus()
    page.keyboard.press("ArrowRight")
    assert "pass=backward" in page.url
    square = page.locator('#map-table button[tabindex="0"]')
    assert square.count() == 1
    square.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    assert page.inner_text("#detail h3").startswith("T = 32, B = 16")
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"


def test_what_has_the_focus_is_seen(view):
    page = view(full_run())
    for control in ("#csv", "#filter", "#map-table button[tabindex='0']", "nav + main summary"):
        page.locator(control).first.focus()
        page.keyboard.press("Shift")  # the focus is the keyboard's from here on
        outline = page.locator(control).first.evaluate("(n) => getComputedStyle(n).outlineStyle")
        assert outline != "none", control


@pytest.mark.parametrize("width", [400, 2560])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_width_needs_a_sideways_scroll(view, width, scheme):
    axes = {"batch": (1, 2, 4, 8, 16, 32, 64, 128), "hidden_size": (128, 256, 512, 1024, 2048)}
    made = run(grid(block_count=3, sample_count=3, **axes))
    page = view(made, width=width, scheme=scheme, fragment="#samples=")
    page.locator("#samples .main-svg").first.wait_for()
    for panel in payload(page)["panels"]:
        drawn(page, panel["id"])
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


LINES = """(cell) => {
  const range = document.createRange();
  range.selectNodeContents(cell);
  return new Set([...range.getClientRects()].map((box) => box.top)).size;
}"""


def test_a_phone_breaks_no_name_of_a_usual_length(view):
    page = view(run(blocks("onnxruntime", [1000] * 3)), width=400)
    cell = page.locator("#trust tbody .name", has_text="onnxruntime").first
    assert cell.evaluate(LINES) == 1


def test_paper_gets_every_figure_and_no_switch(view):
    page = view(full_run(), scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    for panel in payload(page)["panels"]:
        page.locator(f"#{panel['id']} .points path").first.wait_for(state="attached")
    assert page.locator("#switches").is_hidden()
    assert page.locator("#theme").is_hidden()
    title = page.locator("#throughput-over-t .xtitle").first
    soft = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--soft')")
    assert soft == "rgb(90, 96, 104)"
    page.wait_for_function(
        "([node, soft]) => getComputedStyle(node).fill === soft",
        arg=[title.element_handle(), soft],
    )
