"""A store at a URL: published whole or not at all, and read as it was written."""

import re
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import fsspec
import pytest
from fsspec.registry import known_implementations
from s3_server import Fault
from saved_runs import save, save_finished
from synthetic_runs import blocks

from lstm_harness.model.errors import MeasuringFailed, UserError
from lstm_harness.model.training import (
    Curve,
    End,
    Line,
    Point,
    TrainingManifest,
    TrainingSpec,
)
from lstm_harness.store import mirror, remote, run_folder, training_folder, url_folder
from lstm_harness.store.training_folder import TRAINING

FILES = ("run.json", "records.jsonl")
CURVE = Curve(0, "lstm", "aten")
TRAINED = TrainingManifest(
    schema=1,
    id="t",
    lstm_bench="0",
    command=("lstm-bench", "train"),
    spec=TrainingSpec("adding", ("aten",), ("lstm",), (0,), 60.0),
    device="cpu",
    environment={"cpu": {"model": "a CPU"}},
    kernels_digest="d",
    start="2026-11-30T00:00:00+00:00",
)


def finished(folder, first_ns=1000, **fields):
    return save_finished(folder, blocks("naive", range(first_ns, first_ns + 3)), **fields)


def same(run, other):
    return all((run / name).read_bytes() == (other / name).read_bytes() for name in FILES)


