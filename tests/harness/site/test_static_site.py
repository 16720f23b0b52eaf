"""A static site: whole, relative, replaceable, and never in the place of anything else."""

import hashlib
import html
import re
import shutil
from urllib.parse import unquote, urlsplit

import pytest
from synthetic_runs import HOSTILE, blocks
from synthetic_store import environment, put, series, start

from lstm_harness.model.errors import UserError
from lstm_harness.report import assets
from lstm_harness.site import catalogue, index, static_site, updates
from lstm_harness.store import run_folder

FOLDERS = ("plain", "<b>&? #\"'", "a b", "-rf", "..dots..", "%2e%2e", "über", "A", "a", "x" * 200)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def runs(tmp_path):
    series(tmp_path / "store", [100_000, 200_000])
    return tmp_path / "store"


def links(page):
    """Where a page's links lead, its own parts and icons left out."""
    text = re.sub(r"<script.*?</script>|<style.*?</style>", "", page, flags=re.DOTALL)
    found = [html.unescape(link) for link in re.findall(r'\b(?:href|src|action)="([^"]*)"', text)]
    return [link for link in found if not link.startswith(("#", "data:"))]


def test_every_link_is_relative_and_leads_to_a_file(runs, tmp_path):
    out = static_site.write([runs], tmp_path / "site")
    assert out == tmp_path / "site" / "index.html"
    seen, waiting = set(), [out]
    while waiting:
        page = waiting.pop()
        for link in links(page.read_text()) if page.suffix in (".html", ".xml") else []:
            parts = urlsplit(link)
            assert not parts.scheme
            assert not parts.netloc
            assert not parts.path.startswith("/")
            there = (page.parent / unquote(parts.path)).resolve()
            assert there.is_file(), link
            waiting += [there] if there not in seen else []
            seen.add(there)
    names = {str(path.relative_to(tmp_path / "site")) for path in seen}
    assert names >= {"index.html", "history.html", "feed.xml", "runs/run-001/compare.html"}
    assert sum(name.startswith("devices/") for name in names) == 1
    assert {f"runs/run-00{n}/{f}" for n in (0, 1) for f in ("report.html", "run.json")} <= names


def referred(site):
    """The files that each page refers to instead of having them in it."""
    found = {}
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert "<style" not in text
        assert not re.search(r"<script[^>]*>[^<]*(function|=>)", text)
        addresses = re.findall(
            r'<(?:script|link rel="stylesheet")[^>]*(?:src|href)="([^"]+)"', text
        )
        found[page] = [(page.parent / address).resolve() for address in addresses]
    return found


def test_pages_share_their_assets_and_each_file_is_there_once(runs, tmp_path):
    out = static_site.write([runs], tmp_path / "site")
    used = referred(out.parent)
    assert all(used.values())
    there = {path.resolve() for path in (tmp_path / "site" / assets.FOLDER).iterdir()}
    assert {file for files in used.values() for file in files} == there
    for file in there:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert file.stem.rpartition("-")[2] == digest[:16]
    reports = [page for page in used if page.name == "report.html"]
    assert len(reports) == 2
    assert all(len(used[page]) == 3 for page in reports)
    assert max(page.stat().st_size for page in used) < 200_000


def test_another_plotly_makes_all_pages_again_and_the_old_file_goes(runs, tmp_path, monkeypatch):
    static_site.write([runs], tmp_path / "site")
    before = times(tmp_path / "site")
    (old,) = (tmp_path / "site" / assets.FOLDER).glob("plotly-*.js")
    other = assets._named("plotly", "js", "window.Plotly = null;")
    monkeypatch.setattr(assets, "plotly", lambda: other)
    updates._made_by.cache_clear()
    try:
        static_site.write([runs], tmp_path / "site")
    finally:
        updates._made_by.cache_clear()
    after = times(tmp_path / "site")
    assert not [name for name in after if name.endswith(".html") and before[name] == after[name]]
    assert not old.exists()
    assert [path.name for path in old.parent.glob("plotly-*.js")] == [other.name]
    for page, files in referred(tmp_path / "site").items():
        assert all(file.is_file() for file in files), page


def test_an_asset_that_is_missing_is_written_again(runs, tmp_path):
    static_site.write([runs], tmp_path / "site")
    (plotly,) = (tmp_path / "site" / assets.FOLDER).glob("plotly-*.js")
    plotly.unlink()
    static_site.write([runs], tmp_path / "site")
    assert plotly.exists()


