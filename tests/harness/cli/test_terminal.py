"""A real terminal of 80 columns, and a pipe, as the program finds them."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest
from bench import bench, environment
from rich.text import Text


@pytest.fixture
def on_a_terminal(here):
    """Run a command line on a terminal so wide; returns what it showed."""

    def go(arguments, columns, **variables):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        known = environment(here) | {"TERM": "xterm-256color"} | variables
        known.pop("COLUMNS", None)
        process = subprocess.Popen(
            [sys.executable, "-m", "lstm_harness", *arguments.split()],
            env=known,
            cwd=here,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # Linux ends a terminal whose other end is closed so
            pass
        os.close(ours)
        assert process.wait() == 0
        return shown.decode().replace("\r\n", "\n")

    return go


def test_a_terminal_is_seen_with_its_width_and_has_colour(on_a_terminal):
    shown = on_a_terminal("suites", 80)
    assert "\x1b[1m" in shown
    lines = Text.from_ansi(shown).plain.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) > len(Text.from_ansi(on_a_terminal("suites", 300)).plain.splitlines())


def test_a_pipe_is_none(here):
    done = bench("suites", here)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) > 80
