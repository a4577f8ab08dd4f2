"""JUnit's XML of a load test, for the pages in which CI servers show tests.

A figure that means nothing is an error, an objective that is missed a failure, and one that too few
requests were sent to judge is skipped. Form: the de-facto schema of Apache Ant's JUnit task.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from loadtest.errors import LoadTestError, UsageError

__all__ = [
    "Case",
    "cases_from_promise",
    "cases_from_summary",
    "check_junit_file",
    "write_junit",
]

Status = Literal["passed", "failure", "error", "skipped"]
COUNTED = ("failure", "error", "skipped")
OBJECTIVE: dict[bool | None, Status] = {True: "passed", False: "failure", None: "skipped"}


@dataclass(frozen=True)
class Case:
    """One line of the page.

    Attributes:
        name: what is expected.
        status: what came of it.
        text: why, where it did not pass.
    """

    name: str
    status: Status = "passed"
    text: str = ""


def cases_from_summary(summary: dict[str, Any]) -> list[Case]:
    """What a summary says of the measurement, of the answers and of the objective."""
    broken = [rule["text"] for rule in summary["validity"]["rules"] if not rule["held"]]
    if summary["stopped_by"]:
        broken.insert(0, f"Stopped by {summary['stopped_by']} before the end.")
    counts = summary["counts"]
    wrong, right = counts["wrong_answer"], counts["ok"]
    said = "" if right and not wrong else f"{wrong} wrong and {right} right answers."
    cases = [
        Case("the measurement is valid", "error" if broken else "passed", " ".join(broken)),
        Case("answers are right", "failure" if said else "passed", said),
    ]
    if slo := summary.get("slo"):
        observed = "no answer" if slo["observed_ms"] is None else f"{slo['observed_ms']:g} ms"
        status = OBJECTIVE[slo["met"]]
        text = f"Observed: {observed} of {summary['planned']} requests; {slo['needed']} are needed."
        name = f"p{slo['percentile']:g} <= {slo['target_ms']:g} ms"
        cases.append(Case(name, status, "" if status == "passed" else text))
    return cases


def cases_from_promise(promise: dict[str, Any]) -> list[Case]:
    """What a search found."""
    slo = promise["slo"]
    name = f"some rate holds p{slo['percentile']:g} <= {slo['target_ms']:g} ms"
    if promise["note"]:
        return [Case(name, "error", promise["note"])]
    if not promise["rate_rps"]:
        return [Case(name, "failure", f"None of {len(promise['probes'])} rates does.")]
    return [Case(f"{name}: {promise['rate_rps']:.1f} requests/s")]


def check_junit_file(path: Path | None) -> None:
    """Make sure, before the load, that the file can be written; create nothing.

    Raises:
        UsageError: it is a folder, or lies where nothing may be written.
    """
    if path is None:
        return
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    if path.is_dir() or not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"--junit {str(path)!r} cannot be written", "name another file")


def write_junit(path: Path, cases: Sequence[Case], seconds: float = 0.0) -> None:
    """Write one suite, whole or not at all.

    Args:
        path: file, which is replaced.
        cases: at least one.
        seconds: what the load took.

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
    for one in cases:
        case = ElementTree.SubElement(suite, "testcase", classname="loadtest", name=one.name)
        if one.status != "passed":
            ElementTree.SubElement(case, one.status, message=one.text)
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True))
        partial.replace(path)
    except OSError as error:
        message = f"--junit {str(path)!r} cannot be written ({error.strerror})"
        raise LoadTestError(message, "name another file") from error
