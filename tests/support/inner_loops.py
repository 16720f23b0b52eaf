"""The innermost loops of an assembly text, x86-64's (as AT&T writes it) and AArch64's."""

import re
from dataclasses import dataclass

_LABEL = re.compile(r"(\.LBB\d+_\d+):")
_JUMP = re.compile(r"(?:j\w+|b\.?\w*|cbn?z|tbn?z)\s.*?(\.LBB\d+_\d+)$")
_MULTIPLY_ADD = re.compile(r"vfn?m(?:add|sub)\d+p[sd]\s.*%(\w+)$|fml[as]\s+v(\d+)\.\d[sd],.*$")
_VECTOR_ON_STACK = re.compile(
    r".*%[xyz]mm.*\(%rsp|.*\(%rsp.*%[xyz]mm|(?:ldr|str|ldp|stp)\s+q.*\[sp"
)


@dataclass(frozen=True)
class Loop:
    """Its instructions, vector multiply-adds and their sums, and vectors that come and go."""

    instructions: int
    multiply_adds: int
    accumulators: int
    on_stack: int


def inner_loops(assembly: str) -> list[Loop]:
    """Those with a vector multiply-add, in the order they are written."""
    lines = [re.split(r"\s(?:#|//)", line)[0].strip() for line in assembly.splitlines()]
    lines = [line for line in lines if line and (not line.startswith(".") or _LABEL.match(line))]
    begins = {found[1]: at for at, line in enumerate(lines) if (found := _LABEL.match(line))}
    loops = []
    for end, line in enumerate(lines):
        jump = _JUMP.match(line)
        begin = begins.get(jump[1], end) if jump else end
        body = lines[begin + 1 : end]
        if begin < end and not any(map(_LABEL.match, body)):
            sums = [found[1] or found[2] for each in body if (found := _MULTIPLY_ADD.match(each))]
            if sums:
                on_stack = sum(_VECTOR_ON_STACK.match(each) is not None for each in body)
                loops.append(Loop(len(body) + 1, len(sums), len(set(sums)), on_stack))
    return loops
