"""Words to avoid and what to say instead, and where they occur in what a reader reads.

`AVOIDED` is also the table of docs/glossary.md. A pattern covers only what is certain: one that
flags good sentences teaches people to work around it.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Avoided:
    """Words to avoid, as the glossary's table shows them, and the pattern that finds them."""

    shown: str
    instead: str
    pattern: str

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """The pattern on whole words, in any case."""
        return re.compile(rf"\b(?:{self.pattern})\b", re.IGNORECASE)


AVOIDED = (
    Avoided("hangs on", "depends on", r"hangs? on"),
    Avoided("is no matter", "is tolerated; does not matter", r"(?:is|are|be) no matter"),
    Avoided("goes unsaid", "is not reported", r"(?:goes?|left) unsaid"),
    Avoided("likewise", "also; in the same way", r"likewise"),
    Avoided(
        "takes part, takes no part", "runs; does not run", r"(?:takes?|taking|took) (?:no )?part"
    ),
    Avoided("speed speaks", "name who says it", r"speaks"),
    Avoided("seldom", "rarely", r"seldom"),
    Avoided("anew, afresh", "again", r"anew|afresh"),
    Avoided("for ever", "forever", r"for ever"),
    Avoided("upon, lest", "on; so that ... not", r"upon|lest"),
    Avoided(
        "thereof, whereby, hitherto",
        "name the thing",
        r"(?:there|where)(?:of|by|in|from|upon|fore)(?<!therefore)|hitherto|henceforth|hence|thence",
    ),
    Avoided("whom, whoever", "the backend that; anyone who", r"whom|whoever"),
    Avoided("beside, besides", "next to; in addition to; other than", r"besides?"),
    Avoided("but for", "except", r"but for"),
    Avoided("so many", "this many; the number", r"so many"),
    Avoided("it is none", "it is not one", r"(?:it|that|which|what) (?:is|are) (?-i:none)(?! of)"),
    Avoided(
        "is no cell",
        "is not a cell",
        r"(?<!there )(?<!where )(?:is|are|was|were) no "
        r"(?!(?:longer|more|less|larger|smaller|faster|slower|other|such|way|need)\b)\w+",
    ),
    Avoided("a package lacks", "a package is missing", r"lacks?(?=[.,;:)])"),
    Avoided("stands there, as it stands", "is; appears", r"stands? (?:there|twice)|as it stands"),
    Avoided("held against", "compared with", r"held against"),
    Avoided("cannot be told from", "ties with; cannot be distinguished from", r"told from"),
    Avoided("in the place of", "instead of", r"in the place of"),
    Avoided("tells of, is told of", "reports; is reported", r"(?:tells?|told) of"),
    Avoided("is told to take", "is reported to take", r"told to take"),
    Avoided("are of another", "differ in", r"(?:is|are) of another"),
    Avoided("run not along", "do not run along", r"(?:runs?|goes|knows?|comes?|says?|stands?) not"),
    Avoided("Only then speaks ...", "subject before verb", r"(?-i:Only (?:then|so|thus)) \w+s"),
)


@dataclass(frozen=True)
class Passage:
    """A piece of text on one line, and where it begins."""

    path: str
    line: int
    text: str


@dataclass(frozen=True)
class Finding:
    """An avoided word in a passage."""

    passage: Passage
    found: str
    instead: str

    def __str__(self) -> str:
        """One line: where, what was found, in which words, and what to say instead."""
        at = self.passage.text.lower().find(self.found.lower())
        around = self.passage.text[max(0, at - 40) : at + len(self.found) + 40]
        where = f"{self.passage.path}:{self.passage.line}"
        return f"{where}: {self.found!r} in '...{around}...'; say: {self.instead}"


def findings(passages: Iterator[Passage]) -> list[Finding]:
    """Every avoided word in these passages."""
    return [
        Finding(passage, match.group(), avoided.instead)
        for passage in passages
        for avoided in AVOIDED
        for match in avoided.regex.finditer(passage.text)
    ]


def of_markdown(text: str, path: str) -> Iterator[Passage]:
    """The paragraphs of a page, without code."""
    without_blocks = re.sub(
        r"^( *)(```|~~~).*?^ *\2[^\n]*$",
        lambda block: "\n" * block.group().count("\n"),
        text,
        flags=re.MULTILINE | re.DOTALL,
    )
    yield from _paragraphs(re.sub(r"`[^`\n]*`", "`code`", without_blocks), path)


def of_html(text: str, path: str) -> Iterator[Passage]:
    """The paragraphs of a template, without scripts, tags and expressions."""
    hidden = r"<script.*?</script>|<style.*?</style>|\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<[^>]*>"
    blanked = re.sub(
        hidden, lambda part: " " + "\n" * part.group().count("\n"), text, flags=re.DOTALL
    )
    yield from _paragraphs(blanked, path)


def _paragraphs(text: str, path: str) -> Iterator[Passage]:
    line = 1
    for block in re.split(r"(\n\s*\n)", text):
        if block.strip():
            yield Passage(path, line, " ".join(block.split()))
        line += block.count("\n")


def of_python(source: str, path: str) -> Iterator[Passage]:
    """Docstrings, comments and texts of a module.

    Not those of Triton functions: a change of their text compiles every kernel again.
    """
    tree = ast.parse(source)
    compiled = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and "triton.jit" in map(_dotted, node.decorator_list)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    passages = [*_strings(tree, path), *_comments(source, path)]
    yield from (each for each in passages if each.line not in compiled)


def _dotted(decorator: ast.expr) -> str:
    return ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)


def _strings(tree: ast.AST, path: str) -> Iterator[Passage]:
    parts = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield Passage(path, node.lineno, template_of(node))
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts
        ):
            for passage in _paragraphs(node.value, path):
                yield Passage(path, node.lineno + passage.line - 1, passage.text)


def template_of(text: ast.JoinedStr) -> str:
    """An f-string with {...} in place of each value."""
    parts = (part.value if isinstance(part, ast.Constant) else "{...}" for part in text.values)
    return " ".join("".join(map(str, parts)).split())


def _comments(source: str, path: str) -> Iterator[Passage]:
    block: list[str] = []
    start = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if block and token.start[0] != last + 1:
            yield Passage(path, start, " ".join(block))
            block = []
        if not block:
            start = token.start[0]
        block.append(token.string.lstrip("# "))
        last = token.start[0]
    if block:
        yield Passage(path, start, " ".join(block))
