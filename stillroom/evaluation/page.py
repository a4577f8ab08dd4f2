"""The evaluation as one HTML file that opens anywhere, without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serve.contract.errors import ArtifactError
from serve.contract.preprocess import PreprocessSpec
from stillroom.evaluation.advice import advise, headline, in_words, spread_of
from stillroom.evaluation.findings import EvaluationResult
from stillroom.evaluation.measures import ClassScore
from stillroom.evaluation.overlays import Overlays, draw_overlays
from stillroom.evaluation.source import EvaluationSource
from stillroom.page.charts.confusion import draw_confusion
from stillroom.page.charts.whiskers import draw_whisker, scale_from
from stillroom.page.environment import page_environment
from stillroom.page.format import count
from stillroom.page.thumbnails import Thumbnails
from stillroom.report.charts.reliability import draw_reliability
from stillroom.report.mistakes import ConfusedPair, confident_mistakes, mistakes_by_pair
from train.data.images import LabelledImage

__all__ = ["confused_classes", "render_page"]

THUMBNAIL_PX = 128
MAX_MATRIX = 20
MAX_PAIRS = 12
MAX_GALLERIES = 8
MAX_OF_PAIR = 6
MAX_MISTAKES = 12
MAX_ISSUES = 24
MAX_WORST, MAX_BEST = 40, 10
MAX_LABEL = 60


def render_page(findings: EvaluationResult, source: EvaluationSource) -> str:
    """The page's text; equal predictions, checkpoint and images give equal text."""
    galleries = mistakes_by_pair(findings.predictions, findings.pairs[:MAX_GALLERIES], MAX_OF_PAIR)
    mistakes = confident_mistakes(findings.predictions, MAX_MISTAKES)
    issues = findings.issues[:MAX_ISSUES]
    wanted = [(mistake.photo, mistake.answer) for mistake in mistakes]
    wanted += [(one.photo, one.answer) for _, those in galleries for one in those]
    wanted += [(issue.photo, issue.suggestion) for issue in issues]
    thumbnails = Thumbnails(source.photos or Path("/nonexistent"), _spec(source), THUMBNAIL_PX)
    overlays = draw_overlays(
        source.checkpoint, source.photos, wanted, findings.labels, side_px=THUMBNAIL_PX
    )
    shown = _Pictures(thumbnails if source.photos else None, overlays)
    return (
        page_environment()
        .get_template("evaluation.html.j2")
        .render(
            findings=findings,
            source=source,
            headline=headline(findings),
            advice=advise(findings),
            tiles=_tiles(findings),
            matrix=_matrix(findings),
            pairs=[(pair, _words(pair)) for pair in findings.pairs[:MAX_PAIRS]],
            classes=_class_rows(findings),
            reliability=draw_reliability(findings.bins, name="reliability"),
            mistakes=[(one, *shown.of(one.photo, one.answer)) for one in mistakes],
            galleries=[
                (_words(pair), [(one, *shown.of(one.photo, one.answer)) for one in those])
                for pair, those in galleries
            ],
            issues=[(issue, *shown.of(issue.photo, issue.suggestion)) for issue in issues],
            overlays=overlays,
            thumbnails=thumbnails,
            spread_of=spread_of,
        )
    )


def confused_classes(pairs: list[ConfusedPair], labels: tuple[str, ...], limit: int) -> list[str]:
    """The classes to show in a matrix: all, or those of the most frequent confusions side by side.

    Args:
        pairs: the most frequent first.
        labels: all classes.
        limit: at most so many.
    """
    if len(labels) <= limit:
        return list(labels)
    chosen: list[str] = []
    for pair in pairs:
        new = [name for name in (pair.label, pair.answer) if name not in chosen]
        if len(chosen) + len(new) > limit:
            break
        chosen += new
    return chosen


