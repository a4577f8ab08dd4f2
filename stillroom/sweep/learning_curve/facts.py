"""A learning curve's figures: measured, fitted, extended, and what that answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillroom.page.format import count, interval, number, percent, points
from stillroom.sweep.learning_curve.power_law import PowerLaw, fit_power_law
from train.evaluation import wilson_interval

__all__ = ["Curve", "Level", "Spread", "read_curve"]

RESAMPLES = 2000
MATTERS = 0.005  # top-1 below which nobody collects images
HARDLY = 0.01
SEEN = 0.02  # what the last doubling must not have gained, for the curve to be called flat
FEW_MISTAKES = 10
UNSETTLED = 0.05  # difference of two seeds
LAST_DOUBLING = 0.5

Hits = NDArray[np.bool_]


@dataclass(frozen=True)
class Spread:
    """A figure with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Level:
    """One size of the training set.

    Args:
        fraction: of the training images.
        photos: number of them.
        top1: mean over the seeds.
        seeds: (S,) top-1 of each.
    """

    fraction: float
    photos: int
    top1: Spread
    seeds: tuple[float, ...]


@dataclass(frozen=True)
class Curve:
    """The whole curve.

    Args:
        levels: from few images to all.
        n: validation images.
        fit: of the means, one row; resampled: of the resamples, B rows.
        resampled: likewise.
        doubled: expected top-1 with twice as many images as there are.
        gain: that minus the fitted top-1 with all there are.
        last: measured gain from about half of them to all; None without such a level.
        last_fraction: from where `last` counts.
    """

    levels: list[Level]
    n: int
    fit: PowerLaw
    resampled: PowerLaw
    doubled: Spread
    gain: Spread
    last: Spread | None
    last_fraction: float

    @property
    def answer(self) -> str:
        """Would more images help? yes, hardly, or perhaps: the curve cannot tell."""
        if self.last is None or self.mistakes < FEW_MISTAKES:
            return "perhaps"
        if self.gain.high < HARDLY and self.last.high < SEEN:
            return "hardly"
        return "yes" if self.gain.low >= MATTERS and self.last.low > 0 else "perhaps"

    @property
    def mistakes(self) -> float:
        """On the validation images, with all training images; mean over the seeds."""
        return self.n * (1 - self.levels[-1].top1.value)

    def sentences(self) -> list[str]:
        """The verdict."""
        full, gain = self.levels[-1], self.gain
        spread = f"{points(gain.value)} points ({points(gain.low)} to {points(gain.high)})"
        twice = f"{count(2 * full.photos)} images instead of {count(full.photos)}"
        words = {
            "yes": f"Yes, more images would help: {twice} should gain {spread}.",
            "hardly": f"More images would hardly help: {twice} should gain {spread}.",
            "perhaps": f"More images may help, this curve cannot tell: {twice}: {spread}.",
        }
        return [sentence for sentence in (words[self.answer], *self._reasons()) if sentence]

    def _reasons(self) -> list[str]:
        full, seeds = self.levels[-1], len(self.levels[-1].seeds)
        measured = ""
        if self.last is not None:
            last = self.last
            shown = "" if last.low > 0 else ", which may be chance"
            measured = (
                f"Measured: from {percent(self.last_fraction, 0)} of the images to all, "
                f"{points(last.value)} points ({points(last.low)} to {points(last.high)}){shown}."
            )
        now = (
            f"With all of them val top-1 is {percent(full.top1.value)} "
            f"({interval(full.top1.low, full.top1.high)}, n = {self.n}, {seeds} "
            f"{'seed' if seeds == 1 else 'seeds'})."
        )
        few = (
            f"Only {number(self.mistakes)} mistakes are left on the {self.n} validation "
            "images: more of these would tell more, set data.val_fraction higher."
        )
        apart = max(full.seeds) - min(full.seeds)
        unsettled = (
            f"With all images the seeds are {points(apart).lstrip('+')} points apart: the "
            "training is not settled. Give it more epochs or another rate before you trust the "
            "curve."
        )
        return [
            unsettled if apart > UNSETTLED else "",
            few if self.mistakes < FEW_MISTAKES else "",
            measured,
            now,
            "The step beyond the data is an extrapolation: it holds for images like these, "
            "labelled as well, and for this model and recipe. Images of what it gets wrong "
            "are worth more than the curve says.",
            "One seed cannot tell how much of a step is the luck of the training: take --seeds 3."
            if seeds == 1
            else "",
        ]

    def rows(self) -> list[dict[str, Any]]:
        """For results.csv: a row for each level."""
        return [
            {
                "fraction": level.fraction,
                "train_photos": level.photos,
                "val_top1": level.top1.value,
                "val_top1_low": level.top1.low,
                "val_top1_high": level.top1.high,
                "n": self.n,
                "seeds": " ".join(f"{top1:.6f}" for top1 in level.seeds),
            }
            for level in self.levels
        ]


def read_curve(fractions: Sequence[float], photos: Sequence[int], hits: Hits) -> Curve:
    """Fit and extend a curve; all intervals come from one bootstrap over images and seeds.

    Args:
        fractions: F, rising, the last one 1.
        photos: F numbers of training images.
        hits: (F, S, N) whether the training of a fraction and a seed has an image right.
    """
    means = _resampled_means(hits)  # (B, F)
    counts = np.array(photos, dtype=np.float64)
    fit = fit_power_law(counts, 1 - hits.mean((1, 2))[None, :])
    resampled = fit_power_law(counts, 1 - means)
    ends = np.array([counts[-1], 2 * counts[-1]])
    now, doubled = fit.error(ends)[0]
    errors = resampled.error(ends)
    halves = [i for i, fraction in enumerate(fractions[:-1]) if fraction >= LAST_DOUBLING - 1e-9]
    last = None
    if halves:
        step = hits[-1].mean() - hits[halves[0]].mean()
        last = _spread(step, means[:, -1] - means[:, halves[0]])
    return Curve(
        levels=[
            Level(
                fraction,
                photos[i],
                _level(hits[i].mean(), means[:, i], hits.shape[2]),
                tuple(float(value) for value in hits[i].mean(1)),
            )
            for i, fraction in enumerate(fractions)
        ],
        n=hits.shape[2],
        fit=fit,
        resampled=resampled,
        doubled=_spread(1 - doubled, 1 - errors[:, 1]),
        gain=_spread(now - doubled, errors[:, 0] - errors[:, 1]),
        last=last,
        last_fraction=fractions[halves[0]] if halves else 0.0,
    )


def _resampled_means(hits: Hits) -> NDArray[np.float64]:
    """(B, F) means over resampled images and seeds, the same ones for every fraction."""
    rng = np.random.default_rng(0)
    _, seeds, n = hits.shape
    photo_weights = rng.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n  # (B, N)
    seed_weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
    per_seed = np.einsum("fsn,bn->bfs", hits.astype(np.float64), photo_weights)
    return np.asarray(np.einsum("bfs,bs->bf", per_seed, seed_weights))


def _level(top1: float, resamples: NDArray[np.float64], n: int) -> Spread:
    """As `_spread`, and never narrower than Wilson's interval of one training."""
    plain, (low, high) = _spread(top1, resamples), wilson_interval(round(top1 * n), n)
    return Spread(plain.value, min(plain.low, low), max(plain.high, high))


def _spread(value: float, resamples: NDArray[np.float64]) -> Spread:
    low, high = np.percentile(resamples, [2.5, 97.5])
    return Spread(float(value), float(low), float(high))
