"""The section of a report of two runs that says what changed, on data."""

import re
from dataclasses import replace

import pytest
from saved_runs import save
from synthetic_runs import HOSTILE, blocks, case, environment, grid, manifest, record, run

from lstm_harness.analysis.summary import summarise
from lstm_harness.judge.by_backend import by_backend
from lstm_harness.judge.comparison import Side, compare_runs, compare_sides
from lstm_harness.judge.exporters import words
from lstm_harness.judge.verdict import Rules
from lstm_harness.report import verdicts
from lstm_harness.report.page import render

X = "\N{MULTIPLICATION SIGN}"
BASE = [1_000_000, 1_001_000, 999_000, 1_000_500]
WILD = [600_000, 1_500_000, 1_000_000, 800_000]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def times(factor):
    return [int(time * factor) for time in BASE]


def at(backend, block_times, batch):
    return blocks(backend, block_times, of=case(batch=batch))


def compared(base, new, **fields):
    return compare_runs(run(base, label="base"), run(new, label="new", **fields))


def text_of(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_the_worst_comes_first_and_the_counts_are_told():
    base = [*blocks("aten", BASE), *blocks("naive", BASE), *blocks("hoisted", BASE)]
    new = [*blocks("aten", times(0.5)), *blocks("naive", times(1.3)), *blocks("hoisted", BASE)]
    said = text_of(verdicts.section(compared(base, new)))
    assert "Regression: 1 slower or larger, 1 faster or smaller, 1 the same." in said
    assert said.index("REGRESSION") < said.index("IMPROVEMENT") < said.index("SAME")
    # What a phone shows before it is scrolled sideways.
    assert "Verdict Backend Change (95%) Case" in said
    assert "Margin 5% or this machine's own noise" in said.replace("&#39;", "'")


def test_each_backend_has_a_line_before_the_cases_the_worst_first():
    base = [r for name in ("aten", "naive") for b in (1, 4) for r in at(name, BASE, b)]
    new = [*at("aten", BASE, 1), *at("aten", WILD, 4), *at("naive", times(2), 1)]
    comparison = compared(base, [*new, *at("naive", BASE, 4)])
    sees = [words.sees(each) for each in by_backend(comparison)]
    assert [bool(one) for one in sees] == [False, True]
    told = "Cases This gate sees, with 95% power naive 1 slower or larger, 1 the same "
    told += f"aten 1 inconclusive, 1 the same {sees[1]}"
    for page in (verdicts.section(comparison), verdicts.render(comparison)):
        said = text_of(page)
        assert f"Backend {told}" in said
        assert said.index(told) < said.index("Verdict Backend Change")


def test_where_blocks_are_paired_a_backend_has_one_verdict_on_all_of_its_cases():
    paired = replace(Rules(), paired=True)
    base = [r for batch in (1, 2, 4) for r in at("naive", BASE, batch)]
    new = [r for batch in (1, 2, 4) for r in at("naive", times(2), batch)]
    sides = [Side(name, manifest(of), summarise(of)) for name, of in (("b", base), ("n", new))]
    said = text_of(verdicts.render(compare_sides(*sides, paired)))
    assert "Backend All cases together Cases naive REGRESSION +100.0% (" in said
    assert "3 slower or larger" in said


def test_a_map_shows_the_ratio_and_the_verdict_of_each_square():
    cases = {(t, b): case(seq_len=t, batch=b) for t in (8, 16) for b in (1, 4)}
    factor = {(8, 1): 2.0, (8, 4): 0.5, (16, 1): 1.0}
    base = [r for place in factor for r in blocks("aten", BASE, of=cases[place])]
    new = [r for place, f in factor.items() for r in blocks("aten", times(f), of=cases[place])]
    (one,) = verdicts.maps(compared(base, new).verdicts)
    assert (one["title"], one["t"], one["b"]) == ("aten, forward", [8, 16], [1, 4])
    shown = [[s and f"{s['ratio']} {s['word']}" for s in row] for row in one["rows"]]
    assert shown == [[f"2.00{X} slower", f"0.500{X} faster"], [f"1.000{X} same", None]]
    assert [square["way"] for square in one["rows"][0]] == ["slower", "faster"]
    assert [square["fill"] for square in one["rows"][0]] == ["60%", "60%"]
    assert one["rows"][1][0]["fill"] == "0%"
    assert one["answer"].startswith("1 slower, 1 faster, 1 same; the most at T = 8, B = ")


def test_maps_are_one_a_backend_pass_and_what_else_varies_the_worst_first():
    records = list(grid(["aten", "naive"], block_count=3, seq_len=(32,), batch=(1,)))
    slower = [
        record(r.backend, [2 * s for s in r.samples_ns], block=r.block, of=r.case)
        if (r.backend, r.case.pass_name, r.case.problem.hidden_size) == ("naive", "backward", 256)
        else r
        for r in records
    ]
    found = verdicts.maps(compared(records, slower).verdicts)
    assert len(found) == 2 * 2 * 2
    assert found[0]["title"] == "naive, backward, Hidden H 256"


def test_a_cell_that_is_gone_or_wrong_is_said_in_its_square():
    cases = [case(batch=b) for b in (1, 2, 4)]
    base = [r for one in cases for r in blocks("aten", BASE, of=one)]
    new = [*blocks("aten", BASE, of=cases[0]), record("aten", status="incorrect", of=cases[1])]
    (one,) = verdicts.maps(compared(base, new).verdicts)
    assert [square["word"] for square in one["rows"][0]] == ["same", "wrong", "missing"]
    assert [square["ratio"] for square in one["rows"][0]] == [f"1.000{X}", "", ""]


def test_two_machines_are_not_judged_and_stand_side_by_side_all_the_same():
    other = environment() | {"cpu": {"model": "Another CPU", "physical_cores": 2, "threads": 2}}
    base, new = run(blocks("aten", BASE)), run(blocks("aten", times(2)), environment=other)
    section = verdicts.section(compare_runs(base, new))
    page = render([base, new], section)
    said = text_of(section)
    assert (
        "cannot be judged against each other: cpu A CPU in the base, Another CPU in the new" in said
    )
    assert "<table" not in section
    assert "2 runs side by side" in page
    assert page.index(section) < page.index('<section id="map"')


def test_runs_that_share_no_case_say_so_and_draw_nothing():
    base, new = blocks("aten", BASE, of=case(batch=1)), blocks("aten", BASE, of=case(batch=2))
    section = verdicts.section(compared(base, new))
    assert "Cases are missing: no case has a time in both runs (1 missing, 1 new)" in section
    assert "ratio-maps" not in section


def test_nothing_at_all_is_still_a_section():
    section = verdicts.section(compared([], []))
    assert "no case has a time in both runs (no case on either side)" in section
    assert "<table" not in section


def test_a_long_table_ends_with_how_many_more(monkeypatch):
    monkeypatch.setattr(verdicts, "MOST_ROWS", 2)
    monkeypatch.setattr(verdicts, "MOST_MAPS", 1)
    names = [f"b{n}" for n in range(5)]
    base = [r for name in names for r in blocks(name, BASE)]
    section = verdicts.section(compared(base, base))
    assert section.count("<b>SAME</b>") == 2
    assert "And 3 more" in section
    assert "4 further maps are not drawn" in section
    assert verdicts.render(compared(base, base)).count("<b>SAME</b>") == 5


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_is_only_text(name):
    base = [*blocks(name, BASE), *blocks("aten", BASE)]
    new = [*blocks(name, times(2)), record("aten", status="incorrect", reason=name + ".")]
    section = verdicts.section(compare_runs(run(base, label=name), run(new, label=name)))
    assert not re.search(r"<(script|img|a)\b", section)
    assert "<b>bold" not in section
    assert "\u202e" not in section
    assert len(section) < 20_000


def test_the_command_puts_the_verdicts_on_top(command, here):
    save(here / "base", blocks("aten", BASE))
    save(here / "new", blocks("aten", times(1.5)))
    code, out, _ = command("report", "base", "new", "--verdicts", "-o", "page.html")
    assert (code, out) == (0, "page.html\n")
    page = (here / "page.html").read_text()
    assert "What changed?" in page
    assert page.index("REGRESSION") < page.index('id="map-title"')
    assert command("report", "base", "new", "-o", "plain.html")[0] == 0
    assert "What changed?" not in (here / "plain.html").read_text()


def test_a_comparison_leaves_each_run_its_own_report(command, here):
    save(here / "base", blocks("aten", BASE))
    save(here / "new", blocks("aten", times(1.5)))
    command("report", "base")
    own = (here / "base/report.html").read_text()
    code, out, _ = command("report", "base", "new", "--verdicts")
    assert (code, out) == (0, "base/comparison.html\n")
    assert (here / "base/report.html").read_text() == own
    assert "What changed?" in (here / "base/comparison.html").read_text()
