"""What may be read: regular files, of a bounded size."""

import os
from pathlib import Path

import pytest

from lstm_harness.model.reading import content_of


def test_only_a_file_of_a_size_is_read_and_nothing_is_waited_for(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert content_of(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="it has 5 bytes; at most 4 are read"):
        content_of(tmp_path / "file", 4)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="it is not a regular file"):
            content_of(path)
    with pytest.raises(IsADirectoryError):
        content_of(tmp_path)
