"""What a result says, in a headline, a status and sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Verdict", "promise_verdict", "run_verdict"]

Status = Literal["held", "missed", "doubtful"]


@dataclass(frozen=True)
class Verdict:
    """The first thing on the page.

    Attributes:
        status: its colour.
        word: its badge.
        headline: one sentence.
        notes: what limits it.
    """

    status: Status
    word: str
    headline: str
    notes: tuple[str, ...] = ()


def run_verdict(summary: dict[str, Any]) -> Verdict:
    """Of one load."""
    headline = _headline(summary)
    broken = [rule["text"] for rule in summary["validity"]["rules"] if not rule["held"]]
    notes = (*broken, *(text for text in summary["warnings"] if text not in broken))
    counts, slo = summary["counts"], summary.get("slo")
    if summary["stopped_by"]:
        return Verdict("doubtful", "stopped", headline, notes)
    if counts["wrong_answer"] or not counts["ok"]:
        return Verdict("missed", "wrong answers" if counts["ok"] else "no answers", headline, notes)
    if broken:
        return Verdict("doubtful", "invalid", headline, notes)
    if slo is None:
        return Verdict("held", "measured", headline, notes)
    if slo["met"] is None:
        return Verdict("doubtful", "too few requests", headline, notes)
    return Verdict(
        "held" if slo["met"] else "missed",
        "objective met" if slo["met"] else "objective missed",
        headline,
        notes,
    )


def promise_verdict(promise: dict[str, Any]) -> Verdict:
    """Of a search."""
    slo = promise["slo"]
    limit = f"p{slo['percentile']:g} <= {slo['target_ms']:g} ms"
    if promise["note"]:
        return Verdict("doubtful", "no promise", f"Nothing can be promised: {promise['note']}.")
    if not promise["rate_rps"]:
        return Verdict("missed", "no rate holds", f"No rate that was tried holds {limit}.")
    refused = promise["refused_rps"]
    upper = f"{refused:.1f} requests/s do not hold." if refused else "Nothing above was tried."
    notes = [
        f"Shown {promise['confirmations']} times, each with 95 % confidence. {upper}",
        "It is of this machine, this model and these photographs.",
    ]
    if promise["limit"]:
        notes.append(
            f"The limit above may be the generator's and not the service's: {promise['limit']}."
        )
    headline = f"{promise['rate_rps']:.1f} requests/s at {limit}"
    return Verdict("held", "promised", headline, tuple(notes))


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