class _Pictures:
    """Thumbnail and overlay of an image, where there are any."""

    def __init__(self, thumbnails: Thumbnails | None, overlays: Overlays) -> None:
        self._thumbnails, self._overlays = thumbnails, overlays

    def of(self, photo: LabelledImage, label: str) -> tuple[str | None, str | None]:
        thumbnail = self._thumbnails.of(photo) if self._thumbnails else None
        return thumbnail, self._overlays.of(photo, label)


def _spec(source: EvaluationSource) -> PreprocessSpec:
    """What the model sees of an image; the central square where the model is not there."""
    try:
        card = json.loads(((source.checkpoint or Path()) / "checkpoint.json").read_bytes())
        return PreprocessSpec.from_dict(card["preprocess"])
    except (OSError, ValueError, KeyError, TypeError, ArtifactError):
        return PreprocessSpec(THUMBNAIL_PX, 1.0)


def _tiles(findings: EvaluationResult) -> list[tuple[str, Any, str]]:
    """The figures that a reader remembers: label, fraction, small print."""
    tiles = [("top-1", findings.top1.value, f"{spread_of(findings.top1)}, n = {count(findings.n)}")]
    if later := [(k, estimate) for k, estimate in findings.top if k > 1]:
        k, estimate = next((pair for pair in later if pair[0] == 5), later[-1])
        tiles.append((f"top-{k}", estimate.value, spread_of(estimate)))
    tiles += [
        ("mean F1 of classes", findings.macro.value, spread_of(findings.macro)),
        ("calibration error", findings.ece, "of confidence (ECE), 0 is best"),
    ]
    found, held_out = len(findings.issues), findings.held_out
    tiles.append(
        ("suspected labels", found / held_out, f"{count(found)} of {count(held_out)} held-out")
    )
    return tiles


def _matrix(findings: EvaluationResult) -> dict[str, Any]:
    names = confused_classes(findings.pairs, findings.labels, MAX_MATRIX)
    if len(names) < 2:
        return {"drawing": None, "shown": 0, "covered": 0}
    positions = [findings.labels.index(name) for name in names]
    part = [[findings.confusion[i][j] for j in positions] for i in positions]
    totals = [sum(findings.confusion[i]) for i in positions]
    inside = set(names)
    covered = sum(p.count for p in findings.pairs if p.label in inside and p.answer in inside)
    drawing = draw_confusion(part, [_cut(name) for name in names], totals)
    return {"drawing": drawing, "shown": len(names), "covered": covered}


def _class_rows(findings: EvaluationResult) -> dict[str, Any]:
    """The worst classes, and the best where not all are shown."""
    ranked = sorted(findings.classes, key=_rank)
    worst, rest = ranked[:MAX_WORST], ranked[MAX_WORST:]
    best = rest[-MAX_BEST:]
    start = scale_from(s.f1.low for s in (*worst, *best) if s.f1.low is not None)
    taken_for: dict[str, str] = {}
    for pair in findings.pairs:
        taken_for.setdefault(pair.label, f"{pair.answer} ({pair.count})")
    return {
        "start": start,
        "worst": list(_drawn(worst, start, taken_for)),
        "best": list(_drawn(best, start, taken_for)),
        "hidden": len(rest) - len(best),
    }


def _rank(score: ClassScore) -> tuple[float, str]:
    return (2.0 if score.f1.value is None else score.f1.value, score.label)


def _drawn(
    scores: list[ClassScore], start: float, taken_for: dict[str, str]
) -> Iterator[tuple[ClassScore, Any, str]]:
    for score in scores:
        f1 = score.f1
        drawing: Any = ""
        if f1.value is not None and f1.low is not None and f1.high is not None:
            label = f"F1 {100 * f1.value:.1f} %, {100 * f1.low:.1f} to {100 * f1.high:.1f} %"
            drawing = draw_whisker(f1.value, f1.low, f1.high, start=start, label=label)
        yield score, drawing, taken_for.get(score.label, "")


def _words(pair: ConfusedPair) -> str:
    return in_words(_cut(pair.label), _cut(pair.answer), pair.count, pair.n)


def _cut(label: str) -> str:
    return label if len(label) <= MAX_LABEL else f"{label[: MAX_LABEL - 1]}…"