def test_assets_are_there_before_the_pages_and_the_index_comes_last(tmp_path):
    for name in ("index.html", "runs/a/report.html", "assets/plotly.js", "a.html"):
        (tmp_path / "fresh" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fresh" / name).touch()
    seen = []

    class Watched(type(tmp_path)):
        def replace(self, target):
            seen.append(target.relative_to(tmp_path / "site").as_posix())
            return super().replace(target)

    updates.move(Watched(tmp_path / "fresh"), tmp_path / "site", first="assets", last="index.html")
    assert (seen[0], seen[-1]) == ("assets/plotly.js", "index.html")
    assert len(seen) == 4


def test_records_lie_beside_their_report_as_they_are(runs, tmp_path):
    static_site.write([runs], tmp_path / "site")
    for name in (run_folder.MANIFEST, run_folder.RECORDS):
        copy = tmp_path / "site" / "runs" / "run-001" / name
        assert copy.read_bytes() == (runs / "run-001" / name).read_bytes()


def test_a_comparison_is_written_for_each_run_with_one_before(runs, tmp_path):
    static_site.write([runs], tmp_path / "site")
    pages = list((tmp_path / "site").rglob("compare.html"))
    assert [page.parent.name for page in pages] == ["run-001"]
    assert "Regression" in pages[0].read_text()


def test_hostile_folder_names_are_plain_in_links_and_text_on_the_page(tmp_path):
    for number, name in enumerate(FOLDERS):
        put(tmp_path / "store" / name, blocks("naive", [1000]), start=start(number), id=str(number))
    static_site.write([tmp_path / "store"], tmp_path / "site")
    names = [path.name for path in (tmp_path / "site" / "runs").iterdir()]
    assert len({name.casefold() for name in names}) == len(FOLDERS)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) for name in names)
    assert max(map(len, names)) < 100
    assert "plain" in names
    assert "<b>&" not in (tmp_path / "site" / "index.html").read_text()


def test_a_site_of_several_stores_has_all_their_runs(runs, tmp_path):
    newer = environment(torch="3")
    series(tmp_path / "other", [300_000, 300_000], first_day=5, environment=newer)
    out = static_site.write([runs, tmp_path / "other"], tmp_path / "site")
    assert "4 runs" in out.read_text()
    assert len(list((tmp_path / "site" / "runs").iterdir())) == 4
    assert "4 runs over time" in (tmp_path / "site" / "history.html").read_text()


def test_a_run_that_is_gone_leaves_the_site(runs, tmp_path):
    static_site.write([runs], tmp_path / "site")
    shutil.rmtree(runs / "run-001")
    static_site.write([runs], tmp_path / "site")
    assert [path.name for path in (tmp_path / "site" / "runs").iterdir()] == ["run-000"]
    assert {path.name for path in tmp_path.iterdir()} == {"store", "site", "cache"}


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"lstm_bench_site": 99, "files": []}'])
def test_a_folder_that_is_no_site_of_ours_is_left_alone(runs, tmp_path, content):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "precious.txt").write_text("mine")
    (tmp_path / "site" / static_site.MARKER).write_text(content)
    with pytest.raises(UserError, match="not a site of lstm-bench"):
        static_site.write([runs], tmp_path / "site")
    assert (tmp_path / "site" / "precious.txt").read_text() == "mine"


def test_what_was_put_beside_a_site_is_named_and_left_alone(runs, tmp_path):
    static_site.write([runs], tmp_path / "site")
    (tmp_path / "site" / "CNAME").write_text("mine")
    with pytest.raises(UserError, match="holds 'CNAME', which is not of its site"):
        static_site.write([runs], tmp_path / "site")
    assert (tmp_path / "site" / "CNAME").read_text() == "mine"
    assert (tmp_path / "site" / "index.html").exists()


def test_an_empty_folder_is_taken_and_a_file_is_not(runs, tmp_path):
    (tmp_path / "site").mkdir()
    assert static_site.write([runs], tmp_path / "site").exists()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        static_site.write([runs], tmp_path / "file")


@pytest.mark.parametrize("place", ["store", "store/site", "."])
def test_a_site_and_its_store_lie_apart(runs, tmp_path, place):
    with pytest.raises(UserError, match="overlap"):
        static_site.write([runs], tmp_path / place)
    assert len(list(runs.iterdir())) == 2


