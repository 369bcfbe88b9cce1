"""JUnit XML, in the form that Jenkins, GitLab and GitHub's actions read: a test suite for every
capture, a test case for every limit. A failed limit is a failure, an inconclusive one an error;
a program that failed by itself is an error too; notes are the suite's output. All limits are judged
on the one run, so a suite has its time and a case none.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from mem_parser.budget.outputs.text import result_lines
from mem_parser.budget.outputs.words import own_code, sentence
from mem_parser.budget.verdict import CaptureReport, Report, Verdict
from mem_parser.escape import xml_document, xml_text

_LATEST = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


def render(report: Report) -> str:
    """Return the document."""
    root = ET.Element("testsuites", name="memory budget")
    for capture in report.captures:
        root.append(_suite(capture))
    verdicts = [r.verdict for _, r in report.results]
    if report.program_code:
        suite = ET.SubElement(root, "testsuite", name="program")
        _count(suite, [Verdict.INCONCLUSIVE], 0.0)
        case = ET.SubElement(suite, "testcase", classname="memory", name="program", time="0")
        ET.SubElement(case, "error", message=own_code(report), type="program")
        verdicts.append(Verdict.INCONCLUSIVE)
    _count(root, verdicts, sum(map(_seconds, report.captures)))
    ET.indent(root)
    return xml_document(root)


def _suite(capture: CaptureReport) -> ET.Element:
    suite = ET.Element("testsuite", name=xml_text(capture.program))
    _count(suite, [r.verdict for r in capture.results], _seconds(capture))
    if capture.started is not None and 0 <= capture.started < _LATEST:
        began = datetime.fromtimestamp(capture.started, UTC)
        suite.set("timestamp", began.strftime("%Y-%m-%dT%H:%M:%S"))
    for result in capture.results:
        case = ET.SubElement(
            suite, "testcase", classname=xml_text(f"memory.{capture.program}"),
            name=xml_text(result.name), time="0",
        )  # fmt: skip
        text = xml_text(sentence(result))
        lines = "\n".join(map(xml_text, result_lines(result)))
        if result.verdict is Verdict.FAIL:
            failure = ET.SubElement(case, "failure", message=text, type="over budget")
            failure.text = lines
        elif result.verdict is Verdict.INCONCLUSIVE:
            ET.SubElement(case, "error", message=text, type="inconclusive").text = lines
        else:
            ET.SubElement(case, "system-out").text = lines
    if capture.notes:
        ET.SubElement(suite, "system-out").text = "\n".join(map(xml_text, capture.notes))
    return suite


def _seconds(capture: CaptureReport) -> float:
    duration_s = capture.duration_s or 0.0
    return duration_s if 0.0 <= duration_s < math.inf else 0.0


def _count(element: ET.Element, verdicts: list[Verdict], seconds: float) -> None:
    element.set("tests", str(len(verdicts)))
    element.set("failures", str(verdicts.count(Verdict.FAIL)))
    element.set("errors", str(verdicts.count(Verdict.INCONCLUSIVE)))
    element.set("time", f"{seconds:.3f}")
