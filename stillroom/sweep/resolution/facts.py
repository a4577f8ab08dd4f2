"""A resolution sweep's results: every train size at every test size, and the best of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillroom.page.format import interval, ms, number, percent
from stillroom.report.paired import Paired, pair
from stillroom.sweep.folder import SweepFolder
from stillroom.sweep.speed import busy_notice
from stillroom.sweep.trial import TrialResult
from train.evaluation import Predictions, evaluate, read_predictions

__all__ = ["Resolution", "SizePair", "SizeResult", "latency_key", "read_resolution"]


@dataclass(frozen=True)
class SizePair:
    """A training at a test size.

    Args:
        number: of the training's folder.
        train_size_px: of the training.
        test_size_px: of the test.
        width: of the bilinear head; 0 for a linear one.
    """

    number: int
    train_size_px: int
    test_size_px: int
    width: int

    @property
    def ratio(self) -> float:
        """Test size / train size."""
        return self.test_size_px / self.train_size_px

    def file(self, trial: Path) -> Path:
        """Where its predictions are."""
        return trial / f"predictions-{self.test_size_px}.csv"

    def describe(self) -> str:
        """For people."""
        width = f", head width {self.width}" if self.width else ""
        return f"{self.train_size_px} px, tested at {self.test_size_px} px{width}"


@dataclass(frozen=True)
class SizeResult:
    """A place and how good it is.

    Args:
        place: where.
        figures: n, hits, top1, top1_low, top1_high and loss on val.
        latency: median_ms, q1_ms, q3_ms and flops.
        against_equal: this minus the same training tested at its train size; None where that was
            not tested, or is this.
    """

    place: SizePair
    figures: Mapping[str, Any]
    latency: Mapping[str, float]
    against_equal: Paired | None

    def row(self) -> dict[str, Any]:
        """For results.csv."""
        paired = self.against_equal
        return {
            "trial": self.place.number,
            "train_size_px": self.place.train_size_px,
            "test_size_px": self.place.test_size_px,
            "ratio": round(self.place.ratio, 4),
            "head_width": self.place.width,
            **{f"val_{key}": self.figures[key] for key in ("top1", "top1_low", "top1_high")},
            "val_loss": self.figures["loss"],
            "n": self.figures["n"],
            "latency_ms": self.latency["median_ms"],
            "latency_q1_ms": self.latency["q1_ms"],
            "latency_q3_ms": self.latency["q3_ms"],
            "flops": self.latency["flops"],
            "minus_equal": paired.difference if paired else None,
            "minus_equal_low": paired.low if paired else None,
            "minus_equal_high": paired.high if paired else None,
            "minus_equal_p": paired.p if paired else None,
        }


@dataclass(frozen=True)
class Resolution:
    """All entries and the best one.

    Args:
        entries: by width, train size, test size.
        best: the highest top-1; of equal ones the fastest.
        cheapest_equal: the fastest entry that cannot be told from the best one (itself, maybe).
        against_best: best minus that entry.
        epochs: of each training.
    """

    entries: list[SizeResult]
    best: SizeResult
    cheapest_equal: SizeResult
    against_best: Paired
    epochs: int

    def sentences(self) -> list[str]:
        """The verdict."""
        best, figures = self.best, self.best.figures
        spread = interval(figures["top1_low"], figures["top1_high"])
        sentences = [
            f"Best on val: trained at {best.place.describe()}: {percent(figures['top1'])} "
            f"({spread}, n = {figures['n']}), test/train ratio {number(best.place.ratio, 2)}."
        ]
        paired = best.against_equal
        if best.place.ratio == 1:
            sentences.append("It is tested at the size it was trained at: another did not help.")
        elif paired is not None:
            sentences.append(
                f"Against the same training tested at {best.place.train_size_px} px: "
                f"{paired.describe()}."
            )
        cheap = self.cheapest_equal
        if cheap is not best:
            sentences.append(
                f"The fastest that cannot be told from it: trained at {cheap.place.describe()}, "
                f"{percent(cheap.figures['top1'])} in {ms(cheap.latency['median_ms'])} instead of "
                f"{ms(best.latency['median_ms'])}; best minus this: {self.against_best.describe()}."
            )
        if best.place.test_size_px == max(entry.place.test_size_px for entry in self.entries):
            sentences.append("It is the largest test size that was tried: try a larger one, too.")
        sentences += busy_notice(entry.latency for entry in self.entries)
        sentences.append(
            f"The best of {len(self.entries)} figures flatters itself on the images it was "
            f"chosen on, and each training was done once, for {self.epochs} epochs: another seed "
            "may order close ones otherwise."
        )
        return sentences


def latency_key(width: int, test_size_px: int) -> str:
    """What latency depends on, as a name: the train size is not in it."""
    return f"{width}-{test_size_px}"


def read_resolution(
    folder: SweepFolder,
    places: Sequence[SizePair],
    latencies: Mapping[str, Mapping[str, float]],
    outcomes: Sequence[TrialResult],
) -> Resolution:
    """Read all answers and compare them."""
    answers = {place: read_predictions(place.file(folder.trial(place.number))) for place in places}
    entries = [
        SizeResult(
            place,
            evaluate(answers[place]),
            latencies[latency_key(place.width, place.test_size_px)],
            _against_equal(place, answers),
        )
        for place in places
    ]
    best = max(entries, key=lambda e: (e.figures["hits"], -e.latency["median_ms"]))
    cheap, paired = _cheapest_equal(entries, best, answers)
    return Resolution(entries, best, cheap, paired, outcomes[0].epochs)


def _against_equal(place: SizePair, answers: Mapping[SizePair, Predictions]) -> Paired | None:
    equal = SizePair(place.number, place.train_size_px, place.train_size_px, place.width)
    if equal == place or equal not in answers:
        return None
    return pair(answers[place], answers[equal])


def _cheapest_equal(
    entries: Sequence[SizeResult], best: SizeResult, answers: Mapping[SizePair, Predictions]
) -> tuple[SizeResult, Paired]:
    for entry in sorted(entries, key=lambda e: (e.latency["median_ms"], -e.figures["hits"])):
        paired = pair(answers[best.place], answers[entry.place])
        if entry is best or not paired.shown:
            return entry, paired
    raise AssertionError("the best one is among the entries")
