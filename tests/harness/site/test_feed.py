"""The feed: valid Atom, newest first, with ids that stay."""

import re
import xml.etree.ElementTree as ET
from datetime import datetime

import pytest
from synthetic_runs import HOSTILE, blocks
from synthetic_store import put, series, start

from lstm_harness.site import catalogue, feed

ATOM = "{http://www.w3.org/2005/Atom}"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def parsed(store):
    """The feed of a store; it is checked as RFC 4287 has it."""
    root = ET.fromstring(feed.render(catalogue.collect([store])).encode())
    assert root.tag == f"{ATOM}feed"
    for one in (root, *root.iter(f"{ATOM}entry")):
        for name in ("id", "title", "updated"):
            (found,) = one.findall(f"{ATOM}{name}")
            assert found.text.strip()
        assert one.find(f"{ATOM}id").text.startswith("urn:uuid:")
        assert datetime.fromisoformat(one.find(f"{ATOM}updated").text).tzinfo
        assert one.find(f"{ATOM}link").get("href")
    (author,) = root.findall(f"{ATOM}author")
    assert author.find(f"{ATOM}name").text
    return root


def entries(store):
    return [
        {name: one.find(f"{ATOM}{name}").text for name in ("id", "title", "updated", "summary")}
        for one in parsed(store).iter(f"{ATOM}entry")
    ]


def test_an_entry_a_run_newest_first(tmp_path):
    series(tmp_path / "store", [100_000, 200_000], label="nightly")
    newest, oldest = entries(tmp_path / "store")
    assert newest["title"] == oldest["title"] == "nightly on A CPU, 2 cores"
    assert newest["updated"] > oldest["updated"]
    assert "Regression: 1 slower or larger." in newest["summary"]
    (link,) = parsed(tmp_path / "store").iter(f"{ATOM}entry").__next__().iter(f"{ATOM}link")
    assert link.get("href") == "runs/run-001/report.html"
    assert parsed(tmp_path / "store").find(f"{ATOM}updated").text == newest["updated"]


def test_ids_stay_when_a_run_is_added(tmp_path):
    series(tmp_path / "store", [100_000, 200_000])
    before = entries(tmp_path / "store")
    series(tmp_path / "store", [100_000], first_day=2)
    after = entries(tmp_path / "store")
    assert [one["id"] for one in after[1:]] == [one["id"] for one in before]
    assert len({one["id"] for one in after}) == 3


def test_old_runs_leave_it(tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "MOST_ENTRIES", 1)
    series(tmp_path / "store", [100_000, 200_000])
    assert len(entries(tmp_path / "store")) == 1


def test_a_run_without_a_start_is_left_out_and_the_feed_is_valid(tmp_path):
    put(tmp_path / "store" / "one", blocks("naive", [1000]), start="yesterday")
    assert entries(tmp_path / "store") == []


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_value_is_only_text_in_it(tmp_path, name):
    name = f"{name}\x1b\x00\ufffe\ud800"
    put(tmp_path / "store" / "one", blocks(name, [1000] * 3), label=name, start=start(0))
    (one,) = entries(tmp_path / "store")
    assert len(one["title"]) < 120
    assert not re.search("[\x00-\x1f\ufffe\u202e]", "".join(one.values()))
