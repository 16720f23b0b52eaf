"""The demo in the README: commands run in a terminal of their own, and what it showed as an SVG.

    python tests/support/demo.py docs/demo.svg

The commands are those of `COMMANDS`, in a scratch folder, in a pseudo terminal of 80 columns. The
picture asks for no font and no file: it shows anywhere, with no network.
"""

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
from datetime import UTC, datetime
from pathlib import Path

import torch
from bench import environment
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

COLUMNS, ROWS = 80, 40
COMMANDS = (
    "lstm-bench verify --backend aten,numba_cpu --hidden 64 --seq-len 16 --batch 8 --quiet",
    "lstm-bench run --backend naive,aten,numba_cpu --hidden 64 --seq-len 16 --batch 1,8"
    " --pass inference,train --threads 1 --time-budget 20 --quiet",
)
# Fira Code would be fetched; what a reader has is as good.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def shown(command: str, folder: Path) -> str:
    """What a terminal shows of a command, stdout and stderr as they come."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    words = [sys.executable, "-m", "lstm_harness", *shlex.split(command)[1:]]
    env = environment(folder) | {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    process = subprocess.Popen(
        words, cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    said = b""
    while chunk := _read(ours):
        said += chunk
    os.close(ours)
    if process.wait():
        raise SystemExit(f"{command}: exit code {process.returncode}\n{said.decode()}")
    return said.decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux's way to say that the last writer has left
        return b""


def picture(commands: tuple[str, ...], folder: Path, title: str) -> str:
    """The SVG of commands and what a terminal shows of each."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        for command in commands:
            console.print(Text(f"$ {command}", style="bold"))
            console.print(Text.from_ansi(shown(command, folder)))
            console.print()
    return console.export_svg(title=title, code_format=FORMAT)


def main() -> None:
    """Write the picture to the path that is named; its title is the machine and the day."""
    (place,) = sys.argv[1:]
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    machine = cpu[1].strip() if cpu else "a CPU"
    title = f"{machine}, {os.cpu_count()} cores, torch {torch.__version__}, {datetime.now(UTC):%F}"
    with tempfile.TemporaryDirectory() as folder:
        Path(place).write_text(picture(COMMANDS, Path(folder), title))


if __name__ == "__main__":
    main()