def test_what_fails_halfway_leaves_the_old_site(runs, tmp_path, monkeypatch):
    static_site.write([runs], tmp_path / "site")
    before = (tmp_path / "site" / "index.html").read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    series(runs, [100_000], first_day=5)
    monkeypatch.setattr(index, "render", full)
    with pytest.raises(UserError, match="No space left"):
        static_site.write([runs], tmp_path / "site")
    assert (tmp_path / "site" / "index.html").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"store", "site", "cache"}


def test_a_page_is_made_again_only_where_something_changed(runs, tmp_path):
    other = environment(cpu={"model": "Another CPU", "physical_cores": 8, "threads": 8})
    put(runs / "other", blocks("naive", [1000] * 3), environment=other, start=start(3))
    static_site.write([runs], tmp_path / "site")
    before = times(tmp_path / "site")
    static_site.write([runs], tmp_path / "site")
    after = times(tmp_path / "site")
    written = {static_site.MARKER, static_site.DIGESTS}
    assert {name for name in before if after[name] != before[name]} <= written
    series(runs, [100_000], first_day=5)
    static_site.write([runs], tmp_path / "site")
    changed = {name for name, at in times(tmp_path / "site").items() if before.get(name) != at}
    (device,) = {name for name in changed if name.startswith("devices/")}
    assert "another" not in device
    own = {"report.html", "run.json", "records.jsonl", "compare.html"}
    overviews = {"index.html", "history.html", "feed.xml"}
    assert changed - written - {device} == overviews | {f"runs/run-005/{name}" for name in own}


def times(site):
    """When each file was made; a page that is made again is another file."""
    return {
        str(path.relative_to(site)): (path.stat().st_mtime_ns, path.stat().st_ino)
        for path in site.rglob("*")
        if path.is_file()
    }


def content(site):
    """What a site says; the reports of runs by their size."""
    kept = {path for path in site.rglob("*") if path.is_file() and path.parent == site}
    return {path.name: path.read_bytes() for path in kept if path.suffix in (".html", ".xml")}


@pytest.mark.parametrize("damage", ["", "{}", "nonsense", None])
def test_a_damaged_state_makes_all_pages_again(runs, tmp_path, damage):
    static_site.write([runs], tmp_path / "site")
    before = times(tmp_path / "site")
    file = tmp_path / "site" / static_site.DIGESTS
    file.unlink() if damage is None else file.write_text(damage)
    static_site.write([runs], tmp_path / "site")
    after = times(tmp_path / "site")
    assert before.keys() == after.keys()
    assert not {name for name in before if before[name] == after[name]}


def test_a_page_that_is_missing_is_made_again(runs, tmp_path):
    static_site.write([runs], tmp_path / "site")
    (tmp_path / "site" / "runs" / "run-000" / "report.html").unlink()
    static_site.write([runs], tmp_path / "site")
    assert (tmp_path / "site" / "runs" / "run-000" / "report.html").exists()


def test_another_program_makes_all_pages_again(runs, tmp_path, monkeypatch):
    static_site.write([runs], tmp_path / "site")
    before = times(tmp_path / "site")
    monkeypatch.setattr(updates, "_made_by", lambda: "another")
    static_site.write([runs], tmp_path / "site")
    after = times(tmp_path / "site")
    assert not {name for name in before if before[name] == after[name]}


def test_a_site_brought_up_to_date_is_the_site_made_at_once(runs, tmp_path):
    static_site.write([runs], tmp_path / "site")
    series(runs, [100_000], first_day=7)
    shutil.rmtree(runs / "run-000")
    static_site.write([runs], tmp_path / "site")
    static_site.write([runs], tmp_path / "fresh")
    assert content(tmp_path / "site") == content(tmp_path / "fresh")
    assert times(tmp_path / "site").keys() == times(tmp_path / "fresh").keys()


