"""Trainings in a store: listed, linked, sent, and left out with a reason."""

import json
import shutil

import pytest
from places import ROOT
from synthetic_runs import HOSTILE, blocks
from synthetic_store import put, start

from lstm_harness.model.errors import UserError
from lstm_harness.site import catalogue, index, static_site, trainings
from lstm_harness.site.pages import Pages, Refused
from lstm_harness.store.training_folder import TRAINING

PUBLISHED = ROOT / "results" / "amd-epyc-zen3-2core" / "train" / "adding"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def store(tmp_path):
    """A run and a training, the latter in a folder of its own."""
    folder = tmp_path / "store"
    put(folder / "a run", blocks("aten", [1000] * 3), start=start(0))
    copied(folder / "train" / "adding")
    return folder


def copied(place):
    place.mkdir(parents=True)
    for name in (TRAINING.manifest, TRAINING.lines):
        shutil.copyfile(PUBLISHED / name, place / name)
    return place


def test_a_training_is_listed_with_its_first_sentence(store):
    (one,) = catalogue.collect([store]).trainings.values()
    assert (one.trained.workload, one.folder) == ("adding", store / "train" / "adding")
    assert "goal" in one.trained.answer
    page = index.render(catalogue.collect([store]), served=False)
    assert "1 run, 1 training" in page
    assert one.trained.answer in page
    assert f'href="trainings/{one.name}/report.html"' in page


def test_a_store_without_one_does_not_speak_of_them(tmp_path):
    put(tmp_path / "store" / "run", blocks("aten", [1000] * 3))
    page = index.render(catalogue.collect([tmp_path / "store"]), served=False)
    assert "training" not in page.partition("<main>")[2].partition("<script>")[0]


def test_a_site_has_its_page_and_its_files(store, tmp_path):
    static_site.write([store], tmp_path / "site")
    (place,) = (tmp_path / "site" / "trainings").iterdir()
    assert "Which learns adding first?" in (place / "report.html").read_text()
    for name in (TRAINING.manifest, TRAINING.lines):
        assert (place / name).read_bytes() == (PUBLISHED / name).read_bytes()


def test_a_server_sends_its_page_and_its_files(store):
    pages = Pages(store)
    (name,) = catalogue.collect([store]).trainings
    assert b"Which learns adding first?" in pages.answer(f"/trainings/{name}/report.html").content
    assert pages.answer(f"/trainings/{name}/curves.jsonl").file is not None
    for lost in (f"{name}/run.json", f"{name}/report.htm", "nobody/report.html"):
        with pytest.raises(Refused) as refused:
            pages.answer(f"/trainings/{lost}")
        assert refused.value.status == 404


def test_one_training_is_a_store_of_one_and_begins_with_its_page(tmp_path):
    pages = Pages(copied(tmp_path / "adding"))
    assert pages.first == "trainings/adding/report.html"
    assert b"Which learns adding first?" in pages.answer(f"/{pages.first}").content


def test_a_training_that_goes_on_is_read_again(store):
    place = store / "train" / "adding"
    before = trainings.read(place)
    lines = (place / TRAINING.lines).read_text().splitlines(keepends=True)
    (place / TRAINING.lines).write_text(lines[0])
    assert trainings.read(place) != before


def test_what_cannot_be_read_is_left_out_with_the_reason(store):
    (store / "torn").mkdir()
    (store / "torn" / TRAINING.manifest).write_text("{")
    linked = copied(store / "linked")
    (linked / TRAINING.lines).unlink()
    (linked / TRAINING.lines).symlink_to(PUBLISHED / TRAINING.lines)
    found = catalogue.collect([store])
    reasons = dict(found.left_out)
    assert reasons.keys() == {"torn", "linked"}
    assert "not JSON" in reasons["torn"]
    assert "not a plain file" in reasons["linked"]
    assert str(store) not in " ".join(reasons.values())
    assert len(found.trainings) == 1
    with pytest.raises(UserError, match="not a plain file"):
        trainings.render(linked)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_machine_is_only_text_on_the_index(tmp_path, name):
    place = copied(tmp_path / "adding")
    manifest = json.loads((place / TRAINING.manifest).read_text())
    manifest["environment"] |= {"cpu": {"model": name}, "gpu": None}
    (place / TRAINING.manifest).write_text(json.dumps(manifest))
    page = index.render(catalogue.collect([tmp_path]), served=True)
    assert page.count("<script") == page.count("</script") == 1
    assert "<img" not in page
    assert "<b>bold" not in page
    assert "\u202e" not in page