def refusal(action, *given, error=UserError):
    """The one line in which an action ends."""
    with pytest.raises(error) as caught:
        action(*given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(params=["file", "memory", "s3"])
def store(request, here):
    """An empty store by each of three file systems."""
    if request.param == "s3":
        yield request.getfixturevalue("s3").store
    elif request.param == "file":
        yield f"file://{here}/store"
    else:
        yield "memory://store"
        fsspec.filesystem("memory").store.clear()


def test_what_is_published_is_read_as_it_was(store, here):
    run = finished(here / "run")
    (run / "report.html").write_text("a page")
    remote.publish(run, f"{store}/2026/run")
    read = remote.fetched(f"{store}/2026/run")
    assert same(run, read)
    loaded = run_folder.load(read)
    assert (loaded.edited, len(loaded.records)) == (False, 3)
    everything = remote.fetched(store)
    assert [*run_folder.RUN.below(everything)] == ["2026/run"]
    assert same(run, everything / "2026/run")


def test_the_report_is_published_too_and_not_downloaded(s3, here):
    run = finished(here / "run")
    (run / "report.html").write_text("a page")
    remote.publish(run, f"{s3.store}/run")
    names = [path.rpartition("/")[2] for path in s3.asked("PUT")]
    assert names == ["records.jsonl", "report.html", "run.json"]
    s3.requests.clear()
    remote.fetched(s3.store)
    assert not [path for path in s3.asked("GET") if path.endswith("html")]


def test_a_training_is_published_and_read(store, here):
    training = here / "training"
    run_folder.create(training, TRAINING)
    run_folder.write_manifest(training, asdict(TRAINED), TRAINING)
    with run_folder.appender(training, TRAINING) as file:
        file.append(Line(CURVE, Point(10, 1.5, 500, 0.25, None, {"loss": 0.2}, (1.0,))))
        file.append(Line(CURVE, end=End("ok", "", 3.0, 0.16, 100, ("a line",), {"loss": 0.2})))
        digest = file.close()
    assert "has not ended" in refusal(remote.publish, training, f"{store}/training")
    closed = asdict(replace(TRAINED, curves_sha256=digest))
    run_folder.write_manifest(training, closed, TRAINING)
    remote.publish(training, f"{store}/training")
    read = remote.fetched(store) / "training"
    assert training_folder.load(read).curves == training_folder.load(training).curves


def test_a_store_that_did_not_change_downloads_nothing(s3, here):
    for number in range(3):
        remote.publish(finished(here / f"run-{number}", 1000 + number), f"{s3.store}/{number}")
    remote.fetched(s3.store)
    s3.requests.clear()
    mirrored = remote.fetched(s3.store)
    assert [path for path in s3.asked("GET") if path.endswith(FILES)] == []
    assert len([*run_folder.RUN.below(mirrored)]) == 3


def test_only_what_changed_is_downloaded_and_what_is_gone_goes(s3, here):
    for number in range(3):
        remote.publish(finished(here / f"run-{number}", 1000 + number), f"{s3.store}/{number}")
    remote.fetched(s3.store)
    system = fsspec.filesystem("s3")
    system.rm(f"{s3.store}/0", recursive=True)
    system.rm(f"{s3.store}/1", recursive=True)
    other = finished(here / "other", 7000)
    remote.publish(other, f"{s3.store}/1")
    s3.requests.clear()
    mirrored = remote.fetched(s3.store)
    assert [*run_folder.RUN.below(mirrored)] == ["1", "2"]
    assert same(other, mirrored / "1")
    read = [path for path in s3.asked("GET") if path.endswith(FILES)]
    assert {path.split("/")[-2] for path in read} == {"1"}


def test_a_copy_that_was_spoilt_here_is_downloaded_again(store, here):
    run = finished(here / "run")
    remote.publish(run, f"{store}/run")
    (remote.fetched(store) / "run" / "records.jsonl").unlink()
    assert same(run, remote.fetched(store) / "run")


@pytest.mark.parametrize("left", [["records.jsonl"], ["records.jsonl", "report.html"]])
def test_a_run_without_a_manifest_is_not_there(s3, here, left):
    remote.publish(finished(here / "whole"), f"{s3.store}/whole")
    system = fsspec.filesystem("s3")
    for name in left:
        system.pipe_file(f"{s3.store}/half/{name}", b"whatever it is")
    assert [*run_folder.RUN.below(remote.fetched(s3.store))] == ["whole"]
    said = refusal(remote.fetched, f"{s3.store}/half")
    assert said == f"{s3.store}/half holds no run; expected run.json there, or in a folder below it"


def test_a_name_belongs_to_its_first_writer(store, here):
    first, second = finished(here / "first"), finished(here / "second", 2000)
    remote.publish(first, f"{store}/run")
    said = refusal(remote.publish, second, f"{store}/run")
    assert f"{store}/run is another run's, which stays as it is; this run stays in" in said
    assert f"lstm-bench publish {second} URL" in said
    assert same(first, remote.fetched(f"{store}/run"))
    assert run_folder.load(second).records
    remote.publish(second, f"{store}/second")
    assert same(second, remote.fetched(store) / "second")


def test_a_name_whose_writer_stopped_in_the_middle_is_still_its_own(store, here, monkeypatch):
    first, second = finished(here / "first"), finished(here / "second", 2000)
    with monkeypatch.context() as patch:
        patch.setattr(url_folder.UrlFolder, "create", _dies_at_the_manifest)
        with pytest.raises(KeyboardInterrupt):
            remote.publish(first, f"{store}/run")
    assert "is another run's" in refusal(remote.publish, second, f"{store}/run")
    remote.publish(first, f"{store}/run")
    assert same(first, remote.fetched(f"{store}/run"))


_create = url_folder.UrlFolder.create


def _dies_at_the_manifest(self, path, content):
    if path == "run.json":
        raise KeyboardInterrupt
    return _create(self, path, content)


def test_what_is_published_already_is_not_written_again(s3, here):
    run = finished(here / "run")
    remote.publish(run, f"{s3.store}/run")
    s3.requests.clear()
    remote.publish(run, f"{s3.store}/run")
    assert s3.asked("PUT") == []


@pytest.mark.parametrize("scheme", ["file", "s3"])
def test_of_writers_at_once_one_wins(scheme, request, here):
    url = f"file://{here}/store" if scheme == "file" else request.getfixturevalue("s3").store
    runs = [finished(here / f"run-{number}", 1000 * (1 + number)) for number in range(4)]

    def wins(number, run, start):
        start.wait()
        try:
            remote.publish(run, f"{url}/{number}")
        except UserError:
            return None
        return run

    for number in range(10):
        with ThreadPoolExecutor(len(runs)) as pool:
            start = threading.Barrier(len(runs))
            won = [*pool.map(lambda run, n=number, s=start: wins(n, run, s), runs)]
        (winner,) = filter(None, won)
        assert same(winner, remote.fetched(url) / str(number))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["fail", "deny"])
