"""Our CI's own judge, `.ci/ab`, in small repositories and with a stand-in for lstm-bench."""

import itertools
import shutil
import subprocess

import pytest
from places import ROOT
from repositories import git

SCRIPT = ROOT / ".ci" / "ab"
STAND_IN = """#!/usr/bin/env bash
printf '%s\\n' "$@" > arguments
while [ $# -gt 0 ]; do
    if [ "$1" = --markdown ]; then echo "for a reviewer" > "$2"; fi
    shift
done
echo "the verdicts"
exit STATUS
"""


@pytest.fixture
def repo(tmp_path, monkeypatch):
    """A repository of one commit, with the script and a lstm-bench that ends well."""
    monkeypatch.delenv("LSTM_BENCH_AB_BASE", raising=False)
    (tmp_path / ".ci").mkdir()
    shutil.copy(SCRIPT, tmp_path / ".ci")
    program = tmp_path / ".venv" / "bin" / "lstm-bench"
    program.parent.mkdir(parents=True)
    ends_with(tmp_path, 0)
    program.chmod(0o755)
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    return tmp_path


def ends_with(repo, status):
    text = STAND_IN.replace("STATUS", str(status))
    (repo / ".venv" / "bin" / "lstm-bench").write_text(text)


COUNT = itertools.count()


def commit(repo, what="kernels"):
    """A commit that changes the kernels, or something else; no two are alike."""
    (repo / what).mkdir(exist_ok=True)
    (repo / what / "file.py").write_text(f"change {next(COUNT)}")
    git(repo, "add", what)
    git(repo, "commit", "--quiet", "-m", f"change of {what}")
    return git(repo, "rev-parse", "HEAD")


def judge(repo):
    script = str(repo / ".ci" / "ab")
    return subprocess.run([script], cwd="/", capture_output=True, text=True, check=False)


def base_of(repo):
    """The revision that lstm-bench was asked to judge by."""
    done = judge(repo)
    assert done.returncode == 0, done.stderr
    command, base, *_ = (repo / "arguments").read_text().splitlines()
    assert command == "ab"
    return base


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (0, 0, "no confirmed regression"),
        (1, 1, "a confirmed regression"),
        (3, 0, "could not tell"),
        (4, 4, "incorrect"),
        (5, 0, "nothing is judged"),
        (6, 6, "measuring failed"),
        (2, 2, "measuring failed (exit 2)"),
    ],
)
def test_what_fails_and_what_passes(repo, status, code, says):
    commit(repo)
    ends_with(repo, status)
    done = judge(repo)
    assert done.returncode == code, done.stderr
    assert "the verdicts" in done.stdout
    assert says in done.stdout.splitlines()[-1]


def test_with_one_commit_it_says_so_and_passes(repo):
    done = judge(repo)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    assert "no earlier kernels here" in done.stdout
    assert not (repo / "arguments").exists()


def test_kernels_that_did_not_change_are_not_measured(repo, monkeypatch):
    before = git(repo, "rev-parse", "HEAD")
    commit(repo, "docs")
    monkeypatch.setenv("LSTM_BENCH_AB_BASE", before)
    done = judge(repo)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"ab: the kernels here are those of {before}; nothing to judge\n"
    assert not (repo / "arguments").exists()


def test_an_edit_that_is_not_committed_is_measured(repo, monkeypatch):
    before = git(repo, "rev-parse", "HEAD")
    commit(repo, "docs")
    (repo / "kernels" / "file.py").write_text("edited")
    monkeypatch.setenv("LSTM_BENCH_AB_BASE", before)
    assert base_of(repo) == before


def test_a_branch_is_judged_by_where_it_left_main(repo):
    left = commit(repo)
    git(repo, "checkout", "--quiet", "--detach")
    commit(repo)
    commit(repo)
    mine = git(repo, "rev-parse", "HEAD")
    git(repo, "checkout", "--quiet", left)
    git(repo, "update-ref", "refs/remotes/origin/main", commit(repo))
    git(repo, "checkout", "--quiet", mine)
    assert base_of(repo) == left


@pytest.mark.parametrize("known", [True, False], ids=["main itself", "no main known"])
def test_elsewhere_it_is_what_the_last_change_of_the_kernels_was_made_upon(repo, known):
    before = git(repo, "rev-parse", "HEAD")
    commit(repo)
    head = commit(repo, "docs")
    if known:
        git(repo, "update-ref", "refs/remotes/origin/main", head)
    git(repo, "checkout", "--quiet", "--detach")
    assert base_of(repo) == before


@pytest.mark.parametrize("known", [True, False], ids=["known", "a branch's first push"])
def test_the_base_that_the_ci_names_is_taken_where_it_exists(repo, monkeypatch, known):
    before = git(repo, "rev-parse", "HEAD")
    parent = commit(repo)
    commit(repo)
    monkeypatch.setenv("LSTM_BENCH_AB_BASE", before if known else "0" * 40)
    assert base_of(repo) == (before if known else parent)
