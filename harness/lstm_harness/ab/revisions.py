"""The kernels of a git revision, or of the working tree, in a folder of their own."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

from lstm_harness.model.errors import UserError
from lstm_harness.model.revision import Revision

KERNELS = Path("kernels")
PACKAGE = KERNELS / "lstm_kernels" / "__init__.py"


def repository(near: Path) -> Path:
    """The top folder of the git repository that a folder lies in.

    Raises:
        UserError: there is no git, no repository, or no kernels in it.
    """
    try:
        top = Path(_git(near, "rev-parse", "--show-toplevel").decode().strip())
    except UserError as error:
        raise UserError(f"{error}; run this inside a checkout of lstm-bench") from None
    if not (top / PACKAGE).is_file():
        raise UserError(f"{top} has no {PACKAGE}; run this inside a checkout of lstm-bench")
    return top


def checked_out(ref: str, repo: Path, into: Path) -> Revision:
    """The kernels of a revision, as git has them, under a folder that does not exist yet.

    Raises:
        UserError: git knows no such revision, or it has no kernels.
    """
    try:
        named = _git(repo, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    except UserError:
        shallow = _git(repo, "rev-parse", "--is-shallow-repository").strip() == b"true"
        fetch = "; this clone is shallow: git fetch --unshallow" if shallow else ""
        raise UserError(
            f"git knows no revision {ref!r}; expected a commit, branch or tag{fetch}"
        ) from None
    commit = named.decode().strip()
    try:
        packed = _git(repo, "archive", "--format=tar", commit, KERNELS.as_posix())
    except UserError:
        raise UserError(f"revision {ref!r} has no folder {KERNELS}; nothing to compare") from None
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        tar.extractall(into, filter="data")
    return Revision(ref, commit, into / KERNELS, {"commit": commit, "dirty": False})


def working_tree(repo: Path, into: Path) -> Revision:
    """A copy of the kernels as they are on disk now, so that an edit meanwhile changes nothing."""
    shutil.copytree(repo / KERNELS, into / KERNELS, ignore=shutil.ignore_patterns("__pycache__"))
    edited = bool(_git(repo, "status", "--porcelain", "--", KERNELS.as_posix()))
    try:
        commit = _git(repo, "rev-parse", "HEAD").decode().strip()
    except UserError:  # a repository without a commit
        return Revision("working tree", None, into / KERNELS)
    return Revision("working tree", None, into / KERNELS, {"commit": commit, "dirty": edited})


def _git(folder: Path, *words: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=False)
    except FileNotFoundError:
        raise UserError("there is no git here; ab compares revisions that git knows") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise UserError(f"git {words[0]}: {said[-1] if said else 'failed'}")
    return done.stdout
