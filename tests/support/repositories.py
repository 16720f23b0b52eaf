"""Git repositories that tests make."""

import subprocess
from pathlib import Path


def git(folder: Path, *words: str) -> str:
    """What git says in a folder, as an author of its own."""
    who = ("-c", "user.name=a", "-c", "user.email=a")
    done = subprocess.run(
        ["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(folder: Path, tag: str) -> str:
    """Commit everything, under a tag; returns the commit."""
    git(folder, "add", "-A")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", tag)
    git(folder, "tag", tag)
    return git(folder, "rev-parse", "HEAD")
