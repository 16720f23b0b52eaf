"""Every message that the sources raise, warn of or return as a reason, found by `ast`."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from plain_words import ROOT, Passage, template_of

# Errors that a user meets as the one line of a command, or as the error of a call.
FOR_USERS = (
    *("UserError", "NotComparable", "MeasuringFailed", "Interrupted", "NoReportLibraries"),
    *("MissingData", "ValueError", "TypeError"),
)
# Findings that become a record's reason, a note, or a part of a longer message.
REASONS = (
    *("Unsupported", "Refused", "Failed", "Skip", "Malformed", "Incorrect", "Broken", "Unfit"),
    *("BadMessage", "Unloadable", "RuntimeError", "AttributeError", "OSError", "warn"),
    *("ImportError", "ModuleNotFoundError", "ZeroDivisionError", "NotImplementedError"),
)


@dataclass(frozen=True)
class Message:
    """A message with {...} in place of each value, and where it is made."""

    kind: str
    text: str
    path: str
    line: int

    def __str__(self) -> str:
        """One line, for the failure of a test."""
        return f"{self.path}:{self.line}: {self.kind}: {self.text}"

    @property
    def passage(self) -> Passage:
        """The message as text that is read."""
        return Passage(self.path, self.line, self.text)


def all_messages() -> list[Message]:
    """Those of the kernels and of the harness, but a page's reasons, which are whole sentences."""
    rooms = (ROOT / "kernels", ROOT / "harness")
    paths = sorted(path for room in rooms for path in room.rglob("*.py"))
    return [
        message
        for path in paths
        for message in messages_of(path.read_text(), str(path.relative_to(ROOT)))
        if message.kind != "reason" or "report" not in path.parts
    ]


def messages_of(source: str, path: str) -> list[Message]:
    """Those of one module; a text that only passes through is not one."""
    tree = ast.parse(source)
    named = dict(_assigned(tree.body))
    outside = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    found: dict[Message, None] = {}
    for scope in (*outside, *functions):
        known = named | dict(_assigned(ast.walk(scope)))
        for node in ast.walk(scope):
            for kind, said in _said(node, scope):
                found |= {
                    Message(kind, text, path, node.lineno): None for text in _texts(said, known)
                }
    return list(found)


def _said(node: ast.AST, scope: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """The arguments of an error or a warning; what a function gives that gives reasons."""
    if isinstance(node, ast.Call) and _name(node.func) in (*FOR_USERS, *REASONS):
        yield from ((_name(node.func), argument) for argument in node.args)
    if isinstance(node, ast.Return) and node.value is not None and _gives_a_reason(scope):
        yield "reason", node.value


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _gives_a_reason(function: ast.AST) -> bool:
    """Whether it does, by its docstring and its return type."""
    if not isinstance(function, ast.FunctionDef):
        return False
    says = (ast.get_docstring(function) or "").startswith(("Why ", "The reason "))
    return says and function.returns is not None and "str" in ast.unparse(function.returns)


def _assigned(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, ast.expr]]:
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value


def _texts(node: ast.expr, known: dict[str, ast.expr]) -> Iterator[str]:
    """The texts that an expression may be; none where it is only handed on."""
    if isinstance(node, ast.JoinedStr):
        yield template_of(node)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body, known)
        yield from _texts(node.orelse, known)
    elif isinstance(node, ast.Name) and node.id in known:
        yield from _texts(known[node.id], {k: v for k, v in known.items() if k != node.id})
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        for left in _texts(node.left, known):
            for right in list(_texts(node.right, known)) or ["{...}"]:
                yield left + right
