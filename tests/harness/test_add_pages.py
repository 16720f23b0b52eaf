"""The pages that say how to add a backend and a cell, followed as a newcomer would."""

import json
import re
import shlex
import subprocess
import sys

import pytest
from bench import environment
from pages import blocks, text_of

PAGES = ("docs/add-a-backend.md", "docs/add-a-cell.md")
SAVED = re.compile(r"[Ss]ave this as\s+`(\w+\.py)`:\n\n```python\n(.*?)```", flags=re.DOTALL)


def verifications(page: str) -> dict[str, str]:
    """A page's `verify` commands by the plugin that each takes, or else `run` as a `verify`."""
    found: dict[str, str] = {}
    for line in "".join(blocks(page, "sh")).splitlines():
        words = shlex.split(line)
        plugin = words[words.index("--plugin") + 1]
        if words[1] == "verify" or plugin not in found:
            found[plugin] = shlex.join(["verify", *words[2:]])
    return found


FILES = [(page, name, text) for page in PAGES for name, text in SAVED.findall(text_of(page))]


@pytest.mark.parametrize(("page", "name", "text"), FILES, ids=[name for _, name, _ in FILES])
def test_every_file_of_a_page_is_right_by_the_page_own_command(
    page, name, text, bench_in, tmp_path
):
    (tmp_path / name).write_text(text)
    command = verifications(page)[name]
    smaller = "--hidden 8 --seq-len 5 --batch 1,3 --threads 1 --json --quiet"
    done = bench_in(f"{command} {smaller}", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    words = shlex.split(command)
    asked = words[words.index("--backend") + 1].split(",")
    assert {(row["backend"], row["status"]) for row in rows} == {(each, "ok") for each in asked}


def test_a_wrong_backward_on_the_page_is_found(bench_in, tmp_path):
    ((text, command),) = (
        (text, verifications(page)[name]) for page, name, text in FILES if name == "own_backward.py"
    )
    wrong = text.replace("d_c * c_before * f", "d_c * c * f")
    assert wrong != text
    (tmp_path / "own_backward.py").write_text(wrong)
    done = bench_in(f"{command} --threads 1 --quiet", tmp_path)
    assert done.returncode == 4
    assert "d_" in done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_every_other_python_block_runs_beside_the_files(page, tmp_path):
    saved = SAVED.findall(text_of(page))
    for name, text in saved:
        (tmp_path / name).write_text(text)
    others = [each for each in blocks(page, "python") if each not in dict(map(reversed, saved))]
    assert len(saved) + len(others) == len(blocks(page, "python"))
    for block in others:
        subprocess.run(
            [sys.executable, "-c", block], cwd=tmp_path, env=environment(tmp_path), check=True
        )