def test_a_failed_upload_loses_nothing(s3, here, name, kind):
    run = finished(here / "run")
    s3.faults.append(Fault(kind, "PUT", name, times=10))
    said = refusal(remote.publish, run, f"{s3.store}/run", error=MeasuringFailed)
    assert said.startswith(f"cannot write {name} to {s3.store}/run: ")
    assert said.endswith(f"nothing is lost: lstm-bench publish {run} {s3.store}/run tries again")
    assert "holds no run" in refusal(remote.fetched, s3.store)
    s3.faults.clear()
    remote.publish(run, f"{s3.store}/run")
    assert same(run, remote.fetched(f"{s3.store}/run"))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["fail", "lose", "wait"])
def test_an_upload_that_fails_once_is_made_again(s3, here, name, kind):
    run = finished(here / "run")
    s3.faults.append(Fault(kind, "PUT", name))
    remote.publish(run, f"{s3.store}/run")
    assert s3.faults[0].times == 0
    assert same(run, remote.fetched(f"{s3.store}/run"))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["fail", "cut", "wait"])
def test_a_download_that_goes_wrong_once_is_made_again(s3, here, name, kind):
    run = finished(here / "run")
    remote.publish(run, f"{s3.store}/run")
    s3.faults.append(Fault(kind, "GET", name))
    assert same(run, remote.fetched(f"{s3.store}/run"))
    assert s3.faults[0].times == 0


def test_records_that_are_changed_on_the_way_are_downloaded_again(s3, here):
    run = finished(here / "run")
    remote.publish(run, f"{s3.store}/run")
    s3.faults.append(Fault("spoil", "GET", "records.jsonl"))
    assert same(run, remote.fetched(f"{s3.store}/run"))


@pytest.mark.parametrize("kind", ["fail", "cut"])
def test_a_download_that_always_goes_wrong_is_one_line(s3, here, kind):
    remote.publish(finished(here / "whole"), f"{s3.store}/whole")
    remote.publish(finished(here / "bad", 2000), f"{s3.store}/bad")
    s3.faults.append(Fault(kind, "GET", "bad/records.jsonl", times=1000))
    said = refusal(remote.fetched, s3.store, error=MeasuringFailed)
    assert s3.store in said
    assert "bad/records.jsonl" in said
    s3.faults.clear()
    assert [*run_folder.RUN.below(remote.fetched(s3.store))] == ["bad", "whole"]


def test_a_list_that_cannot_be_had_is_one_line_and_removes_nothing(s3, here):
    remote.publish(finished(here / "run"), f"{s3.store}/run")
    mirrored = remote.fetched(s3.store)
    s3.faults.append(Fault("deny", "GET", "/lab", times=100))
    s3.faults.append(Fault("deny", "GET", "/lab/", times=100))
    said = refusal(remote.fetched, s3.store, error=MeasuringFailed)
    assert said.startswith(f"cannot list {s3.store}: ")
    assert [*run_folder.RUN.below(mirrored)] == ["run"]


def test_records_that_somebody_edited_there_are_read_and_said_to_be(s3, here):
    run = finished(here / "run")
    edited = (run / "records.jsonl").read_bytes().replace(b"1000", b"1001")
    remote.publish(run, f"{s3.store}/run")
    fsspec.filesystem("s3").pipe_file(f"{s3.store}/run/records.jsonl", edited)
    assert run_folder.load(remote.fetched(f"{s3.store}/run")).edited


def test_a_bucket_that_is_not_there_is_one_line(s3, here):
    said = refusal(
        remote.publish, finished(here / "run"), "s3://nowhere/run", error=MeasuringFailed
    )
    assert said.startswith("cannot write records.jsonl to s3://nowhere/run: ")
    assert "holds no run" in refusal(remote.fetched, "s3://nowhere/store")


def test_a_run_that_has_not_ended_is_not_published(s3, here):
    run = save(here / "run", blocks("naive", (1000, 1001)))
    said = refusal(remote.publish, run, f"{s3.store}/run")
    assert said == f"{run} has not ended, and is not published; lstm-bench run --resume {run}"
    assert s3.requests == []


