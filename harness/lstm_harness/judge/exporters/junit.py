"""A comparison as JUnit XML: a test case a verdict, which CI systems list by name.

They stand backend by backend, each backend's cases together first. Slower, larger, missing and
wrong are failures, and so is whatever `--fail-on` names. A measurement that failed is an error.
What could not be told or compared is skipped, with its reason; where that is all there is, one more
test case is an error.
"""

import math
from xml.etree import ElementTree

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from lstm_harness.judge.by_backend import by_backend
from lstm_harness.judge.comparison import Comparison
from lstm_harness.judge.exporters import words
from lstm_harness.judge.verdict import Kind, Verdict
from lstm_harness.model.errors import Exit
from lstm_harness.model.record import FAILED_MEASURING

SUITE = "lstm-bench"
FAILURES = frozenset({Kind.REGRESSION, Kind.MISSING, Kind.INCORRECT})
SKIPS = frozenset({Kind.INCONCLUSIVE, Kind.INCOMPARABLE, Kind.SKIPPED})


def xml(comparison: Comparison) -> bytes:
    """The file's content."""
    suite = TestSuite(SUITE)
    backends = by_backend(comparison)
    for each in backends:
        for verdict in ([each.together] if each.together else []) + list(each.cases):
            suite.add_testcase(_case(verdict, comparison.fail_on))
    advice = words.advice(comparison, backends)
    if comparison.exit_code == Exit.NOT_COMPARABLE:
        said = "; ".join(comparison.differences) or words.counted(comparison)
        reason = f"nothing could be judged: {words.plain(said, 400)}"
        suite.add_testcase(_of_nothing("anything is comparable", reason, "NOT_COMPARABLE"))
    elif advice:
        reason = f"nothing could be told; {advice}"
        suite.add_testcase(_of_nothing("anything can be told", reason, "INCONCLUSIVE"))
    suite.update_statistics()
    report = JUnitXml(SUITE)
    report.add_testsuite(suite)
    report.update_statistics()
    ElementTree.indent(report._elem)
    content: bytes = ElementTree.tostring(report._elem, "utf-8", xml_declaration=True)
    return content + b"\n"


def _of_nothing(name: str, reason: str, code: str) -> TestCase:
    """What keeps a suite in which nothing was judged from looking green."""
    case = TestCase(name, SUITE, 0.0)
    case.result = [Error(reason, code)]
    return case


def _case(verdict: Verdict, fail_on: frozenset[Kind]) -> TestCase:
    measure = words.MEASURES[verdict.measure]
    name = f"{words.case(verdict, 160)} on {verdict.case['device']}, {measure}"
    new_s = verdict.new / 1e9 if verdict.measure == "time" else math.nan
    seconds = new_s if math.isfinite(new_s) else 0.0
    case = TestCase(words.plain(name, 200), words.plain(verdict.backend), seconds)
    message = _message(verdict)
    if verdict.status in FAILED_MEASURING:
        case.result = [Error(message, verdict.status)]
    elif verdict.kind in FAILURES | fail_on:
        case.result = [Failure(message, verdict.kind.value)]
    elif verdict.kind in SKIPS:
        case.result = [Skipped(message, verdict.kind.value)]
    else:
        case.system_out = message
    return case


def _message(verdict: Verdict) -> str:
    figures = [words.figure(verdict, value) for value in (verdict.base, verdict.new)]
    said = [verdict.kind.value]
    if all(figures):
        said.append(f"{' to '.join(figures)} {words.change(verdict)}".strip())
    if verdict.reason:
        said.append(words.plain(verdict.reason, 400))
    return ": ".join(said)
