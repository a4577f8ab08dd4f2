"""Error over the number of training images: error = a n^-b + c."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PowerLaw", "fit_power_law"]

EXPONENTS = np.linspace(0.05, 2.0, 40)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PowerLaw:
    """Fitted curves, one a row of the errors.

    Args:
        scale: (B,) a, at the unit `unit`; 0 or more.
        exponent: (B,) b.
        floor: (B,) c, the error that no number of images takes away; 0 or more.
        unit: number of images that n is measured in.
    """

    scale: Floats
    exponent: Floats
    floor: Floats
    unit: float

    def error(self, counts: Floats) -> Floats:
        """(B, F) errors at (F,) numbers of images."""
        units = np.asarray(counts, dtype=np.float64)[None, :] / self.unit
        return np.asarray(
            self.scale[:, None] * units ** -self.exponent[:, None] + self.floor[:, None]
        )


def fit_power_law(counts: Floats, errors: Floats) -> PowerLaw:
    """Least squares over a >= 0, c >= 0 and exponents from 0.05 to 2.

    For each exponent the other two are a linear problem, solved in closed form; so there is no
    start to choose, and a thousand bootstrap resamples take milliseconds.

    Args:
        counts: (F,) numbers of training images, F >= 3, rising.
        errors: (B, F) error rates in [0, 1].

    Raises:
        ValueError: fewer than three counts.

    Source: the form is that of Cortes et al. 1993, "Learning Curves: Asymptotic Values and Rate of
    Convergence", equation 6.
    """
    if len(counts) < 3:
        raise ValueError(f"{len(counts)} counts: a curve of three parameters needs three or more.")
    unit = float(counts[-1])
    best = np.full(len(errors), np.inf)
    found = np.zeros((3, len(errors)))
    for exponent in EXPONENTS:
        basis = (np.asarray(counts, dtype=np.float64) / unit) ** -exponent
        scale, floor = _nonnegative_line(basis, errors)
        residual = ((scale[:, None] * basis + floor[:, None] - errors) ** 2).sum(1)
        better = residual < best - 1e-15  # of equal ones the flatter curve, which promises less
        best = np.where(better, residual, best)
        found = np.where(better, np.stack([scale, np.full_like(scale, exponent), floor]), found)
    return PowerLaw(found[0], found[1], found[2], unit)


def _nonnegative_line(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Slope and intercept, both 0 or more, that fit each row of y over x best."""
    centred = x - x.mean()
    slope = (y * centred).sum(1) / (centred**2).sum()
    intercept = y.mean(1) - slope * x.mean()
    falls = slope < 0
    slope, intercept = np.where(falls, 0.0, slope), np.where(falls, y.mean(1), intercept)
    below = intercept < 0
    through_zero = (y * x).sum(1) / (x**2).sum()
    return np.where(below, through_zero, slope), np.where(below, 0.0, intercept)
