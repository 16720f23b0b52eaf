"""What a worker handed over is out of its reach, or it is refused."""

import gc
import mmap
import os
import socket
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from open_files import held

from lstm_harness.model.protocol import Handed
from lstm_harness.race.process import Failed
from lstm_harness.race.sealed import Sealed, sealed

# This process plays the worker, too.
WORKER = SimpleNamespace(pid=os.getpid())
CONTENT = b"made" * 1024


@contextmanager
def memory(flags=os.MFD_ALLOW_SEALING):
    """Memory as a worker hands it over: the descriptor."""
    descriptor = os.memfd_create("handed", flags)
    try:
        os.write(descriptor, CONTENT)
        yield descriptor
    finally:
        os.close(descriptor)


def handed(descriptor):
    return Handed(descriptor, ({"y": 1},))


def refusal(descriptor):
    """Why what is there is not taken; nothing of it stays open."""
    entry = Path(f"/proc/self/fd/{descriptor}")
    what = str(entry.readlink()) if entry.is_symlink() else "what is not there"
    before = held(what)
    with pytest.raises(Failed) as found:
        Sealed(WORKER, handed(descriptor))
    assert found.value.status == "crashed"
    assert held(what) == before
    return found.value.reason


def test_what_was_handed_over_can_be_read_where_it_is_told_to_be():
    with memory() as descriptor, sealed(WORKER, handed(descriptor)) as taken:
        assert taken.handed == handed(descriptor)
        assert taken.place.startswith(f"/proc/{os.getpid()}/fd/")
        assert Path(taken.place).read_bytes() == CONTENT


def test_it_stays_when_the_worker_lets_go_of_it():
    with memory() as descriptor:
        taken = Sealed(WORKER, handed(descriptor))
    assert Path(taken.place).read_bytes() == CONTENT
    taken.close()
    assert not Path(taken.place).exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda descriptor: os.pwrite(descriptor, b"else", 0),
        lambda descriptor: os.truncate(descriptor, 4),
        lambda descriptor: os.truncate(descriptor, 1 << 20),
        lambda descriptor: mmap.mmap(descriptor, 0),
        lambda descriptor: Path(f"/proc/self/fd/{descriptor}").write_bytes(b"else"),
    ],
    ids=["write", "shrink", "grow", "map", "open and write"],
)
def test_nobody_can_change_it_afterwards(change):
    with memory() as descriptor:
        change_works = False
        with memory() as other, suppress(PermissionError):
            change(other)
            change_works = True
        assert change_works
        with sealed(WORKER, handed(descriptor)) as taken:
            with pytest.raises(PermissionError):
                change(descriptor)
            assert Path(taken.place).read_bytes() == CONTENT


def test_a_worker_that_could_still_write_through_a_mapping_is_refused():
    with memory() as descriptor:
        with mmap.mmap(descriptor, 0):
            reason = refusal(descriptor)
        change = "the worker could still change what it handed over"
        assert reason == f"{change}: Device or resource busy"
        # It was the mapping's fault alone.
        Sealed(WORKER, handed(descriptor)).close()


def test_what_passes_is_waited_for(monkeypatch):
    with memory() as descriptor:
        mapping = mmap.mmap(descriptor, 0)
        monkeypatch.setattr("lstm_harness.race.sealed.time.sleep", lambda _: mapping.close())
        Sealed(WORKER, handed(descriptor)).close()


def test_memory_that_cannot_be_sealed_is_refused():
    with memory(flags=0) as descriptor:
        assert refusal(descriptor).startswith("the worker could still change what it handed over: ")


def test_a_file_on_a_disk_is_refused(tmp_path):
    path = tmp_path / "handed"
    path.write_bytes(CONTENT)
    with path.open("r+b") as file:
        said = refusal(file.fileno())
        assert said.startswith("the worker could still change what it handed over: ")
    assert path.read_bytes() == CONTENT


def test_what_is_no_memory_is_refused():
    ends = os.pipe()
    for end in ends:
        assert refusal(end) == "what the worker handed over is not shared memory"
        os.close(end)
    null = os.open("/dev/null", os.O_RDWR)
    assert refusal(null) == "what the worker handed over is not shared memory"
    os.close(null)


def test_what_cannot_be_opened_is_refused(tmp_path):
    assert refusal(-1) == "the worker handed nothing over: No such file or directory"
    assert refusal(1 << 20) == "the worker handed nothing over: No such file or directory"
    folder = os.open(tmp_path, os.O_RDONLY)
    assert refusal(folder) == "the worker handed nothing over: Is a directory"
    os.close(folder)
    with socket.socket() as open_socket:
        assert refusal(open_socket.fileno()).startswith("the worker handed nothing over: ")


def test_it_is_given_back_though_looking_at_it_failed():
    gc.collect()  # what earlier tests left
    before = held("memfd:handed")
    with (
        pytest.raises(ZeroDivisionError),
        memory() as descriptor,
        sealed(WORKER, handed(descriptor)),
    ):
        raise ZeroDivisionError
    assert held("memfd:handed") == before
