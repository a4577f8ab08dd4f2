"""What a result says, in a headline, a status and sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from loadtest.result.verdict import Status, reasons_of, status_of, status_of_promise

__all__ = ["LoadVerdict", "promise_verdict", "run_verdict"]


@dataclass(frozen=True)
class LoadVerdict:
    """The first thing on the page.

    Attributes:
        status: its badge and colour.
        why: what stands beside the badge; a few words.
        headline: one sentence.
        notes: what limits it.
    """

    status: Status
    why: str
    headline: str
    notes: tuple[str, ...] = ()


def run_verdict(summary: dict[str, Any]) -> LoadVerdict:
    """Of one load."""
    status, reasons = status_of(summary), reasons_of(summary)
    broken = [rule["text"] for rule in summary["validity"]["rules"] if not rule["held"]]
    said = [*reasons, *(text for text in broken if text not in reasons)]
    notes = (*said, *(text for text in summary["warnings"] if text not in said))
    return LoadVerdict(status, _why(summary, status), _headline(summary), notes)


def _why(summary: dict[str, Any], status: Status) -> str:
    counts, slo = summary["counts"], summary.get("slo")
    if status is Status.FAILED:
        if counts["wrong_answer"]:
            return "wrong predictions"
        if not counts["ok"]:
            return "no answers"
        return "objective missed" if slo and slo["met"] is False else "it stopped answering"
    if summary["stopped_by"]:
        return "stopped"
    if status is Status.INVALID:
        return "the figures may be of the generator"
    if status is Status.INCONCLUSIVE:
        return "too few requests"
    return "objective met" if slo else "measured, no objective set"


def promise_verdict(promise: dict[str, Any]) -> LoadVerdict:
    """Of a search."""
    slo = promise["slo"]
    limit = f"p{slo['percentile']:g} <= {slo['target_ms']:g} ms"
    status = status_of_promise(promise)
    if promise["note"]:
        return LoadVerdict(status, "no promise", f"Nothing can be promised: {promise['note']}.")
    if not promise["rate_rps"]:
        return LoadVerdict(status, "no rate holds", f"No rate that was tried holds {limit}.")
    refused = promise["refused_rps"]
    upper = _above(promise) if refused else "Nothing above was tried."
    notes = [
        f"Shown {promise['confirmations']} times, each with 95 % confidence. {upper}",
        "It is of this machine, this model and these photographs.",
    ]
    if promise["limit"]:
        notes.append(
            f"The limit above may be the generator's and not the service's: {promise['limit']}."
        )
    headline = f"{promise['rate_rps']:.1f} requests/s at {limit}"
    return LoadVerdict(status, "promised", headline, tuple(notes))


def _above(promise: dict[str, Any]) -> str:
    """Of the lowest rate above the promise that did not pass: what its last probe showed."""
    refused = promise["refused_rps"]
    shown = [Status(one["verdict"]) for one in promise["probes"] if one["rate"] == refused]
    if shown and shown[-1] is not Status.FAILED:
        return f"{refused:.1f} requests/s: {shown[-1]}."
    return f"{refused:.1f} requests/s do not hold."


def _headline(summary: dict[str, Any]) -> str:
    achieved, counts = summary["achieved_rps"], summary["counts"]
    what = f"{achieved:.1f} requests/s"
    if summary["target_rps"]:
        what = f"{achieved:.1f} of {summary['planned_rps']:.1f} requests/s"
    elif summary["users"]:
        clients = "client" if summary["users"] == 1 else "clients"
        what = f"{achieved:.1f} requests/s with {summary['users']} {clients}"
    slo = summary.get("slo")
    if slo:
        name = f"p{slo['percentile']:g}"
        seen = "no answer" if slo["observed_ms"] is None else f"{slo['observed_ms']:.1f} ms"
        what += f", {name} {seen} against {slo['target_ms']:g} ms"
    elif summary["intended"]["p99_ms"] is not None:
        what += f", p99 {summary['intended']['p99_ms']:.1f} ms"
    planned = summary["planned"]
    failed = planned - counts["ok"]
    well = f"{failed} of {planned} requests failed" if failed else f"all {planned} answered well"
    return f"{what}; {well}"