def test_records_that_were_changed_are_not_published(s3, here):
    run = finished(here / "run")
    (run / "records.jsonl").write_text("")
    assert "is not what was written" in refusal(remote.publish, run, f"{s3.store}/run")
    assert s3.requests == []


def test_what_is_no_run_is_not_published(here):
    assert "is not a run" in refusal(remote.publish, here, "memory://store/run")


def test_a_run_begins_only_where_nothing_is(store, here):
    remote.publish(finished(here / "run"), f"{store}/run")
    said = refusal(remote.begin, f"{store}/run")
    assert said == f"{store}/run already has a run.json; give another --out"
    folder = remote.begin(f"{store}/other")
    assert folder.is_dir()
    assert not (folder / "run.json").exists()
    assert remote.begun(f"{store}/other/") == folder


def test_a_run_that_was_begun_for_a_url_is_published_there_once(store, here):
    folder = remote.begin(f"{store}/run")
    assert folder.name == "run"
    finished(folder)
    assert remote.publish_if_asked(folder) == f"{store}/run"
    assert same(folder, remote.fetched(f"{store}/run"))
    assert remote.publish_if_asked(folder) is None


def test_a_run_that_was_not_begun_here_is_one_line(here):
    assert "no run for s3://lab/run was begun here" in refusal(remote.begun, "s3://lab/run")


def test_urls_that_look_alike_are_measured_in_folders_of_their_own():
    urls = (
        "s3://a/b-c/d",
        "s3://a-b/c/d",
        "gs://a/b-c/d",
        "s3://a/b/c-d",
        "s3://../../d",
        "s3://x",
    )
    folders = [remote.measured_in(url) for url in urls]
    assert len({*folders}) == len(urls)
    assert all(folder.parts[:2] == ("results", "runs") for folder in folders)
    assert all(len(folder.parts) == 4 and ".." not in folder.parts for folder in folders)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://example.org/store/run", "can only be read: https cannot create a file whole"),
        ("gopher://example.org/run", "expected s3, gs, az, https, http or file"),
        ("s3://lab/run?versionId=3", "goes on with ? or #; expected the URL of a folder"),
    ],
)
def test_where_no_run_can_be_written_is_one_line(here, url, said):
    assert said in refusal(remote.publish, finished(here / "run"), url)
    assert said in refusal(remote.begin, url)


def test_what_is_not_installed_is_one_line(here, monkeypatch):
    run = finished(here / "run")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    said = refusal(remote.publish, run, "s3://lab/run")
    assert said.endswith(
        "s3://lab/run needs fsspec, which is not installed here: pip install 'lstm-bench[store]'"
    )


def test_a_file_system_that_is_not_installed_is_one_line(here, monkeypatch):
    monkeypatch.setitem(known_implementations, "gs", {"class": "no.Such", "err": "Install it"})
    said = refusal(remote.fetched, "gs://lab/store")
    assert said == "gs://lab/store: Install it; for s3 and http: pip install 'lstm-bench[store]'"


def test_a_cache_that_cannot_be_written_is_one_line(store, here):
    remote.publish(finished(here / "run"), f"{store}/run")
    shutil.rmtree(here / "cache", ignore_errors=True)
    (here / "cache").write_text("in the way")
    said = refusal(remote.fetched, store, error=MeasuringFailed)
    assert said.endswith("set XDG_CACHE_HOME to a folder that can be written")


class MadeUp(fsspec.AbstractFileSystem):
    """A file system that says what a test has it say."""

    protocol = "made-up"
    entries: ClassVar[dict[str, int]] = {}
    contents: ClassVar[dict[str, bytes]] = {}

    def ls(self, path, detail=True, **kwargs):
        return [{"name": n, "size": s, "type": "file"} for n, s in self.entries.items()]

    def info(self, path, **kwargs):
        raise FileNotFoundError(path)

    def cat_file(self, path, start=None, end=None, **kwargs):
        return self.contents[path]


@pytest.fixture
def made_up(here, monkeypatch):
    """A hostile store: its entries and contents are to be set."""
    fsspec.register_implementation("made-up", MadeUp, clobber=True)
    monkeypatch.setattr(MadeUp, "entries", {})
    monkeypatch.setattr(MadeUp, "contents", {})
    monkeypatch.setattr(url_folder, "PAUSES_S", ())
    return MadeUp


