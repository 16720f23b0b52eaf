"""A disk that fills up, and a device that is taken: exit 6, one line, and nothing lost."""

import os
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest
from bench import environment, records_of, start
from waiting import PATIENCE_S

from lstm_harness.model.errors import Exit, MeasuringFailed
from lstm_harness.race import lock
from lstm_harness.race.lock import device_lock

GRID = "--backend aten --seq-len 2,3 --batch 1 --hidden 4 --pass inference,forward,backward"
HOW = "--blocks 1 --threads 1 --time-budget 1 --quiet"


@pytest.fixture
def fails(command):
    """Run a command line that must end with one line and no figure; returns that line."""

    def go(arguments):
        code, _, err = command(*arguments.split())
        assert code == Exit.MEASURING_FAILED, err
        assert err.count("\n") == 1
        assert "Traceback" not in err
        return err

    return go


@pytest.fixture
def resumes(command):
    """Finish the run `race`."""

    def go():
        code, _, err = command("run", "--resume", "race", "--quiet")
        assert code == 0, err

    return go


@contextmanager
def files_up_to(size):
    """No file of this process may grow beyond a size in bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_file_that_may_not_grow_ends_the_run_and_resume_finishes_it(here, fails, resumes):
    with files_up_to(40_000):  # more than what a worker is started with
        line = fails(f"run {GRID} {HOW} --min-samples 1500 --out race")
    assert "File too large" in line
    kept = records_of(here / "race")
    assert 0 < len(kept) < 6
    resumes()
    assert records_of(here / "race")[: len(kept)] == kept
    assert len(records_of(here / "race")) == 6


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small file system, and not in every container")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_disk_that_is_full_ends_the_run_and_resume_finishes_it(here, small_disk, fails, resumes):
    # Room for the manifest, twice while it is written, but not for every record.
    (small_disk / "filler").write_bytes(bytes(2**20 - 16_000))
    line = fails(f"run {GRID} {HOW} --out disk/race")
    assert "No space left on device" in line
    assert "lstm-bench run --resume disk/race" in line
    kept = records_of(small_disk / "race")
    assert {record["status"] for record in kept} <= {"ok"}
    (small_disk / "filler").unlink()
    shutil.copytree(small_disk / "race", here / "race")
    resumes()
    assert [record["status"] for record in records_of(here / "race")] == ["ok"] * 6


def test_second_run_on_a_device_is_refused(here, fails):
    taken = "import socket; from lstm_harness.race.lock import device_lock\n"
    taken += "with device_lock(socket.gethostname()): print('held', flush=True); input()\n"
    holder = subprocess.Popen(
        [sys.executable, "-c", taken],
        env=environment(here),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        line = fails(f"run {GRID} {HOW} --out race")
        assert f"(process {holder.pid})" in line
        assert not (here / "race").exists()
        holder.kill()
    with device_lock("free again after its holder was killed"):
        pass


HOLDS = """
import socket, sys
from lstm_harness.race import lock
from lstm_harness.race.lock import device_lock
with device_lock(socket.gethostname()):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def held(here):
    """A process that holds this machine until it is told to end."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS],
        env=environment(here),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        yield holder


def test_a_run_that_waits_says_behind_whom_and_then_runs(here, held):
    process = start(f"run {GRID} {HOW} --min-samples 3 --wait --out race", here)
    said = process.stderr.readline()
    assert f"(process {held.pid}); waiting for it" in said
    assert not (here / "race").exists()
    held.communicate("end\n")
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert out.endswith("race/report.html\n")


def test_verifying_times_nothing_and_waits_for_nobody(here, held, command):
    code, _, err = command(*f"verify {GRID} --threads 1 --quiet".split())
    assert code == 0, err
    held.communicate("end\n")


def test_one_lock_a_machine_whatever_the_place_for_temporary_files(here, monkeypatch):
    monkeypatch.delenv("LSTM_BENCH_LOCKS")
    monkeypatch.setattr(lock, "FOLDER", here)
    for place in ("one", "other"):
        monkeypatch.setenv("TMPDIR", str(here / place))
        with device_lock("gpu"):
            assert (here / "lstm-bench-gpu.lock").read_text() == str(os.getpid())


def test_lock_is_free_again_after_use(here):
    for _ in range(2):
        with device_lock("a device"):
            pass


def test_two_devices_have_two_locks(here):
    with device_lock("GPU-1"), device_lock("GPU-2"):
        pass


def test_lock_that_another_user_owns_still_excludes(here, monkeypatch):
    with device_lock("gpu"):
        pass
    opened = os.open

    def as_a_stranger(path, flags, *mode):
        if flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied")
        return opened(path, flags, *mode)

    with monkeypatch.context() as stranger:
        stranger.setattr(os, "open", as_a_stranger)
        lock = device_lock("gpu")
        lock.__enter__()
    says = "another run .*: wait until it ends, as lstm-bench run --wait does, or stop it"
    with pytest.raises(MeasuringFailed, match=says), device_lock("gpu"):
        pass
    lock.__exit__(None, None, None)


def test_report_that_finds_no_room_is_no_mistake_of_the_users(here, fails):
    with files_up_to(200_000):
        line = fails(f"run {GRID} {HOW} --min-samples 3 --out race")
    assert "race/report.html: File too large" in line
    assert "lstm-bench report race" in line
    assert len(records_of(here / "race")) == 6


def test_lock_never_follows_a_link(here, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "tmp" / "lstm-bench-gpu.lock").symlink_to(precious)
    with pytest.raises(MeasuringFailed, match="cannot lock"), device_lock("gpu"):
        pass
    assert precious.read_text() == "mine"
