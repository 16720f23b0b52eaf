"""The plugins of a git revision, or of the working tree, each in a folder of that side.

They lie there as in their repository, with what git tracks in their folders; from the working tree
also with the modules that they import. The kernels are those that are installed, on both sides.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lstm_harness.ab.git import commit_of, git, state_of, top_of, unpack
from lstm_harness.ab.revisions import installed_kernels
from lstm_harness.model.errors import UserError
from lstm_harness.model.revision import Revision
from lstm_harness.model.sources import files_of
from lstm_harness.race.survey import refuse_no_file


def repository(plugins: Sequence[str]) -> Path:
    """The top folder of the git repository that plugins lie in.

    Raises:
        UserError: there is no git, no repository, or more than one.
    """
    tops: dict[Path, str] = {}
    for plugin in plugins:
        try:
            tops.setdefault(top_of(Path(plugin).parent).resolve(), plugin)
        except UserError as error:
            raise UserError(f"--plugin {plugin}: {error}; expected a file that git knows") from None
    if len(tops) > 1:
        raise UserError(f"--plugin {' and '.join(tops.values())}: expected one git repository")
    return next(iter(tops))


def checked_out(plugins: Sequence[str], ref: str, repo: Path, into: Path) -> Revision:
    """The plugins of a revision and their folders, under a folder that does not exist yet.

    Raises:
        UserError: git knows no such revision, or it does not have one of the plugins.
    """
    commit = commit_of(ref, repo)
    files = _within(plugins, repo)
    with suppress(UserError):  # it does not have the folder of one, and so not that one
        unpack(commit, _folders(files), repo, into)
    for file in files:
        if not (into / file).is_file():
            unknown = not git(repo, "ls-files", "--", file.as_posix())
            ahead = (
                "git does not know the file: commit it first" if unknown else "nothing to compare"
            )
            raise UserError(f"revision {ref!r} has no {file}; {ahead}")
    return _revision(ref, commit, {"commit": commit, "dirty": False}, files, into)


def working_tree(plugins: Sequence[str], repo: Path, into: Path) -> Revision:
    """A copy of the plugins as they are on disk now, so that an edit meanwhile changes nothing.

    Raises:
        UserError: one of them is not there.
    """
    for plugin in plugins:
        refuse_no_file(plugin)
    files = _within(plugins, repo)
    folders = [folder.as_posix() for folder in _folders(files)]
    listed = git(repo, "ls-files", "-z", "--", *folders).split(b"\0")
    tracked = {Path(os.fsdecode(name)) for name in listed if name}
    imported = {file.relative_to(repo) for plugin in plugins for file in files_of(Path(plugin))}
    for file in tracked | imported:
        if (repo / file).is_file():  # a tracked one may be removed, or be a submodule
            (into / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(repo / file, into / file)
    edited = git(repo, "status", "--porcelain", "--untracked-files=no", "--", *folders)
    state = state_of(repo, bool(edited) or not imported <= tracked)
    return _revision("working tree", None, state, files, into)


def _within(plugins: Sequence[str], repo: Path) -> list[Path]:
    """Where the plugins lie in their repository."""
    return [Path(plugin).resolve().relative_to(repo) for plugin in plugins]


def _folders(files: Sequence[Path]) -> list[Path]:
    return sorted({file.parent for file in files})


def _revision(
    name: str,
    commit: str | None,
    state: Mapping[str, Any] | None,
    files: Sequence[Path],
    into: Path,
) -> Revision:
    copies = tuple(str((into / file).resolve()) for file in files)
    return Revision(name, commit, installed_kernels(), state, copies)
