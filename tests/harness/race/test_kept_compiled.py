"""What is compiled outlives a run if nothing changed that it is made of, and no stranger ran."""

import os
import time
from types import SimpleNamespace

import pytest

from lstm_harness.race import kept_compiled
from lstm_harness.race.kept_compiled import folder_for
from lstm_harness.race.process import WorkerSettings, _environment
from lstm_harness.store.run_folder import read_manifest

VARIABLES = {
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "NUMBA_CACHE_DIR": "numba",
}
BACKENDS = ("naive", "compiled")
DAY_S = 86_400


@pytest.fixture(autouse=True)
def unnamed(monkeypatch):
    """No cache that the user names."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def survey(kernels_digest="1f", plugins=(), **environment):
    facts = {"torch": "2.13.0", "cpu": {"model": "one"}} | environment
    return SimpleNamespace(kernels_digest=kernels_digest, plugins=plugins, environment=facts)


def test_a_later_run_of_the_same_finds_the_folder_of_the_one_before(here):
    folder = folder_for(BACKENDS, survey())
    assert folder.is_dir()
    assert folder_for(("aten",), survey(start={"load_average": [1.0]})) == folder


@pytest.mark.parametrize(
    "changed",
    [
        survey(kernels_digest="2f"),
        survey(torch="2.14.0"),
        survey(numba="0.70"),
        survey(cpu={"model": "another"}),
    ],
)
def test_another_source_version_or_machine_has_another_folder(here, changed):
    assert folder_for(BACKENDS, changed) != folder_for(BACKENDS, survey())


def test_strangers_have_none(here):
    assert folder_for((*BACKENDS, "of_an_entry_point"), survey()) is None
    assert folder_for(BACKENDS, survey(plugins=("mine.py",))) is None


def test_a_run_without_a_place_for_it_keeps_nothing(here, monkeypatch):
    (here / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "file"))
    assert folder_for(BACKENDS, survey()) is None
    monkeypatch.setattr(kept_compiled.user_cache, "folder", lambda kind: None)
    assert folder_for(BACKENDS, survey()) is None


def test_folders_that_were_not_used_for_long_go_except_the_newest(here):
    folders = [folder_for(BACKENDS, survey(str(number))) for number in range(8)]
    for age, folder in enumerate(reversed(folders[:7])):
        os.utime(folder, (0, time.time() - (2 + age) * DAY_S))
    newest = folder_for(BACKENDS, survey("7"))
    assert set(newest.parent.iterdir()) == set(folders[3:])


def test_a_folder_that_was_used_today_stays(here):
    folders = [folder_for(BACKENDS, survey(str(number))) for number in range(8)]
    assert all(folder.is_dir() for folder in folders)


def test_workers_compile_into_the_kept_folder_or_else_into_the_runs_own(tmp_path):
    kept = _environment(WorkerSettings("cpu", tmp_path / "scratch", kept=tmp_path / "kept"))
    own = _environment(WorkerSettings("cpu", tmp_path / "scratch"))
    for name, folder in VARIABLES.items():
        assert kept[name] == str(tmp_path / "kept" / folder)
        assert own[name] == str(tmp_path / "scratch" / folder)


def test_a_cache_that_the_user_names_is_used_instead(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "named")
    told = _environment(WorkerSettings("cpu", tmp_path, kept=tmp_path / "kept"))
    assert told["NUMBA_CACHE_DIR"] == "named"
    assert told["TRITON_CACHE_DIR"] == str(tmp_path / "kept" / "triton")


def test_a_run_leaves_its_folder_for_the_next_one(here, bench_in):
    grid = "--seq-len 2 --batch 1 --hidden 4 --threads 1 --pass inference --blocks 1 --quiet"
    run = f"run --backend naive {grid} --min-samples 3 --time-budget 1 --out"
    bench_in(f"{run} first", here)
    (folder,) = (here / "cache" / "lstm-bench" / "compiled").iterdir()
    assert len(folder.name) == 16
    (folder / "inductor").mkdir(exist_ok=True)  # `naive` compiles nothing
    bench_in(f"{run} second", here)
    told = [read_manifest(here / name)["compiled_earlier"] for name in ("first", "second")]
    assert told == [False, True]
