"""Commands that write to a store at a URL, and those that read one."""

import json
import sys

import fsspec
import pytest
from s3_server import Fault
from saved_runs import save_finished
from synthetic_runs import blocks, grid

from lstm_harness.race import runs
from lstm_harness.store import remote, run_folder, training_folder

SMALL = (
    *("run", "--backend", "naive,aten", "--seq-len", "2", "--batch", "1", "--hidden", "4"),
    *("--pass", "inference", "--threads", "1", "--blocks", "1", "--time-budget", "2", "--quiet"),
)


@pytest.fixture
def store(s3, here):
    """A store with two runs, whose URL it is."""
    for number, name in enumerate(("base", "new")):
        records = [*grid(("aten", "naive"), block_count=5, seed=number, seq_len=(32,), batch=(1,))]
        start = f"2026-01-0{1 + number}T12:00:00+00:00"
        remote.publish(
            save_finished(here / "mine" / name, records, start=start, id=name), f"{s3.store}/{name}"
        )
    return s3.store


def test_a_run_is_measured_here_and_published_at_its_end(command, s3, here):
    code, out, err = command(*SMALL, "--out", f"{s3.store}/run")
    assert code == 0, err
    (page,) = here.glob("results/runs/*/run/report.html")
    assert out.splitlines()[-1] == str(page.relative_to(here))
    folder = page.parent.relative_to(here)
    assert f"measures in {folder}, and publishes to {s3.store}/run at the end" in err
    assert f"published: {s3.store}/run" in err
    read = run_folder.load(remote.fetched(f"{s3.store}/run"))
    assert (len(read.records), read.edited, read.manifest["id"]) == (2, False, "run")


@pytest.mark.parametrize("by", ["URL", "folder"])
def test_an_interrupted_run_is_resumed_by_its_url_or_folder(command, s3, here, monkeypatch, by):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs.Scheduler, "outcomes", interrupted)
        code, _, err = command(*SMALL, "--out", f"{s3.store}/run")
    assert code == 130
    (manifest,) = here.glob("results/runs/*/run/run.json")
    folder = manifest.parent.relative_to(here)
    assert f"go on with: lstm-bench run --resume {folder}" in err
    assert s3.asked("PUT") == []
    there = f"{s3.store}/run" if by == "URL" else folder
    code, _, err = command("run", "--resume", there, "--quiet")
    assert code == 0, err
    assert run_folder.load(remote.fetched(f"{s3.store}/run")).records


def test_an_upload_that_fails_ends_in_one_line_and_is_made_later(command, s3, here):
    s3.faults.append(Fault("fail", "PUT", "run.json", times=100))
    code, _, err = command(*SMALL, "--out", f"{s3.store}/run")
    (page,) = here.glob("results/runs/*/run/report.html")
    again = f"publish {page.parent.relative_to(here)} {s3.store}/run"
    assert code == 6
    assert err.splitlines()[-1].endswith(f"nothing is lost: lstm-bench {again} tries again")
    s3.faults.clear()
    code, out, err = command(*again.split())
    assert (code, out) == (0, f"{s3.store}/run\n"), err
    assert run_folder.load(remote.fetched(f"{s3.store}/run")).records


def test_no_credential_is_kept(command, here, monkeypatch):
    words = [*SMALL, "--out", "memory://me:secret@store/run"]
    monkeypatch.setattr(sys, "argv", ["lstm-bench", *words])
    code, _, err = command(*words)
    assert (code, "secret" in err) == (0, False), err
    assert "/store/run/run.json" in fsspec.filesystem("memory").store
    fsspec.filesystem("memory").store.clear()
    kept = [path for path in here.rglob("*") if path.is_file() and path.suffix != ".html"]
    (manifest,) = (path for path in kept if path.name == "run.json")
    assert json.loads(manifest.read_text())["command"][-1] == "memory://store/run"
    assert [path for path in kept if b"secret" in path.read_bytes()] == []


def test_a_run_refuses_a_url_before_it_measures(refused, store, here):
    said = refused(*SMALL, "--out", f"{store}/base")
    assert f"{store}/base already has a run.json; give another --out" in said
    said = refused(*SMALL, "--out", "https://example.org/store/run")
    assert "can only be read" in said
    assert not (here / "results").exists()


