"""Inline assembly, run as its text says: the few instructions that flags are made of.

A text is a list of instructions, labels and declarations, in braces or not. `$0`, `$1` are its
operands: registers that the compiler fills in, the results first. Whatever is not known here is an
error that says so, and never passed over.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

SEMANTICS = ("weak", "relaxed", "acquire", "release", "acq_rel", "volatile")
SCOPES = ("cta", "cluster", "gpu", "sys")
CACHING = ("ca", "cg", "cs", "cv", "lu", "wb", "wt")
TYPES = {"pred": 1, "b32": 4, "u32": 4, "s32": 4, "b64": 8, "u64": 8, "s64": 8, "f32": 4, "f64": 8}
VECTORS = {"v2": 2, "v4": 4}
# What PTX allows of each; a load that releases is no instruction.
ALLOWED = {
    "ld": ("weak", "relaxed", "acquire", "volatile"),
    "st": ("weak", "relaxed", "release", "volatile"),
    "red": ("relaxed", "release"),
    "atom": ("relaxed", "acquire", "release", "acq_rel"),
    "fence": ("acq_rel",),
}
COMPARISONS = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
ARITHMETIC = {"add": lambda a, b: a + b, "sub": lambda a, b: a - b}


class Processor(Protocol):
    """What a thread's instructions act on."""

    def load(self, address: int, kind: "Kind", text: str, waits: str) -> Any: ...
    def store(self, address: int, value: Any, kind: "Kind", text: str) -> None: ...
    def add(self, address: int, value: int, kind: "Kind", text: str) -> int: ...
    def fence(self, kind: "Kind", text: str) -> None: ...
    def trap(self, text: str, waits: str) -> None: ...


class Kind(NamedTuple):
    """How an instruction meets memory."""

    sem: str
    scope: str
    type: str

    @property
    def size(self) -> int:
        """Bytes."""
        return TYPES[self.type]


class Instruction(NamedTuple):
    """One of them; `guard` is a predicate and whether it must not hold."""

    name: str
    modifiers: tuple[str, ...]
    operands: tuple[str, ...]
    guard: tuple[str, bool] | None
    text: str


class Code(NamedTuple):
    """A text, read."""

    instructions: tuple[Instruction, ...]
    labels: dict[str, int]


@cache
def read(text: str) -> Code:
    """The instructions of a text."""
    text = re.sub(r"//[^\n]*", "", text).strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1]
    instructions: list[Instruction] = []
    labels = {}
    for statement in (each.strip() for each in text.split(";")):
        while label := re.match(r"(\w+):\s*", statement):
            labels[label[1]] = len(instructions)
            statement = statement[label.end() :]
        if statement and not statement.startswith(".reg"):
            instructions.append(_instruction(statement))
    return Code(tuple(instructions), labels)


def _instruction(statement: str) -> Instruction:
    found = re.fullmatch(r"(?:@(!?)(\w+)\s+)?(\w[\w.]*)\s*(.*)", statement, re.S)
    if found is None:
        raise ValueError(f"no instruction of PTX: {statement!r}")
    name, *modifiers = found[3].split(".")
    operands = tuple(re.findall(r"\[[^\]]*\]|\{[^}]*\}|[^,\s]+", found[4]))
    guard = (found[2], bool(found[1])) if found[2] else None
    return Instruction(name, tuple(modifiers), operands, guard, " ".join(statement.split()))


