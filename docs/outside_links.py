"""A hook of mkdocs: what a page links to outside docs/ is found in the site, too.

Pictures are copied into the site. Any other file or folder is a link to the repository where its
address is known (`REPOSITORY`), and its path, in words, where it is not.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

# ![words](../path) or [words](../path#anchor)
OUTSIDE = re.compile(r"(!?)\[([^\]]*)\]\(\.\./([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Take the pictures that pages show from the repository into the site."""
    root = Path(config.config_file_path).parent
    pages = [Path(file.abs_src_path or "").read_text() for file in files.documentation_pages()]
    for path in sorted({found[2] for text in pages for found in OUTSIDE.findall(text)}):
        if path.endswith((".png", ".svg")):
            files.append(File.generated(config, path, abs_src_path=str(root / path)))
    return files


def on_page_markdown(markdown: str, config: Any, **_: Any) -> str:
    """Point every link that leaves docs/ to what the site, or the repository, has."""

    def inside(link: re.Match[str]) -> str:
        picture, words, path, anchor = link.groups(default="")
        if path.endswith((".png", ".svg")):
            return f"{picture}[{words}]({path})"
        if config.repo_url:
            return f"[{words}]({config.repo_url.rstrip('/')}/blob/main/{path}{anchor})"
        return f"{words} (`{path}`)"

    return OUTSIDE.sub(inside, markdown)
