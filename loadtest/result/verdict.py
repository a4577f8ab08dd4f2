"""The four verdicts, and which of them a load or a search has earned.

| verdict | means | exit code |
|---|---|---|
| passed | what was asked is shown | 0 |
| inconclusive | valid, but too little to say | 3 |
| invalid | the measurement cannot be used: it may be of the generator | 3 |
| failed | the service, or its predictions, did not do what was asked | 1 |

The worst of several counts, in the order failed > invalid > inconclusive > passed. A load is failed
in spite of a late generator where no lateness explains what went wrong: a wrong prediction, too
many errors for the objective, or a service that stopped answering.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from loadtest.result.percentiles import rank_of_percentile, samples_needed

__all__ = [
    "Status",
    "reasons_of",
    "status_of",
    "status_of_max_rate",
    "status_of_slo",
    "status_of_step",
    "worst",
]

ENOUGH_SILENT = 5
"""Requests in a row up to the end without a reply: not chance."""
SILENT_SHARE, SILENT_S = 0.1, 1.0
"""Of the window, or seconds, whichever is shorter: a short fault is not an end."""
LATE_SHARE_OF_TIMEOUT = 0.1
"""A generator that was this late may have made timeouts itself."""


class Status(StrEnum):
    """A verdict; the word is the same on the terminal, on pages and in files."""

    PASSED = "passed"
    INCONCLUSIVE = "inconclusive"
    INVALID = "invalid"
    FAILED = "failed"

    @classmethod
    def _missing_(cls, value: object) -> Status | None:
        """Words of older results."""
        old = {"holds": cls.PASSED, "fails": cls.FAILED, "not shown": cls.INCONCLUSIVE}
        return old.get(str(value))

    @property
    def exit_code(self) -> int:
        """Of a command that ends with it."""
        return {"passed": 0, "failed": 1}.get(self.value, 3)


def worst(found: Iterable[Status]) -> Status:
    """The worst of several verdicts; passed where there is none."""
    return max(found, key=list(Status).index, default=Status.PASSED)


def status_of(summary: dict[str, Any]) -> Status:
    """Of one load.

    Args:
        summary: of summary.json; one of before it named its verdict will do.
    """
    return _judge(summary)[0]


def reasons_of(summary: dict[str, Any]) -> list[str]:
    """Why a load is not passed, in sentences."""
    return _judge(summary)[1]


def status_of_slo(summary: dict[str, Any]) -> Status:
    """Of the objective alone; the summary has one."""
    met = summary["slo"]["met"]
    if _silence(summary) or _errors(summary):
        return Status.FAILED
    if met is None:
        return Status.INCONCLUSIVE
    if not _is_valid(summary):
        return Status.INVALID
    return Status.PASSED if met else Status.FAILED


def status_of_max_rate(max_rate: dict[str, Any]) -> Status:
    """Of a search.

    Args:
        max_rate: of promise.json; one of before it named its verdict will do.
    """
    if "verdict" in max_rate:
        return Status(max_rate["verdict"])
    if max_rate["note"]:
        return Status.INCONCLUSIVE if "stopped" in max_rate["note"] else Status.INVALID
    return Status.PASSED if max_rate["rate_rps"] else Status.FAILED


def status_of_step(step: dict[str, Any]) -> Status:
    """Of one step of a saturation; older ones say whether they are valid alone."""
    usual = Status.PASSED if step["valid"] else Status.INVALID
    return Status(step.get("verdict", usual))


def _judge(summary: dict[str, Any]) -> tuple[Status, list[str]]:
    slo = summary.get("slo")
    certain = [*_wrong(summary), *_silence(summary), *_errors(summary)]
    if certain:
        return Status.FAILED, certain
    if not _is_valid(summary):
        return Status.INVALID, [rule["text"] for rule in _rules(summary) if not rule["held"]]
    if slo and slo["met"] is False:
        seen = "no answer" if slo["observed_ms"] is None else f"{slo['observed_ms']:.1f} ms"
        return Status.FAILED, [f"{_name(slo)} is missed: {seen}."]
    if summary["stopped_by"]:
        return Status.INCONCLUSIVE, [f"Stopped by {summary['stopped_by']} before the end."]
    if slo and slo["met"] is None:
        few = f"{summary['planned']} requests, {samples_needed(slo['percentile'])} are needed"
        return Status.INCONCLUSIVE, [f"{_name(slo)} is not judged: {few}."]
    return Status.PASSED, []


def _wrong(summary: dict[str, Any]) -> list[str]:
    counts = summary["counts"]
    failed = sum(counts.values()) - counts["ok"] - counts["missed"]
    steps = (summary.get("saturation") or {}).get("steps", [])
    others = [step for step in steps if step.get("verdict") == Status.FAILED]
    if counts["wrong_answer"]:
        return [f"{counts['wrong_answer']} wrong predictions of {summary['planned']} requests."]
    if not counts["ok"] and failed:
        return [f"Not one right prediction to {failed} requests."]
    return [f"With {_users(step['users'])}: {' '.join(step['reasons'])}" for step in others]


def _silence(summary: dict[str, Any]) -> list[str]:
    """A service that answered nothing from some moment to the end."""
    silence = summary.get("silence")
    if not silence:
        return []
    requests = silence["requests"] - (silence["timeouts"] if _is_very_late(summary) else 0)
    enough = min(ENOUGH_SILENT, (summary["users"] or ENOUGH_SILENT) + 1)
    if requests < enough or silence["for_s"] < min(SILENT_S, SILENT_SHARE * summary["duration_s"]):
        return []
    return [
        f"The service stopped answering at {silence['from_s']:.1f} s: "
        f"{silence['requests']} requests in a row failed, up to the end."
    ]


def _errors(summary: dict[str, Any]) -> list[str]:
    """An objective that errors alone miss, were every other request in time."""
    slo, counts, planned = summary.get("slo"), summary["counts"], summary["planned"]
    if not slo or not planned:
        return []
    errors = counts["http_error"] + counts["connection_error"] + counts["wrong_answer"]
    errors += 0 if _is_very_late(summary) else counts["timeout"]
    total = max(planned, samples_needed(slo["percentile"]))
    if total - errors >= rank_of_percentile(slo["percentile"], total):
        return []
    return [f"{_name(slo)} is missed by {errors} failures of {planned} requests alone."]


def _is_very_late(summary: dict[str, Any]) -> bool:
    rules = {rule["name"]: rule for rule in _rules(summary)}
    if not rules.get("generator_cpu_share", {"held": True})["held"]:
        return True
    late = ("dispatch_lateness_p99_ms", "event_loop_lag_p99_ms")
    limit_ms = LATE_SHARE_OF_TIMEOUT * 1000 * summary.get("timeout_s", 10.0)
    return any(rules[name]["value"] > limit_ms for name in late if name in rules)


def _is_valid(summary: dict[str, Any]) -> bool:
    return bool(summary.get("validity", {"valid": True})["valid"])


def _rules(summary: dict[str, Any]) -> list[dict[str, Any]]:
    return list(summary.get("validity", {"rules": []})["rules"])


def _users(number: int) -> str:
    return f"{number} user{'' if number == 1 else 's'}"


def _name(slo: dict[str, Any]) -> str:
    return f"p{slo['percentile']:g} <= {slo['target_ms']:g} ms"
