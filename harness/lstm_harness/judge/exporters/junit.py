"""A comparison as JUnit XML: a test case a verdict, which CI systems list by name.

Slower, larger, missing and wrong are failures, and so is whatever `--fail-on` names; a measurement
that failed is an error; what could not be told or compared is skipped, with its reason.
"""

import math
from xml.etree import ElementTree

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

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
    for verdict in comparison.verdicts:
        suite.add_testcase(_case(verdict, comparison.fail_on))
    if comparison.exit_code == Exit.NOT_COMPARABLE:
        suite.add_testcase(_of_nothing(comparison))
    suite.update_statistics()
    report = JUnitXml(SUITE)
    report.add_testsuite(suite)
    report.update_statistics()
    ElementTree.indent(report._elem)
    content: bytes = ElementTree.tostring(report._elem, "utf-8", xml_declaration=True)
    return content + b"\n"


def _of_nothing(comparison: Comparison) -> TestCase:
    """What keeps a suite in which nothing could be compared from looking green."""
    case = TestCase("anything is comparable", SUITE, 0.0)
    said = "; ".join(comparison.differences) or words.counted(comparison)
    case.result = [Error(f"nothing could be judged: {words.plain(said, 400)}", "NOT_COMPARABLE")]
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