def run(
    text: str,
    inputs: Sequence[Any],
    results: int,
    thread: int,
    processor: Processor,
    waits: str = "",
) -> list[Any]:
    """Run a text as one thread does; its results.

    Args:
        inputs: what the operands after the results hold, addresses and numbers.
        thread: %tid.x.
        waits: what for, in words; the text's own comparison of what it loaded is told instead.
    """
    code = read(text)
    registers: dict[str, Any] = {f"${results + at}": value for at, value in enumerate(inputs)}
    registers["%tid.x"] = thread
    loaded = {each.operands[0] for each in code.instructions if each.name == "ld"}
    at = 0
    while at < len(code.instructions):
        now = code.instructions[at]
        at += 1
        if now.guard and bool(_value(now.guard[0], registers)) == now.guard[1]:
            continue
        if now.name == "bra":
            at = code.labels[now.operands[0]]
        elif now.name == "trap":
            processor.trap(now.text, waits)
        elif now.name in ("ld", "st", "red", "atom", "fence"):
            _access(now, registers, processor, waits)
        elif now.name == "setp":
            kind = now.modifiers[-1]
            a, b = (_number(_value(each, registers), kind) for each in now.operands[1:])
            registers[now.operands[0]] = COMPARISONS[now.modifiers[0]](a, b)
            if not loaded.isdisjoint(now.operands[1:]):
                waits = f"`{now.text}`, where {now.operands[1]} is {a} and {now.operands[2]} {b}"
        elif now.name == "mov":
            registers[now.operands[0]] = _value(now.operands[1], registers)
        elif now.name in ARITHMETIC:
            a, b = (_value(each, registers) for each in now.operands[1:])
            made = ARITHMETIC[now.name](a, b)
            registers[now.operands[0]] = _number(made, now.modifiers[-1])
        else:
            raise NotImplementedError(f"interleaved/ptx.py runs no {now.text!r}; teach it to")
    return [registers.get(f"${result}") for result in range(results)]


def _access(now: Instruction, registers: dict[str, Any], processor: Processor, waits: str) -> None:
    kind, count = _kind(now)
    if now.name == "fence":
        processor.fence(kind, now.text)
        return
    place = now.operands[0] if now.name in ("st", "red") else now.operands[1]
    address = _address(place, registers)
    if now.name == "ld":
        targets = re.findall(r"[^{},\s]+", now.operands[0])
        if len(targets) != count:
            raise ValueError(f"{now.text!r} loads {count} and names {len(targets)}")
        for lane, target in enumerate(targets):
            lane_address = address + lane * kind.size
            registers[target] = processor.load(lane_address, kind, now.text, waits)
        return
    value = _value(now.operands[-1], registers)
    if now.name == "st":
        processor.store(address, value, kind, now.text)
        return
    if "add" not in now.modifiers:
        raise NotImplementedError(f"interleaved/ptx.py adds, and no {now.text!r}; teach it to")
    before = processor.add(address, value, kind, now.text)
    if now.name == "atom":
        registers[now.operands[0]] = before


def _kind(now: Instruction) -> tuple[Kind, int]:
    """How it meets memory, and how many elements at once."""
    sem = [each for each in now.modifiers if each in SEMANTICS]
    scope = [each for each in now.modifiers if each in SCOPES]
    types = [each for each in now.modifiers if each in TYPES]
    vector = [VECTORS[each] for each in now.modifiers if each in VECTORS]
    known = (*SEMANTICS, *SCOPES, *TYPES, *CACHING, *VECTORS, "global", "add")
    unknown = [each for each in now.modifiers if each not in known]
    chosen = sem[0] if sem else "relaxed" if now.name in ("red", "atom") else "weak"
    if unknown or len(sem) > 1 or chosen not in ALLOWED[now.name]:
        raise ValueError(f"{now.text!r} is no instruction that PTX or interleaved/ptx.py has")
    if chosen in ("relaxed", "acquire", "release", "acq_rel") and not scope:
        if now.name in ("ld", "st", "fence"):
            raise ValueError(f"{now.text!r} tells no scope, one of {', '.join(SCOPES)}")
        scope = ["gpu"]
    if chosen == "volatile":
        # As PTX says: a relaxed one, whose scope is the system.
        chosen, scope = "relaxed", ["sys"]
    kind = types[0] if types else "b32"
    return Kind(chosen, scope[0] if scope else "", kind), vector[0] if vector else 1


def _address(place: str, registers: dict[str, Any]) -> int:
    base, _, offset = place.strip("[]").partition("+")
    return int(_value(base.strip(), registers)) + int(offset or 0)


def _value(operand: str, registers: dict[str, Any]) -> Any:
    if re.fullmatch(r"-?\d+", operand):
        return int(operand)
    if operand not in registers:
        raise ValueError(f"{operand} has no value yet")
    return registers[operand]


def _number(value: int, kind: str) -> int:
    """A value as wide as its type, signed where that is."""
    bits = 8 * TYPES[kind]
    value = int(value) & ((1 << bits) - 1)
    return value - (1 << bits) if kind.startswith("s") and value >> (bits - 1) else value
