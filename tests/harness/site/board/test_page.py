"""What a device class's page says, and that hostile values are only text on it."""

import re

import pytest
from synthetic_runs import HOSTILE, blocks, record
from synthetic_store import environment, put, start
from written_pages import text_of

from lstm_harness.site import catalogue
from lstm_harness.site.board import classes, page, told

SHA = "ab" * 32


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def rendered(store):
    ((which, runs),) = classes.grouped(catalogue.collect([store]).runs.values()).items()
    return str(page.render(which, runs, told.of_class(which, runs)))


def section(html, name):
    return text_of("<body>" + html.partition(f'<section id="{name}"')[2].partition("</section>")[0])


def test_a_case_has_its_fastest_time_interval_lead_and_run(store):
    plugins = [{"file": "mine.py", "sha256": SHA, "backends": ["mine"]}]
    records = [*blocks("aten", [2000, 2010, 1990]), *blocks("mine", [1000, 1010, 990])]
    put(store / "run", records, label="nightly", plugins=plugins)
    html = rendered(store)
    assert "mine is fastest in 1 of 1 case" in text_of(html)
    fastest = section(html, "fastest")
    assert f"mine {SHA[:12]}" in fastest
    assert "1.00 µs 975 ns to 1.03 µs aten takes 2.00" in fastest
    assert 'href="../runs/run/report.html"' in html
    submitted = section(html, "submitted")
    assert f"mine mine.py {SHA} 1 0 nightly" in submitted
    assert "aten built in 0123abcd 0 0 nightly" in submitted


def test_a_tie_is_called_one_with_all_its_names(store):
    records = [*blocks("aten", [1000, 1100, 1000]), *blocks("naive", [1010, 1000, 1090])]
    put(store / "run", records)
    html = rendered(store)
    assert "tie: aten, naive" in section(html, "fastest")
    assert "The two fastest backends tie in every case" in text_of(html)
    assert re.search(r"aten built in 0123abcd 0 1", section(html, "submitted"))


def test_what_was_refused_is_listed_with_the_reason(store):
    put(store / "wrong", [*blocks("aten", [1000] * 3), record("naive", status="incorrect")])
    put(store / "edited", blocks("aten", [10] * 3), start=start(1), records_sha256=SHA)
    refused = section(rendered(store), "refused")
    assert "the whole run refused its records are not what the run wrote" in refused
    assert "naive" in refused
    assert "incorrect incorrect on purpose" in refused
    assert "1.00 µs" in section(rendered(store), "fastest")


def test_a_class_with_nothing_to_rank_says_so(store):
    put(store / "one", [record(status="incorrect")])
    html = rendered(store)
    assert "No time of a correct backend is here yet." in text_of(html)
    assert "Nothing can be ranked here" in section(html, "fastest")


def test_conditions_that_differ_head_their_tables(store):
    one_thread = environment(cpu={"model": "A CPU", "physical_cores": 2, "threads": 1})
    put(store / "two", blocks("aten", [1000] * 3))
    put(store / "one", blocks("aten", [1000] * 3), environment=one_thread)
    fastest = section(rendered(store), "fastest")
    assert "threads 1" in fastest
    assert "threads 2" in fastest
    assert "device cpu" not in fastest


def test_long_lists_end_with_how_many_are_left_out(store, monkeypatch):
    monkeypatch.setattr(page, "MOST_RUNS", 1)
    monkeypatch.setattr(page, "MOST_REFUSED", 1)
    for day in range(3):
        put(store / str(day), [record(status="incorrect")], start=start(day))
    html = rendered(store)
    assert "2 older refusals are left out" in section(html, "refused")
    assert "2 older runs are in" in section(html, "runs")


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_value_is_only_text(store, name):
    name = f"{name}\x1b[31m\x00\x85\ud800"
    measured_on = environment(host=name, cpu={"model": name, "physical_cores": 2, "threads": 2})
    plugins = [{"file": name, "sha256": name, "backends": [name]}]
    records = [*blocks(name, [1000] * 3), *blocks("aten", [1000] * 3)]
    fields = {"label": name, "id": name, "kernels_digest": name, "environment": measured_on}
    put(store / "one", records, plugins=plugins, **fields)
    wrong = [record(name, status="incorrect", reason=name)]
    put(store / "two", wrong, start=start(1), plugins=plugins, **fields)
    html = rendered(store)
    assert html.count("<script") == html.count("</script") == 1
    assert "<img" not in html
    assert "<b>bold" not in html
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800]", html)
    assert len(html) < 60_000
