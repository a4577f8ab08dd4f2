"""JUnit XML output: a load test as CI servers show tests.

A figure that means nothing is an error, an objective that is missed a failure, and one that too few
requests were sent to judge is skipped; the `type` of each is the verdict in our own words, and the
property `verdict` of the suite is that of the whole. Form: the de-facto schema of Apache Ant's
JUnit task.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from loadtest.errors import LoadTestError, UsageError
from loadtest.result.files import existing_folder, try_to_write, write_files
from loadtest.result.verdict import (
    Status,
    reasons_of,
    status_of,
    status_of_max_rate,
    status_of_slo,
    worst,
)

__all__ = [
    "Case",
    "JunitFile",
    "cases_from_max_rate",
    "cases_from_summary",
    "check_junit_file",
    "write_junit",
]

Element = Literal["passed", "failure", "error", "skipped"]
OWN = ("summary.json", "samples.csv", "report.html", "promise.json")
COUNTED = ("failure", "error", "skipped")
ELEMENTS: dict[Status, Element] = {
    Status.PASSED: "passed",
    Status.FAILED: "failure",
    Status.INVALID: "error",
    Status.INCONCLUSIVE: "skipped",
}
NOT_XML = re.compile("[^\\t\\n\\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Case:
    """One line of the page.

    Attributes:
        name: what is expected.
        status: the element that shows what came of it.
        text: why, where it did not pass.
        verdict: in our own words.
    """

    name: str
    status: Element = "passed"
    text: str = ""
    verdict: Status = Status.PASSED


def cases_from_summary(summary: dict[str, Any]) -> list[Case]:
    """What a summary says of the measurement, of the predictions and of the objective."""
    verdict = status_of(summary)
    broken = " ".join(rule["text"] for rule in summary["validity"]["rules"] if not rule["held"])
    counts = summary["counts"]
    wrong, right = counts["wrong_answer"], counts["ok"]
    said = "" if right and not wrong else f"{wrong} wrong and {right} right predictions."
    cases = [
        _case("the measurement is valid", Status.INVALID if broken else Status.PASSED, broken),
        _case("predictions are right", Status.FAILED if said else Status.PASSED, said),
    ]
    if summary["stopped_by"]:  # red on every CI server, whatever else was found
        text = f"Stopped by {summary['stopped_by']} before the end. {broken}".strip()
        cases[0] = Case(cases[0].name, "error", text, Status.INCONCLUSIVE)
    if slo := summary.get("slo"):
        observed = "no answer" if slo["observed_ms"] is None else f"{slo['observed_ms']:g} ms"
        text = f"Observed: {observed} of {summary['planned']} requests; {slo['needed']} are needed."
        name = f"p{slo['percentile']:g} <= {slo['target_ms']:g} ms"
        cases.append(_case(name, status_of_slo(summary), text))
    if verdict is Status.FAILED and all(case.verdict is not Status.FAILED for case in cases):
        cases.append(
            _case("the service answers to the end", verdict, " ".join(reasons_of(summary)))
        )
    return cases


def cases_from_max_rate(max_rate: dict[str, Any]) -> list[Case]:
    """What a search found."""
    slo, verdict = max_rate["slo"], status_of_max_rate(max_rate)
    name = f"some rate holds p{slo['percentile']:g} <= {slo['target_ms']:g} ms"
    if max_rate["note"]:
        element: Element = "failure" if verdict is Status.FAILED else "error"
        return [Case(name, element, max_rate["note"], verdict)]
    if not max_rate["rate_rps"]:
        return [_case(name, verdict, f"None of {len(max_rate['probes'])} rates does.")]
    return [Case(f"{name}: {max_rate['rate_rps']:.1f} requests/s")]


def _case(name: str, verdict: Status, text: str) -> Case:
    text = "" if verdict is Status.PASSED else text
    return Case(name, ELEMENTS[verdict], text, verdict)


class JunitFile:
    """The file that a command writes beside its results.

    Args:
        path: of the file; tried now, before the load.
        out: the folder of the results, which must not be in its way.

    Raises:
        UsageError: it cannot be written.
    """

    def __init__(self, path: Path, out: Path) -> None:
        check_junit_file(path, out)
        self._path = path

    def write_load(self, summary: dict[str, Any]) -> None:
        """Write what one load showed; may raise LoadTestError."""
        cases, verdict = cases_from_summary(summary), status_of(summary)
        write_junit(self._path, cases, summary["duration_s"], verdict=verdict)

    def write_search(self, max_rate: dict[str, Any]) -> None:
        """Write what a search found; may raise LoadTestError."""
        write_junit(self._path, cases_from_max_rate(max_rate), verdict=status_of_max_rate(max_rate))


def check_junit_file(path: Path | None, out: Path | None = None) -> None:
    """Make sure, before the load, that the file can be written; leave nothing behind.

    Args:
        path: of the file; None writes none.
        out: the folder of the results, which must not be in its way.

    Raises:
        UsageError: it is a folder or is to become one, or lies where nothing may be written.
    """
    if path is None:
        return
    what = f"--junit {str(path)!r}"
    existing = existing_folder(path.absolute().parent)
    taken = {out.absolute(), *out.absolute().parents} if out is not None else set()
    own = out is not None and path.absolute().parent == out.absolute() and path.name in OWN
    if path.is_dir() or not existing.is_dir() or path.absolute() in taken or own:
        raise UsageError(f"{what} cannot be written", "name another file")
    try_to_write(existing, what)


def write_junit(
    path: Path,
    cases: Sequence[Case],
    seconds: float = 0.0,
    *,
    verdict: Status | None = None,
) -> None:
    """Write one suite, whole or not at all.

    Args:
        path: file, which is replaced.
        cases: at least one.
        seconds: what the load took.
        verdict: of the whole; None takes the worst case's.

    Raises:
        LoadTestError: it cannot be written.
    """
    count = {status: sum(one.status == status for one in cases) for status in COUNTED}
    suite = ElementTree.Element(
        "testsuite",
        name="stillroom loadtest",
        tests=str(len(cases)),
        failures=str(count["failure"]),
        errors=str(count["error"]),
        skipped=str(count["skipped"]),
        time=f"{seconds:.3f}",
    )
    properties = ElementTree.SubElement(suite, "properties")
    whole = worst(one.verdict for one in cases) if verdict is None else verdict
    ElementTree.SubElement(properties, "property", name="verdict", value=whole.value)
    for one in cases:
        case = ElementTree.SubElement(suite, "testcase", classname="loadtest", name=one.name)
        if one.status != "passed":
            text = NOT_XML.sub("\ufffd", one.text)  # a label may hold what XML cannot
            ElementTree.SubElement(case, one.status, type=one.verdict.value, message=text)
    xml = ElementTree.tostring(suite, encoding="unicode")
    try:
        write_files(path.parent, {path.name: f"<?xml version='1.0' encoding='utf-8'?>\n{xml}"})
    except LoadTestError as error:
        message = f"--junit {str(path)!r} cannot be written: {error.message}"
        raise LoadTestError(message, "name another file") from error
