"""What a result says, in a headline, a status and sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from loadtest.result.verdict import Status, reasons_of, status_of, status_of_max_rate

__all__ = ["LoadVerdict", "max_rate_verdict", "run_verdict"]


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
            return "no predictions"
        return "objective missed" if slo and slo["met"] is False else "it stopped answering"
    if summary["stopped_by"]:
        return "stopped"
    if status is Status.INVALID:
        return "the figures may be of the generator"
    if status is Status.INCONCLUSIVE:
        return "too few requests"
    return "objective met" if slo else "measured, no objective set"


def max_rate_verdict(max_rate: dict[str, Any]) -> LoadVerdict:
    """Of a search."""
    slo = max_rate["slo"]
    limit = f"p{slo['percentile']:g} <= {slo['target_ms']:g} ms"
    status = status_of_max_rate(max_rate)
    if max_rate["note"]:
        return LoadVerdict(status, "no max rate", f"No max rate can be given: {max_rate['note']}.")
    if not max_rate["rate_rps"]:
        return LoadVerdict(status, "no rate holds", f"No rate that was tried holds {limit}.")
    refused = max_rate["refused_rps"]
    upper = _above(max_rate) if refused else "Nothing above was tried."
    notes = [
        f"Shown {max_rate['confirmations']} times, each with 95 % confidence. {upper}",
        "It is of this machine, this model and these images.",
    ]
    if max_rate["limit"]:
        notes.append(
            f"The limit above may be the generator's and not the service's: {max_rate['limit']}."
        )
    headline = f"{max_rate['rate_rps']:.1f} requests/s at {limit}"
    return LoadVerdict(status, "max rate", headline, tuple(notes))


def _above(max_rate: dict[str, Any]) -> str:
    """Of the lowest rate above the max rate that did not pass: what its last probe showed."""
    refused = max_rate["refused_rps"]
    shown = [Status(one["verdict"]) for one in max_rate["probes"] if one["rate"] == refused]
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
