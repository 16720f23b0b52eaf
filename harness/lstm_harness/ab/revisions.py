"""The kernels of a git revision, or of the working tree, in a folder of their own."""

import shutil
from pathlib import Path

import lstm_kernels
from lstm_harness.ab.git import commit_of, git, state_of, top_of, unpack
from lstm_harness.model.errors import UserError
from lstm_harness.model.revision import Revision

KERNELS = Path("kernels")
PACKAGE = KERNELS / "lstm_kernels" / "__init__.py"
_HINT = (
    "run this inside a checkout of lstm-bench, or name a plugin of a repository of your own: "
    "--plugin mine.py"
)


def repository(near: Path) -> Path:
    """The top folder of the git repository that a folder lies in.

    Raises:
        UserError: there is no git, no repository, or no kernels in it.
    """
    try:
        top = top_of(near)
    except UserError as error:
        raise UserError(f"{error}; {_HINT}") from None
    if not (top / PACKAGE).is_file():
        raise UserError(f"{top} has no {PACKAGE}; {_HINT}")
    return top


def is_checkout(near: Path) -> bool:
    """Whether a folder lies in a git repository that has kernels."""
    try:
        repository(near)
    except UserError:
        return False
    return True


def checked_out(ref: str, repo: Path, into: Path) -> Revision:
    """The kernels of a revision, as git has them, under a folder that does not exist yet.

    Raises:
        UserError: git knows no such revision, or it has no kernels.
    """
    commit = commit_of(ref, repo)
    try:
        unpack(commit, [KERNELS], repo, into)
    except UserError:
        raise UserError(f"revision {ref!r} has no folder {KERNELS}; nothing to compare") from None
    return Revision(ref, commit, into / KERNELS, {"commit": commit, "dirty": False})


def working_tree(repo: Path, into: Path) -> Revision:
    """A copy of the kernels as they are on disk now, so that an edit meanwhile changes nothing."""
    shutil.copytree(repo / KERNELS, into / KERNELS, ignore=shutil.ignore_patterns("__pycache__"))
    edited = bool(git(repo, "status", "--porcelain", "--", KERNELS.as_posix()))
    return Revision("working tree", None, into / KERNELS, state_of(repo, edited))


def installed_kernels() -> Path:
    """The folder that holds the `lstm_kernels` that are installed here."""
    return Path(lstm_kernels.__path__[0]).resolve().parent
