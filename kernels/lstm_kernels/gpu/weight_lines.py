"""Which lines of PTX load weights: those that `load_weights*` functions became.

Compilers write into PTX where code comes from. Of a function that was inlined Triton names its own
line and that of the call, Numba that of the call alone. So what a call of such a function became
counts too, its arguments among it: nothing there may load anything but weights.
"""

import ast
import re
from functools import lru_cache
from pathlib import Path

WEIGHT_FUNCTIONS = "load_weights"

_FILE = re.compile(r'^\s*\.file\s+(\d+)\s+"([^"]*)"(?:\s+"([^"]*)")?', re.MULTILINE)
_LOCATION = re.compile(r"\s*\.loc\s+(\d+)\s+(\d+)\s+(\d+)")
_INLINED_AT = re.compile(r"inlined_at\s+(\d+)\s+(\d+)\s+(\d+)")
_CALLED_FROM = re.compile(r"@\[\s*([^\s:\[\]]+):(\d+):\d+")

Place = tuple[str, int]


def source_files(ptx: str) -> dict[str, str]:
    """The source files of PTX by their number there."""
    return {
        number: str(Path(first, second)) if second else first
        for number, first, second in _FILE.findall(ptx)
    }


def weight_lines(ptx: str) -> frozenset[int]:
    """The lines of PTX, from 1 on, that come from code inside a `load_weights*` function.

    A location holds for all that follow. Inside inline assembly only the first counts: Triton 3.9
    counts up one source line for each line of assembly, and so leaves the function.
    """
    files = source_files(ptx)
    call_sites: dict[tuple[str, ...], tuple[str, ...]] = {}
    inside = in_assembly = located = False
    numbers = []
    for number, line in enumerate(ptx.splitlines(), 1):
        text = line.strip()
        if text in ("// begin inline asm", "// end inline asm"):
            in_assembly, located = "begin" in text, False
        elif location := _LOCATION.match(line):
            if not in_assembly or not located:
                inside = any(map(_in_weight_function, _places(location, line, files, call_sites)))
            located = True
        elif inside and text and not text.startswith("//"):
            numbers.append(number)
    return frozenset(numbers)


def _places(
    location: re.Match[str],
    line: str,
    files: dict[str, str],
    call_sites: dict[tuple[str, ...], tuple[str, ...]],
) -> list[Place]:
    """A location and where the functions around it were called, innermost first.

    Triton 3.9 writes the caller as `inlined_at`, whose own caller an earlier line gave; 3.6 writes
    all of them in a comment, by their files' last names.
    """
    where = location.groups()
    inlined_at = _INLINED_AT.search(line)
    if inlined_at:
        call_sites[where] = inlined_at.groups()
    chain = [where]
    while chain[-1] in call_sites and call_sites[chain[-1]] not in chain:
        chain.append(call_sites[chain[-1]])
    named = {Path(file).name: file for file in files.values()}
    commented = [(named.get(name, name), int(row)) for name, row in _CALLED_FROM.findall(line)]
    return [(files.get(file, ""), int(row)) for file, row, _ in chain] + commented


def _in_weight_function(place: Place) -> bool:
    file, line = place
    return any(line in rows for rows in _weight_functions(file))


@lru_cache
def _weight_functions(file: str) -> tuple[range, ...]:
    """The lines of every `load_weights*` function of a source file and of its calls."""
    try:
        tree = ast.parse(Path(file).read_text())
    except (OSError, ValueError, SyntaxError):
        return ()
    return tuple(
        range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.Call) and _name(node).startswith(WEIGHT_FUNCTIONS)
    )


def _name(node: ast.FunctionDef | ast.Call) -> str:
    """What a function is called, or called by."""
    if isinstance(node, ast.FunctionDef):
        return node.name
    return node.func.id if isinstance(node.func, ast.Name) else ""