@pytest.mark.parametrize(
    "given",
    [
        "run quick --plugin mine.py --watch --out s3://lab/x",
        "import benchmark.json -o s3://lab/x",
        "report mine/base -o s3://lab/x/report.html",
        "report mine --site s3://lab/x",
        "export mine/base --format csv -o s3://lab/x.csv",
        "baseline save mine/base main --into s3://lab/x",
    ],
)
def test_what_writes_files_here_refuses_a_url(refused, store, here, given):
    (here / "mine.py").write_text("")
    assert "s3:/lab/x" in (said := refused(*given.split()))
    assert "it is a URL; expected a path of this machine" in said
    assert not (here / "s3:").exists()


def test_every_reader_takes_a_url(command, document, store, here):
    base, new = f"{store}/base", f"{store}/new"
    shown = document("history", store, "--json")
    assert shown["store"] == store
    assert len(shown["runs"]) == 2
    assert document("compare", base, new, "--json")["verdicts"]
    code, _, err = command("check", new, "--baseline", base)
    assert code in (0, 3), err
    code, out, _ = command("baseline", "save", base, "main")
    assert (code, out) == (0, "results/baselines/main.jsonl\n")
    code, _, _ = command("export", new, "--format", "csv", "-o", "new.csv")
    assert (code, (here / "new.csv").exists()) == (0, True)
    code, out, _ = command("report", base, new, "--verdicts", "-o", "both.html")
    assert (code, out) == (0, "both.html\n")
    code, out, _ = command("report", new)
    assert (code, out.rpartition("/")[2]) == (0, "report.html\n")
    code, out, err = command("report", store, "--site", "site", "--quiet")
    assert code == 0, err
    assert len([*here.glob("site/runs/*/report.html")]) == 2
    code, out, err = command("recommend", "--run", new)
    assert code in (0, 6), err


def test_a_store_is_served_by_its_copy(command, store, monkeypatch):
    served = []
    monkeypatch.setattr("lstm_harness.site.server.serve", lambda pages, *_: served.append(pages))
    code, _, err = command("view", store, "--no-browser", "--quiet")
    assert code == 0, err
    listing = served[0].answer("/").content.decode()
    assert listing.count("report.html") >= 2


def test_a_training_is_published_at_its_end(command, s3, here):
    arguments = "train adding --backend naive --seeds 1 --steps 3 --threads 1 --device cpu --quiet"
    code, _, err = command(*arguments.split(), "--out", f"{s3.store}/training")
    assert code == 0, err
    assert f"published: {s3.store}/training" in err
    read = training_folder.load(remote.fetched(s3.store) / "training")
    assert (read.edited, read.curves[0].end.status) == (False, "ok")


def test_a_url_with_no_run_is_one_line(refused, store):
    nothing = f"{store}/nothing"
    for given in ("history {}", "report {}", "compare {} {}", "export {} --format csv -o x.csv"):
        assert f"{nothing} holds no run" in refused(*given.replace("{}", nothing).split())
    said = refused("check", f"{store}/new", "--baseline", nothing, code=5)
    assert f"{nothing} holds no run" in said


def test_a_server_that_fails_is_no_missing_baseline(refused, store, s3):
    s3.faults.append(Fault("fail", "GET", "base/records.jsonl", times=100))
    refused("check", f"{store}/new", "--baseline", f"{store}/base", code=6)


def test_rerun_needs_the_runs_folder(refused, store):
    said = refused("check", f"{store}/new", "--baseline", f"{store}/base", "--rerun")
    assert "it measures next to the run; give the run's folder" in said


def test_publish_needs_a_url(refused, store, here):
    save_finished(here / "run", blocks("naive", (1000, 1001)))
    assert "nowhere is not a URL; expected one like s3://" in refused("publish", "run", "nowhere")


def test_a_run_is_published_from_one_store_to_another(command, store, here):
    code, out, err = command("publish", f"{store}/base", f"file://{here}/copy/base")
    assert (code, out) == (0, f"file://{here}/copy/base\n"), err
    assert json.loads((here / "copy/base/run.json").read_text())["id"] == "base"
