"""What `ab` asks of git: a repository's top, a commit, and the files of a folder at a commit."""

import io
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lstm_harness.model.errors import UserError


def git(folder: Path, *words: str) -> bytes:
    """What git says in a folder; a path means itself, whatever characters it has.

    Raises:
        UserError: there is no git, or it failed.
    """
    try:
        done = subprocess.run(
            ["git", "--literal-pathspecs", "-C", str(folder), *words],
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise UserError("there is no git here; ab compares revisions that git knows") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise UserError(f"git {words[0]}: {said[-1] if said else 'failed'}")
    return done.stdout


def top_of(near: Path) -> Path:
    """The top folder of the git repository that a folder lies in.

    Raises:
        UserError: there is no git, or no repository.
    """
    return Path(git(near, "rev-parse", "--show-toplevel").decode().strip())


def commit_of(ref: str, repo: Path) -> str:
    """The commit that a name stands for.

    Raises:
        UserError: git knows no such revision.
    """
    try:
        named = git(repo, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    except UserError:
        shallow = git(repo, "rev-parse", "--is-shallow-repository").strip() == b"true"
        fetch = "; this clone is shallow: git fetch --unshallow" if shallow else ""
        raise UserError(
            f"git knows no revision {ref!r}; expected a commit, branch or tag{fetch}"
        ) from None
    return named.decode().strip()


def state_of(repo: Path, edited: bool) -> dict[str, Any] | None:
    """The commit that is checked out, and whether it was edited; None in a repository without one.

    Returns:
        what `Revision.git` has.
    """
    try:
        commit = git(repo, "rev-parse", "HEAD").decode().strip()
    except UserError:
        return None
    return {"commit": commit, "dirty": edited}


def unpack(commit: str, folders: Iterable[Path], repo: Path, into: Path) -> None:
    """Write folders as a commit has them, at the same places below another folder.

    A link that leads out of it is left out.

    Args:
        folders: relative to the repository.
    Raises:
        UserError: the commit has none of one of them.
    """
    names = [folder.as_posix() for folder in folders]
    packed = git(repo, "archive", "--format=tar", commit, "--", *names)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        tar.extractall(into, filter=_inside)


def _inside(member: tarfile.TarInfo, into: str) -> tarfile.TarInfo | None:
    try:
        return tarfile.data_filter(member, into)
    except tarfile.FilterError:
        return None
