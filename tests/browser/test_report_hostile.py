"""Values that would like to be more than text."""

import dataclasses
import json

import pytest
from report_pages import drawn, full_run, payload
from synthetic_runs import HOSTILE, blocks, grid, manifest, record, run

from lstm_harness.model.errors import UserError
from lstm_harness.store import run_folder

pytestmark = pytest.mark.browser

NOT_A_NUMBER = ("NaN", "Infinity", "-0", "1e999", "null")
MARKUP = "</script><script>document.title = 1</script><img src=x onerror='document.title = 1'>"


def harmless(page, title):
    """Nothing that came with the records has run or become an element."""
    page.wait_for_timeout(100)
    assert page.title() == title
    assert page.locator("img, iframe, object, embed").count() == 0
    assert page.locator("script").count() == 4


@pytest.mark.parametrize("width", [400, 2560])
def test_hostile_names_are_shown_and_do_nothing(view, width):
    names = [*HOSTILE, *NOT_A_NUMBER]
    slow = [one for name in names for one in blocks(name, [1000, 1001, 1002])]
    bad = [record("bad", status="error", reason=name) for name in HOSTILE[:1]]
    made = run([*slow, *bad], label=HOSTILE[3], environment={HOSTILE[0]: HOSTILE[3]})
    page = view(made, width=width, fragment="#samples=")
    title = page.title()
    assert page.locator("#detail li").count() == len(names) + 1
    page.locator("#samples .main-svg").first.wait_for()
    for panel in payload(page)["panels"]:
        drawn(page, panel["id"])
    page.locator("#samples .points path").first.hover(force=True)
    page.locator("#all-rows button").last.click()
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    harmless(page, title)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_hostile_names_stand_in_figures_as_text(view):
    name = HOSTILE[6]
    records = [dataclasses.replace(one, backend=name) for one in grid(["aten"], block_count=3)]
    page = view(run([*records, *grid(["naive"], block_count=3)]))
    drawn(page, "throughput-over-t")
    page.locator("#throughput-over-t .points path").last.hover(force=True)
    page.locator("#throughput-over-t .hoverlayer text").first.wait_for()
    said = page.locator("#throughput-over-t .hoverlayer").first.text_content()
    assert "<b>bold</b>" in said
    assert page.locator(".hoverlayer a").count() == 0


def texts(value):
    """Every text in a JSON value."""
    if isinstance(value, str):
        return {value}
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(*(texts(part) for part in parts))


def swapped(value, old, new):
    """A JSON value with one text changed wherever it stands, keys excepted."""
    if isinstance(value, str):
        return new if value == old else value
    if isinstance(value, list):
        return [swapped(part, old, new) for part in value]
    if isinstance(value, dict):
        return {key: swapped(part, old, new) for key, part in value.items()}
    return value


def write_run(folder, content):
    folder.mkdir()
    (folder / run_folder.MANIFEST).write_text(json.dumps(content["manifest"]))
    lines = (json.dumps(one) + "\n" for one in content["records"])
    (folder / run_folder.RECORDS).write_text("".join(lines))


def refusal(folder):
    """What the store says of a run that it will not read; None of one that it reads."""
    try:
        run_folder.load(folder)
    except UserError as error:
        return str(error)
    return None


def test_a_run_edited_to_carry_markup_in_every_text_is_text_or_one_clear_line(view, tmp_path):
    small = full_run()
    records = [
        dataclasses.replace(one, warnings=("slow",), stopped_by="budget", kernels=("gemm",))
        for one in small.records
        if one.block == 0 or one.status != "ok"
    ]
    records.append(record("aten", of=records[0].case, block=1, status="crashed", reason="signal"))
    fields = {"limits": small.manifest["limits"], "label": "a label"}
    content = {"manifest": manifest(records, **fields), "records": [r.to_dict() for r in records]}
    content = json.loads(json.dumps(content))
    refused, carried = [], []
    for number, old in enumerate(sorted(texts(content))):
        new = f"{MARKUP}{number} '\"<!-- {old}"
        edited = swapped(content, old, new)
        folder = tmp_path / f"run-{number}"
        write_run(folder, edited)
        told = refusal(folder)
        if told is None:
            carried.append(old)
            content = edited
        else:
            assert len(told.splitlines()) == 1
            refused.append(old)
    assert {"ok", "float32", "forward", "eager", "cpu"} <= set(refused)
    assert {"aten", "naive", "bench-host", "a label", "signal", "slow"} <= set(carried)
    write_run(tmp_path / "all", content)
    page = view(run_folder.load(tmp_path / "all"), fragment="#samples=")
    title = page.title()
    assert page.locator("#map-table tbody button").count() == 9
    for panel in payload(page)["panels"]:
        if page.locator(f"#{panel['id']} .drawn").is_visible():
            drawn(page, panel["id"])
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    page.locator("#all-rows button").last.click()
    harmless(page, title)
