"""The JUnit dialect that CI systems agree on, checked strictly: nothing that is not described.

What the XSD of Jenkins' xUnit plugin allows, and what Ant's writes: elements in this order, these
attributes alone, those that are required present, and counts that are true.
"""

import re
from xml.etree import ElementTree

_COUNT = re.compile(r"[0-9]+")
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_TEXT = re.compile(r".+", re.DOTALL)
_COUNTS = dict.fromkeys(("tests", "failures", "errors", "skipped"), _COUNT)
_RESULT = {"message": _TEXT, "type": _TEXT}

# Per element: required attributes, allowed ones, and the children's order as a pattern.
SCHEMA = {
    "testsuites": ({}, {"name": _TEXT, "time": _SECONDS, **_COUNTS}, r"(testsuite )*"),
    "testsuite": (
        {"name": _TEXT, **_COUNTS},
        {"time": _SECONDS},
        r"(properties )?(testcase )*(system-out )?(system-err )?",
    ),
    "testcase": (
        {"name": _TEXT, "classname": _TEXT, "time": _SECONDS},
        {},
        r"((skipped|error|failure) )?(system-out )?(system-err )?",
    ),
    "failure": (_RESULT, {}, ""),
    "error": (_RESULT, {}, ""),
    "skipped": (_RESULT, {}, ""),
    "system-out": ({}, {}, ""),
}


def faults(content: bytes) -> list[str]:
    """What is wrong with a JUnit file; empty where nothing is."""
    root = ElementTree.fromstring(content)
    found = [] if root.tag == "testsuites" else [f"the root is {root.tag}"]
    for element in root.iter():
        found += _of_element(element)
    for suite in root.iter("testsuite"):
        found += _of_counts(suite)
    names = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    return found + [f"{name} stands there twice" for name in set(names) if names.count(name) > 1]


def _of_element(element: ElementTree.Element) -> list[str]:
    if element.tag not in SCHEMA:
        return [f"unknown element {element.tag}"]
    required, allowed, children = SCHEMA[element.tag]
    found = [f"{element.tag} lacks {name}" for name in required if name not in element.attrib]
    for name, value in element.attrib.items():
        pattern = (required | allowed).get(name)
        if pattern is None or not pattern.fullmatch(value):
            found.append(f"{element.tag} has {name}={value!r}")
    order = "".join(f"{child.tag} " for child in element)
    if not re.fullmatch(children, order):
        found.append(f"{element.tag} holds {order}")
    return found


def _of_counts(suite: ElementTree.Element) -> list[str]:
    true = {
        "tests": len(suite.findall("testcase")),
        "failures": len(suite.findall("testcase/failure")),
        "errors": len(suite.findall("testcase/error")),
        "skipped": len(suite.findall("testcase/skipped")),
    }
    return [f"{n} is {suite.get(n)}, not {c}" for n, c in true.items() if suite.get(n) != str(c)]
