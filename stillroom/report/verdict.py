"""The verdict: what a run proved and what it did not, in sentences and badges.

Nothing is rounded up: a missed objective, a failed request and a difference that chance explains
are said as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from loadtest.result.verdict import Status, reasons_of, status_of, status_of_slo, worst
from stillroom.page.format import (
    count,
    interval,
    millions,
    ms,
    number,
    p_value,
    percent,
    points,
    times,
)
from stillroom.report.comparison import Comparison
from stillroom.report.facts import Facts
from stillroom.report.models import ModelRow

__all__ = [
    "Badge",
    "RunVerdict",
    "State",
    "badges_of",
    "headline",
    "judge_run",
    "load_sentence",
    "worst_of",
]

State = Literal["passed", "failed", "inconclusive", "invalid", "warning"]


@dataclass(frozen=True)
class Badge:
    """One promise and whether it was kept.

    Args:
        title: the promise.
        state: a verdict, or warning (no gate, but look).
        word: the verdict again; what to look at, of a warning.
        detail: the number behind it.
    """

    title: str
    state: State
    word: str
    detail: str


@dataclass(frozen=True)
class RunVerdict:
    """What stands at the top of the report."""

    state: Status
    headline: str
    sentences: tuple[str, ...]
    badges: tuple[Badge, ...]


def judge_run(facts: Facts, comparisons: tuple[Comparison, ...]) -> RunVerdict:
    """Judge a run: its verdict is the worst of its promises."""
    badges = badges_of(facts.parity, facts.http, facts.loads)
    sentences = (
        parity_sentence(facts.parity, facts.http),
        load_sentence(facts.loads["open"]),
        comparison_sentence(comparisons),
    )
    lead = headline(facts.exported, facts.model("teacher"))
    return RunVerdict(worst_of(badges), lead, sentences, badges)


def worst_of(badges: tuple[Badge, ...]) -> Status:
    """The verdict of all promises together."""
    return worst(Status(badge.state) for badge in badges if badge.state != "warning")


def headline(model: ModelRow, teacher: ModelRow) -> str:
    """How good the exported model is, beside its teacher."""
    test = model.test
    text = (
        f"The {model.name} answers {percent(test.top1)} "
        f"({interval(test.low, test.high)}) of {count(test.n)} test images right "
        f"with {millions(model.parameters)} parameters"
    )
    if model.key == "teacher":
        return f"{text}."
    gap = model.test.top1 - teacher.test.top1
    side = "above" if gap > 0 else "below"
    beside = f"{number(100 * abs(gap))} points {side}" if round(100 * gap, 1) else "level with"
    return (
        f"{text}: {beside} its {millions(teacher.parameters)} parameter teacher"
        f"{_latency_clause(model, teacher)}."
    )


def parity_sentence(parity: dict[str, Any], http: dict[str, Any]) -> str:
    """What became of the predictions on their way from training to HTTP."""
    reasons = f" ({'; '.join(parity['reasons'])})" if parity["reasons"] else ""
    flips = parity["flips"]
    changed = "no prediction changed" if flips == 0 else f"{count(flips)} predictions changed"
    return (
        f"Parity {parity['status']} on {count(parity['images'])} images{reasons}, {changed}; "
        f"{count(http['agree'])} of {count(http['images'])} predictions over HTTP equal."
    )


def load_sentence(load: dict[str, Any]) -> str:
    """What the open loop reached, and the objective."""
    rate = f"{number(load['achieved_rps'], 0)} requests/s"
    if round(load["good_rps"]) != round(load["achieved_rps"]):
        rate += f" ({number(load['good_rps'], 0)} of them answered right)"
    text = f"Under load {rate} at p99 {ms(load['intended']['p99_ms'])}"
    slo = load.get("slo")
    if slo is None:
        return f"{text}; no objective was set."
    observed = slo["observed_ms"]
    seen = ms(observed) if observed is not None else "unbounded, so many requests failed"
    return (
        f"{text}. Objective {_objective(slo)} {status_of_slo(load)}: "
        f"{seen} over all planned requests, a failed one counted as infinite."
    )


def comparison_sentence(comparisons: tuple[Comparison, ...]) -> str:
    """Whether distillation and FixRes did anything, as far as the test images can tell."""
    readings = [
        f"{item.title}: {points(item.difference)} points, {item.reading} (p {p_value(item.p)})"
        for item in comparisons
    ]
    return "; ".join(readings) + "."


def badges_of(
    parity: dict[str, Any], http: dict[str, Any], loads: dict[str, dict[str, Any]]
) -> tuple[Badge, ...]:
    """Every promise of a run, in the order of the pipeline."""
    equal = http["agree"] == http["images"]
    return (
        Badge(
            "Parity of the export",
            parity["status"],
            parity["status"],
            f"{count(parity['flips'])} of {count(parity['images'])} predictions changed",
        ),
        Badge(
            "Parity over HTTP",
            "passed" if equal and http["images"] else "failed",
            "passed" if equal and http["images"] else "failed",
            f"{count(http['agree'])} of {count(http['images'])} predictions equal",
        ),
        _objective_badge(loads["open"]),
        _closed_badge(loads["closed"]),
        _answers_badge(loads),
        _requests_badge(loads),
    )


def _objective_badge(load: dict[str, Any]) -> Badge:
    title, slo = "Load objective", load.get("slo")
    if slo is None:
        return _badge(title, Status.INCONCLUSIVE, "the open loop had no objective")
    seen = "unbounded" if slo["observed_ms"] is None else ms(slo["observed_ms"])
    detail = f"{_objective(slo)}: {seen} at {number(load['planned_rps'], 0)} requests/s"
    status = worst([status_of_slo(load), status_of({**load, "slo": None})])
    if status is not Status.PASSED:
        detail += f". {' '.join(reasons_of(load)[:1])}"
    return _badge(title, status, detail)


def _closed_badge(load: dict[str, Any]) -> Badge:
    said = f"{number(load['achieved_rps'], 0)} requests/s with {count(load['users'])} clients"
    return _badge("Closed loop", status_of(load), ". ".join([said, *reasons_of(load)[:1]]))


def _answers_badge(loads: dict[str, dict[str, Any]]) -> Badge:
    title = "Predictions under load"
    checked = sum(load["answers"]["checked"] for load in loads.values())
    wrong = sum(load["answers"]["wrong"] for load in loads.values())
    detail = f"{count(wrong)} of {count(checked)} checked predictions wrong"
    status = Status.FAILED if wrong else Status.PASSED if checked else Status.INCONCLUSIVE
    return _badge(title, status, detail)


def _badge(title: str, status: Status, detail: str) -> Badge:
    return Badge(title, status.value, status.value, detail)


def _requests_badge(loads: dict[str, dict[str, Any]]) -> Badge:
    planned = sum(load["planned"] for load in loads.values())
    failed = planned - sum(load["counts"]["ok"] for load in loads.values())
    detail = f"{count(failed)} of {count(planned)} requests failed"
    if failed:
        return Badge("Requests under load", "warning", "failures", detail)
    return Badge("Requests under load", "passed", "passed", detail)


def _objective(slo: dict[str, Any]) -> str:
    return f"p{slo['percentile']:g} ≤ {ms(slo['target_ms'])}"


def _latency_clause(model: ModelRow, teacher: ModelRow) -> str:
    if model.latency is None or teacher.latency is None:
        return ""
    mine, its = model.latency.median_ms, teacher.latency.median_ms
    both = f"({ms(mine)} against {ms(its)} an image on one thread)"
    if its >= mine:
        return f", at {times(its / mine)} lower CPU latency {both}"
    return f", at {times(mine / its)} HIGHER CPU latency {both}"