def test_a_kill_while_pages_move_is_made_good_by_the_next(runs, tmp_path, monkeypatch):
    static_site.write([runs], tmp_path / "site")
    whole = content(tmp_path / "site")
    shutil.rmtree(runs / "run-001")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(updates, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            static_site.write([runs], tmp_path / "site")
    (tmp_path / "site" / f"{static_site.MARKER}.0a1b.new").write_text("half")
    static_site.write([runs], tmp_path / "site")
    assert content(tmp_path / "site") != whole
    static_site.write([runs], tmp_path / "fresh")
    assert content(tmp_path / "site") == content(tmp_path / "fresh")
    assert times(tmp_path / "site").keys() == times(tmp_path / "fresh").keys()


def test_the_address_of_a_run_stays_when_others_are_added(tmp_path):
    put(tmp_path / "store" / "a", blocks("naive", [1000]), start=start(0))
    put(tmp_path / "store" / "Run-1", blocks("naive", [1000]), start=start(1))
    put(tmp_path / "store" / "x y", blocks("naive", [1000]), start=start(2))
    before = set(catalogue.collect([tmp_path / "store"]).runs)
    for number, name in enumerate(("A", "RUN-1", "x-y", "X y", "x_y"), start=3):
        put(tmp_path / "store" / name, blocks("naive", [1000]), start=start(number))
    after = set(catalogue.collect([tmp_path / "store"]).runs)
    assert before < after
    assert len({name.casefold() for name in after}) == 8


def test_many_runs_have_a_page_a_month_and_every_run_is_reached(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "MOST_RUNS", 2)
    series(tmp_path / "store", [100_000] * 3, first_day=29)
    put(tmp_path / "store" / "undated", blocks("naive", [1000]), start="yesterday")
    static_site.write([tmp_path / "store"], tmp_path / "site")
    page = (tmp_path / "site" / "index.html").read_text()
    assert page.count('class="card ') == 2
    months = {"runs-2026-01.html", "runs-2026-02.html", "runs-undated.html"}
    assert months <= set(links(page))
    reached = [link for name in months for link in links((tmp_path / "site" / name).read_text())]
    assert sum(link.endswith("report.html") for link in reached) == 4


def test_the_index_says_what_each_run_came_to(runs, tmp_path):
    put(runs / "bad", [record_of_failure()], start=start(9), label="broken", suite="other")
    (runs / "torn").mkdir()
    (runs / "torn" / run_folder.MANIFEST).write_text("{")
    page = static_site.write([runs], tmp_path / "site").read_text()
    text = " ".join(re.sub(r"<[^>]+>", " ", page.partition("<main>")[2]).split())
    assert text.index("broken") < text.index("2026-01-02") < text.index("2026-01-01")
    assert "1 cell, 1 failed, 1 of them incorrect." in text
    assert "Regression against quick of 2026-01-01 12:00 UTC: 1 slower or larger." in text
    assert "Only one backend is correct in each case (naive)" in text
    assert "torn: torn/run.json is not JSON" in text
    assert "In 1 of 1 comparison with the run before" in page
    assert str(tmp_path) not in page


def record_of_failure():
    from synthetic_runs import record

    return record(status="incorrect")


def test_a_static_index_offers_no_comparison_that_nobody_answers(runs):
    found = catalogue.collect([runs])
    assert "<form" not in index.render(found, served=False)
    assert "compare?" not in index.render(found, served=False)
    served = index.render(found, served=True)
    assert served.count('name="base"') == served.count('name="new"') == 2


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_value_is_only_text_on_the_index(tmp_path, name):
    fields = {"label": name, "id": name, "suite": name}
    measured_on = environment(host=name, cpu={"model": name})
    for day in (0, 1):
        records = blocks(name, [100_000] * 3)
        put(tmp_path / str(day), records, start=start(day), environment=measured_on, **fields)
    page = index.render(catalogue.collect([tmp_path]), served=True)
    assert page.count("<script") == page.count("</script") == 1
    assert "<img" not in page
    assert "<b>bold" not in page
    assert "javascript:" not in "".join(links(page))
    assert "\u202e" not in page
    assert len(page) < 50_000


def test_the_command_writes_a_site_and_says_where(command, runs, tmp_path):
    code, out, err = command("report", runs, "--site", tmp_path / "site", "--quiet")
    assert (code, err) == (0, "")
    assert out == f"{tmp_path}/site/index.html\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("store", "--site", "s", "-o", "f"), "leave out -o"),
        (("store", "--site", "s", "--verdicts"), "leave out --verdicts"),
        (("store/run-000", "--verdicts"), "judges two runs, BASE and NEW; got 1"),
        (("nowhere", "--site", "s"), "not a folder"),
        (("empty", "--site", "s"), "holds no run"),
    ],
)
def test_wrong_usage_is_one_line(refused, runs, tmp_path, arguments, says):
    (tmp_path / "empty").mkdir()
    assert says in refused("report", *arguments)
    assert not (tmp_path / "s").exists()