@pytest.mark.parametrize(
    "path",
    [
        "../run.json",
        "a/../../run.json",
        "a//run.json",
        "./run.json",
        "a\n/run.json",
        "é" * 200 + "/run.json",
        "a\\b/run.json",
    ],
)
def test_a_path_that_leads_out_of_the_folder_is_refused(made_up, here, path):
    made_up.entries[f"store/{path}"] = 2
    said = refusal(remote.fetched, "made-up://store")
    assert "which is not safe as a path; rename it there" in said
    assert not [*here.rglob("run.json")]


@pytest.mark.parametrize(("name", "size"), [("run.json", 1 << 40), ("records.jsonl", 1 << 60)])
def test_more_than_is_bearable_is_not_downloaded(made_up, name, size):
    made_up.entries |= {"store/run.json": 2, f"store/{name}": size}
    made_up.contents |= {"store/run.json": b"{}"}
    said = refusal(remote.fetched, "made-up://store")
    assert f"{name} has {size:,} bytes or more; at most" in said


def test_a_server_that_sends_more_than_it_listed_is_cut_off(made_up, monkeypatch):
    monkeypatch.setitem(mirror._MOST_BYTES, "run.json", 100)
    made_up.entries["store/run.json"] = 10
    made_up.contents["store/run.json"] = b"x" * 101
    assert "run.json has 101 bytes or more; at most 100" in refusal(
        remote.fetched, "made-up://store"
    )


def test_what_lies_below_a_run_is_a_part_of_it(here):
    run = finished(here / "store/run")
    finished(here / "store/run/inner", 2000)
    mirrored = remote.fetched(f"file://{here}/store")
    assert {path.name for path in (mirrored / "run").iterdir()} == {*FILES}
    assert same(run, mirrored / "run")


def test_a_url_that_was_a_run_and_becomes_a_store(here):
    run = finished(here / "place")
    url = f"file://{here}/place"
    assert same(run, remote.fetched(url))
    (run / "run.json").unlink()
    inner = finished(here / "place/inner", 2000)
    mirrored = remote.fetched(url)
    assert [*run_folder.RUN.below(mirrored)] == ["inner"]
    assert same(inner, mirrored / "inner")


class _Web(SimpleHTTPRequestHandler):
    """Python's own web server, which knows no ranges; sizes can be left out, as some servers do."""

    sizes = True

    def send_header(self, keyword, value):
        if self.sizes or keyword != "Content-Length":
            super().send_header(keyword, value)

    def log_message(self, *_):
        pass


@pytest.fixture(params=[True, False], ids=["with sizes", "without sizes"])
def web(request, here, monkeypatch):
    """The current folder, served as web pages."""
    monkeypatch.setattr(_Web, "sizes", request.param)
    monkeypatch.setattr(url_folder, "PAUSES_S", (0.0,))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Web, directory=str(here)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_run_and_a_store_are_read_over_http(web, here, monkeypatch):
    run, other = finished(here / "store/2026/run"), finished(here / "store/other", 2000)
    monkeypatch.setattr(url_folder, "CHUNK_BYTES", 100)
    assert same(run, remote.fetched(f"{web}/store/2026/run"))
    mirrored = remote.fetched(f"{web}/store/")
    assert [*run_folder.RUN.below(mirrored)] == ["2026/run", "other"]
    assert same(other, mirrored / "other")


def test_a_web_server_that_is_gone_is_one_line(web, here):
    assert "holds no run" in refusal(remote.fetched, f"{web}/nowhere")
    said = refusal(remote.fetched, "http://127.0.0.1:9/store", error=MeasuringFailed)
    assert said.startswith("cannot list http://127.0.0.1:9/store: ")


def test_no_credential_of_a_url_is_shown(here, monkeypatch):
    monkeypatch.setattr(url_folder, "PAUSES_S", ())
    said = refusal(remote.fetched, "http://me:secret@127.0.0.1:9/store", error=MeasuringFailed)
    assert "http://127.0.0.1:9/store" in said
    assert not re.search(r"\bme\b|secret", said), said
