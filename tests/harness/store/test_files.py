"""A file is written whole or not at all, and only where it should be."""

import os

import pytest

from lstm_harness.model.errors import UserError
from lstm_harness.store import files


def full_disk(*_):
    raise OSError(28, "No space left on device")


def test_what_was_there_is_replaced(tmp_path):
    for content in (b"old and long", b"new"):
        files.replace_whole(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch, step):
    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full_disk) if step == "fsync" else monkeypatch.setattr(
        type(tmp_path), "replace", full_disk
    )
    with pytest.raises(OSError, match="No space left"):
        files.replace_whole(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_link_is_replaced_and_what_it_points_to_is_not_touched(tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "file").symlink_to(tmp_path / "precious")
    files.replace_whole(tmp_path / "file", b"new")
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_file_has_the_rights_that_any_new_file_has(tmp_path):
    (tmp_path / "plain").touch()
    files.replace_whole(tmp_path / "file", b"")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_two_who_write_at_once_do_not_share_the_unfinished_file(tmp_path):
    names = [files.unfinished(tmp_path / "file") for _ in range(2)]
    assert names[0] != names[1]
    assert all(files.is_unfinished(name, "file") for name in names)
    assert not files.is_unfinished(tmp_path / "file", "file")
    assert not files.is_unfinished(names[0], "fil")


def test_a_named_file_gets_its_folder(tmp_path):
    files.write_file(tmp_path / "a" / "b", b"content")
    assert (tmp_path / "a" / "b").read_bytes() == b"content"


def test_a_place_that_holds_no_file_is_told_in_a_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="it is a folder; give a file's name"):
        files.write_file(tmp_path, b"")
    with pytest.raises(UserError, match="is not a folder; give another place"):
        files.write_file(tmp_path / "file" / "below", b"")


def test_a_full_disk_is_told_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(UserError, match=r"cannot write .*: No space left on device; give another"):
        files.write_file(tmp_path / "file", b"content")


def test_what_is_derived_is_done_without_where_it_cannot_be_kept(tmp_path):
    files.keep_derived(tmp_path / "missing" / "file", {"a": 1})
    assert not list(tmp_path.iterdir())
    files.keep_derived(tmp_path / "file", {"a": 1})
    assert files.derived(tmp_path / "file") == {"a": 1}


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 10_000, b"\xff\n{}", b"0\n{}", None])
def test_what_is_derived_counts_to_the_letter_or_not_at_all(tmp_path, content):
    file = tmp_path / "file"
    files.keep_derived(file, {"a": 1})
    changed = file.read_bytes().replace(b"1}", b"2}") if content is None else content
    file.write_bytes(changed)
    assert files.derived(file) is None
    assert files.derived(tmp_path / "missing") is None
