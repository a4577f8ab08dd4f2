"""The verdict: what a run proved and what it did not, in sentences and badges.

Nothing is rounded up: a missed objective, a failed request and a difference that chance explains
are said as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from stillroom.report.comparison import Comparison
from stillroom.report.facts import Facts
from stillroom.report.models import Model
from stillroom.report.wording import (
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

__all__ = ["Badge", "State", "Verdict", "badges_of", "headline", "judge_run", "load_sentence"]

State = Literal["passed", "failed", "inconclusive", "warning"]


@dataclass(frozen=True)
class Badge:
    """One promise and whether it was kept.

    Args:
        title: the promise.
        state: passed, failed, inconclusive (not enough to say), or warning (no gate, but look).
        word: the state as it reads for this promise.
        detail: the number behind it.
    """

    title: str
    state: State
    word: str
    detail: str


@dataclass(frozen=True)
class Verdict:
    """What stands at the top of the report."""

    state: State
    headline: str
    sentences: tuple[str, ...]
    badges: tuple[Badge, ...]


def judge_run(facts: Facts, comparisons: tuple[Comparison, ...]) -> Verdict:
    """Judge a run: failed if any promise was broken, inconclusive if any could not be checked."""
    badges = badges_of(facts.parity, facts.http, facts.loads)
    states = {badge.state for badge in badges}
    state: State = "passed"
    if "failed" in states:
        state = "failed"
    elif "inconclusive" in states:
        state = "inconclusive"
    sentences = (
        parity_sentence(facts.parity, facts.http),
        load_sentence(facts.loads["open"]),
        comparison_sentence(comparisons),
    )
    return Verdict(state, headline(facts.exported, facts.model("teacher")), sentences, badges)


def headline(model: Model, teacher: Model) -> str:
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
    """What became of the answers on their way from training to HTTP."""
    reasons = f" ({'; '.join(parity['reasons'])})" if parity["reasons"] else ""
    flips = parity["flips"]
    changed = "no answer changed" if flips == 0 else f"{count(flips)} answers changed"
    return (
        f"Parity {parity['status']} on {count(parity['images'])} images{reasons}, {changed}; "
        f"{count(http['agree'])} of {count(http['images'])} answers over HTTP equal."
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
    verdict = {True: "met", False: "MISSED", None: "not judged, too few requests"}[slo["met"]]
    return (
        f"{text}. Objective {_objective(slo)} {verdict}: "
        f"{seen} over all planned requests, a failed one counted as endless."
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
            f"{count(parity['flips'])} of {count(parity['images'])} answers changed",
        ),
        Badge(
            "Parity over HTTP",
            "passed" if equal and http["images"] else "failed",
            "passed" if equal and http["images"] else "failed",
            f"{count(http['agree'])} of {count(http['images'])} answers equal",
        ),
        _objective_badge(loads["open"]),
        _answers_badge(loads),
        _requests_badge(loads),
    )


def _objective_badge(load: dict[str, Any]) -> Badge:
    title, slo = "Load objective", load.get("slo")
    if slo is None:
        return Badge(title, "inconclusive", "not set", "the open loop had no objective")
    seen = "unbounded" if slo["observed_ms"] is None else ms(slo["observed_ms"])
    detail = f"{_objective(slo)}: {seen} at {number(load['planned_rps'], 0)} requests/s"
    if slo["met"] is False:
        return Badge(title, "failed", "missed", detail)
    if slo["met"] is None or load["stopped_by"]:
        return Badge(title, "inconclusive", "too few requests", detail)
    return Badge(title, "passed", "met", detail)


def _answers_badge(loads: dict[str, dict[str, Any]]) -> Badge:
    title = "Answers under load"
    checked = sum(load["answers"]["checked"] for load in loads.values())
    wrong = sum(load["answers"]["wrong"] for load in loads.values())
    detail = f"{count(wrong)} of {count(checked)} checked answers wrong"
    if wrong:
        return Badge(title, "failed", "wrong answers", detail)
    if not checked:
        return Badge(title, "inconclusive", "not checked", detail)
    return Badge(title, "passed", "all right", detail)


def _requests_badge(loads: dict[str, dict[str, Any]]) -> Badge:
    planned = sum(load["planned"] for load in loads.values())
    failed = planned - sum(load["counts"]["ok"] for load in loads.values())
    detail = f"{count(failed)} of {count(planned)} requests failed"
    if failed:
        return Badge("Requests under load", "warning", "failures", detail)
    return Badge("Requests under load", "passed", "all answered", detail)


def _objective(slo: dict[str, Any]) -> str:
    return f"p{slo['percentile']:g} ≤ {ms(slo['target_ms'])}"


def _latency_clause(model: Model, teacher: Model) -> str:
    if model.latency is None or teacher.latency is None:
        return ""
    mine, its = model.latency.median_ms, teacher.latency.median_ms
    both = f"({ms(mine)} against {ms(its)} an image on one thread)"
    if its >= mine:
        return f", at {times(its / mine)} lower CPU latency {both}"
    return f", at {times(mine / its)} HIGHER CPU latency {both}"
