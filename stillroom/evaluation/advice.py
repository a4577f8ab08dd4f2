"""What an evaluation means and what to do next, in sentences."""

from __future__ import annotations

from scipy.stats import binomtest

from stillroom.evaluation.findings import EvaluationResult
from stillroom.evaluation.measures import ClassScore, Estimate
from stillroom.page.format import count, interval, percent
from stillroom.report.mistakes import ConfusedPair

__all__ = ["advise", "headline", "in_words", "spread_of"]

FEW = 30  # images of a class below which its figures say little
NAMED = 3
SCATTERED = 0.05  # share of the mistakes below which a confusion is not a lead
CHANCE = 0.05  # p of a sign test, above which a difference is not spoken of


def headline(findings: EvaluationResult) -> str:
    """How good the model is."""
    right = findings.n - findings.wrong
    return (
        f"It answers {percent(findings.top1.value)} ({spread_of(findings.top1)}) of the "
        f"{findings.split} images right: {count(right)} of {count(findings.n)}."
    )


def advise(findings: EvaluationResult) -> list[str]:
    """Findings worth acting on, the most useful first."""
    sentences = (
        _confusion(findings),
        _weakest(findings),
        _labels(findings),
        _confidence(findings),
        _small(findings),
    )
    return [sentence for sentence in sentences if sentence]


def in_words(label: str, answer: str, taken: int, n: int) -> str:
    """For example: roses are taken for tulips: 21 of 128."""
    return f"{label} are taken for {answer}: {count(taken)} of {count(n)}"


def spread_of(estimate: Estimate) -> str:
    """Its interval: 90.7 to 94.5 %; a dash where there is none."""
    if estimate.low is None or estimate.high is None:
        return "–"
    return interval(estimate.low, estimate.high)


def _confusion(findings: EvaluationResult) -> str:
    if not findings.pairs:
        return (
            f"Not one mistake on {count(findings.n)} images. Harder or more {findings.split} "
            f"images would tell how often it errs: up to {percent(1 - (findings.top1.low or 0))} "
            "of the time is still possible."
        )
    first = findings.pairs[0]
    if first.count == 1 and len(findings.pairs) > 1:
        return (
            f"The {count(findings.wrong)} mistakes are scattered: no class is taken for another "
            "more than once."
        )
    text, both = _both_ways(findings, first)
    share = both / findings.wrong
    if share < SCATTERED:
        return (
            f"The {count(findings.wrong)} mistakes are of {count(len(findings.pairs))} kinds, none "
            f"of them frequent; the first: {text}."
        )
    return (
        f"{text}. That is {percent(share, 0)} of the {count(findings.wrong)} mistakes: look there "
        "first."
    )


def _both_ways(findings: EvaluationResult, pair: ConfusedPair) -> tuple[str, int]:
    """A pair in words, with its reverse where that occurs, and the mistakes of both."""
    text = in_words(pair.label, pair.answer, pair.count, pair.n)
    back = findings.count(pair.answer, pair.label)
    if not back:
        return text, pair.count
    n = next(score.n for score in findings.classes if score.label == pair.answer)
    reverse = f", and {pair.answer} for {pair.label}: {count(back)} of {count(n)}"
    return text + reverse, pair.count + back


def _weakest(findings: EvaluationResult) -> str:
    scored = [score for score in findings.classes if score.n and score.f1.high is not None]
    if not findings.wrong or len(scored) < 2:
        return ""
    # By the upper end: of many classes, one of three images is the worst by chance.
    worst = min(scored, key=lambda score: (score.f1.high, score.f1.value, score.label))
    return (
        f"The weakest class is {worst.label}: F1 {percent(worst.f1.value)} "
        f"({spread_of(worst.f1)}). {_lean(worst)}"
    )


def _lean(score: ClassScore) -> str:
    """Which way a class errs, and what helps; nothing is read into counts that chance explains."""
    missed, wrongly = score.n - score.right, score.answered - score.right
    counts = f"missed {count(missed)} times, named wrongly {count(wrongly)} times"
    if binomtest(missed, missed + wrongly).pvalue > CHANCE:
        return f"It is {counts}."
    if missed > wrongly:
        return f"It is {counts}: more, and more varied, training images of it should help."
    return f"It is {counts}: more training images of what is taken for it should help."


def _labels(findings: EvaluationResult) -> str:
    if not findings.issues:
        return f"No label of the {count(findings.held_out)} held-out images stands out as wrong."
    first, many = findings.issues[0], len(findings.issues)
    labels = f"{count(many)} labels may be wrong" if many > 1 else "One label may be wrong"
    return (
        f"{labels}, of {count(findings.held_out)} held-out images; first {first.photo.path}, "
        f"labelled {first.photo.label}, answered {first.suggestion} with "
        f"{percent(first.probability)}. Look at them, and correct those that are."
    )


def _confidence(findings: EvaluationResult) -> str:
    gap = findings.overconfidence
    right = findings.top1.value or 0.0
    average = f"{percent(right + (gap.value or 0.0))} confident on average, {percent(right)} right"
    if gap.low is not None and gap.low > 0:
        return (
            f"It is surer than it is right: {average}. Choose thresholds on validation images, not "
            "by the probability it states."
        )
    if gap.high is not None and gap.high < 0:
        return f"It is more often right than it is sure: {average}. Thresholds may be set lower."
    return f"On the whole its confidence fits: {average}."


def _small(findings: EvaluationResult) -> str:
    small = sorted((s for s in findings.classes if s.n < FEW), key=lambda s: (s.n, s.label))
    if not small:
        return ""
    names = ", ".join(f"{score.label} ({score.n})" for score in small[:NAMED])
    more = f" and {count(len(small) - NAMED)} more" if len(small) > NAMED else ""
    return (
        f"Fewer than {FEW} {findings.split} images of {names}{more}: figures of so small a class "
        "say little by themselves."
    )
