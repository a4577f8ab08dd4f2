"""Scales of a chart: from a value to a place between 0 and 1, and the values worth a line."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Scale", "linear", "logarithmic", "nines"]


@dataclass(frozen=True)
class Scale:
    """One axis.

    Attributes:
        place: value -> 0 (start of the axis) to 1 (its end); outside it is cut off.
        ticks: values with a line, and their words.
    """

    place: Callable[[float], float]
    ticks: Sequence[tuple[float, str]]


def linear(most: float, *, unit: str = "", rounded: bool = True) -> Scale:
    """From 0, with some five lines at 1, 2 or 5 times a power of ten.

    Args:
        most: the largest value.
        unit: after each number.
        rounded: whether it ends at a line; else at `most`.
    """
    most = most if most > 0 else 1.0
    rough = most / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    steps = math.ceil(most / step - 1e-9) if rounded else math.floor(most / step + 1e-9)
    end = step * steps if rounded else most
    ticks = [step * number for number in range(steps + 1)]
    return Scale(lambda value: _within(value / end), [(t, f"{t:g}{unit}") for t in ticks])


def logarithmic(least: float, most: float, *, unit: str = "") -> Scale:
    """Between the round values (1, 2 or 5 times a power of ten) around two values above 0."""
    least = max(least, 1e-6)
    most = max(most, least * 1.0001)
    steps = [
        factor * 10.0**power
        for power in range(math.floor(math.log10(least)) - 1, math.ceil(math.log10(most)) + 1)
        for factor in (1, 2, 5)
    ]
    first = max(index for index, step in enumerate(steps) if step <= least * 1.000001)
    last = min(index for index, step in enumerate(steps) if step >= most * 0.999999)
    shown = steps[first : max(last, first + 1) + 1]
    low, span = math.log(shown[0]), math.log(shown[-1] / shown[0])
    worded = shown if len(shown) <= 10 else [s for s in shown if f"{s:e}".startswith("1.")]
    return Scale(
        lambda value: _within((math.log(max(value, 1e-9)) - low) / span),
        [(step, f"{step:g}{unit}") for step in worded],
    )


def nines(requests: int) -> Scale:
    """Percentiles from 0 to the last that so many requests can tell from the largest value.

    Each further nine has the same width: 90, 99, 99.9, ...
    """
    most = max(2, math.ceil(math.log10(max(requests, 2))))
    ticks = [(0.0, "0"), (50.0, "p50")]
    for number in range(1, most + 1):
        percentile = 100 * (1 - 10.0**-number)
        ticks.append((percentile, f"p{percentile:.{max(0, number - 2)}f}"))

    def place(percentile: float) -> float:
        return _within(-math.log10(max(1 - percentile / 100, 10.0**-most)) / most)

    return Scale(place, ticks)


def _within(share: float) -> float:
    return min(1.0, max(0.0, share))
