"""Where this user's files are kept between commands."""

import tempfile
from pathlib import Path

import pytest

from lstm_harness.model.errors import MeasuringFailed
from lstm_harness.store import cache_folder


def test_the_users_own_cache_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder.folder("noise") == tmp_path / "lstm-bench" / "noise"


def test_without_one_it_lies_in_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder.folder("noise") == tmp_path / ".cache" / "lstm-bench" / "noise"


def test_who_has_no_home_keeps_it_among_temporary_files(monkeypatch):
    def no_home():
        raise RuntimeError

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert cache_folder.folder("noise").parents[1] == Path(tempfile.gettempdir())


def test_what_cannot_be_kept_is_told_in_a_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MeasuringFailed, match=r"cannot keep the noise in .*; set XDG_CACHE_HOME"):
        cache_folder.keep(tmp_path / "file" / "noise", b"", "the noise")
