"""Rounds in which both sides are measured in turn, A B B A, and the ratios that come of them.

What slows the machine for longer than a round slows both sides, and who is first changes from
round to round; so the ratios within rounds say more than the figures.
"""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median, stdev

from scipy import stats

from benchmarks.against.checkout import Checkout, versions_that_differ
from benchmarks.setting import cpu_name

__all__ = ["Figure", "Pair", "Ratio", "order_of", "ratio_of", "report", "run_pairs"]

OURS, THEIRS = "ours", "theirs"
LEAST_RATIO = 0.97
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    Args:
        key: of the measured values.
        name: for the table, with its unit.
        digits: after the point.
        more_is_better: whether it is a rate; a cost otherwise.
    """

    key: str
    name: str
    digits: int = 0
    more_is_better: bool = False


@dataclass(frozen=True)
class Pair:
    """One round of one subject.

    Args:
        round: its number, from 0.
        subject: what was measured: a model, a service.
        ours: value by key of a figure; `theirs` those of the other checkout.
        load_average: of the last minute, before the round.
    """

    round: int
    subject: str
    ours: dict[str, float]
    theirs: dict[str, float]
    load_average: float


@dataclass(frozen=True)
class Ratio:
    """How many times as good ours is: above 1 it is faster, or takes less.

    Args:
        ratio: geometric mean over rounds.
        low: of the 95 % interval, by Student's t on logarithms; None with less than 2 rounds.
        high: likewise.
        n: rounds.
    """

    ratio: float
    low: float | None
    high: float | None
    n: int

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.ratio:.3f}"
        return f"{self.ratio:.3f} ({self.low:.3f} to {self.high:.3f})"


def order_of(number: int) -> tuple[str, str]:
    """Which side comes first in a round: A B, B A, A B and so on."""
    return (THEIRS, OURS) if number % 2 else (OURS, THEIRS)


def run_pairs(
    subjects: Sequence[str], rounds: int, log: Path, measure: Callable[[str, str, int], dict]
) -> list[Pair]:
    """Measure; subjects are in a new random order in each round.

    Args:
        subjects: what is measured.
        rounds: of all of them.
        log: gets one JSON line a pair; what was in it goes.
        measure: called with subject, side and round; returns a value for each figure.
    """
    pairs = []
    log.write_text("", encoding="utf-8")
    for number in range(rounds):
        for subject in random.Random(number).sample(subjects, len(subjects)):
            load = os.getloadavg()[0]
            found = {side: measure(subject, side, number) for side in order_of(number)}
            pair = Pair(number, subject, found[OURS], found[THEIRS], round(load, 2))
            pairs.append(pair)
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(pair)) + "\n")
            print(f"{number + 1}/{rounds} {subject}: {_line(pair)}", flush=True)
    return pairs


def _line(pair: Pair) -> str:
    return ", ".join(
        f"{key} {value:.4g} and {pair.theirs[key]:.4g}" for key, value in pair.ours.items()
    )


def ratio_of(figure: Figure, pairs: Sequence[Pair]) -> Ratio:
    """Paired over rounds."""
    sign = 1 if figure.more_is_better else -1
    logs = [sign * math.log(pair.ours[figure.key] / pair.theirs[figure.key]) for pair in pairs]
    if len(logs) < 2:
        return Ratio(math.exp(logs[0]), None, None, len(logs))
    mean = fmean(logs)
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, len(logs) - 1) * stdev(logs) / math.sqrt(len(logs))
    return Ratio(math.exp(mean), math.exp(mean - reach), math.exp(mean + reach), len(logs))


def table_of(figures: Sequence[Figure], pairs: Sequence[Pair]) -> str:
    """Markdown: medians of both sides, and the ratio, of one subject."""
    lines = ["| | ours | theirs | times as good (95 % interval) | n |", "|---|---|---|---|---|"]
    for figure in figures:
        cells = [
            f"{median(getattr(pair, side)[figure.key] for pair in pairs):.{figure.digits}f}"
            for side in (OURS, THEIRS)
        ]
        ratio = ratio_of(figure, pairs)
        lines.append(f"| {figure.name} | {' | '.join(cells)} | {ratio} | {ratio.n} |")
    return "\n".join(lines)


def below_of(figures: Sequence[Figure], subject: str, pairs: Sequence[Pair]) -> list[str]:
    """Each ratio below the least one, and whether more than noise says so."""
    found = []
    for figure in figures:
        ratio = ratio_of(figure, pairs)
        if ratio.ratio < LEAST_RATIO:
            shown = ratio.high is not None and ratio.high < LEAST_RATIO
            noise = "" if shown else ", which noise may explain"
            found.append(f"- {subject}, {figure.name}: {ratio} is below {LEAST_RATIO}{noise}")
    return found


def report(
    ours: Checkout, theirs: Checkout, figures: Sequence[Figure], pairs: Sequence[Pair]
) -> str:
    """The whole text."""
    subjects = {
        subject: [pair for pair in pairs if pair.subject == subject]
        for subject in sorted({pair.subject for pair in pairs})
    }
    tables = [f"**{name}**\n\n{table_of(figures, found)}" for name, found in subjects.items()]
    below = [line for name, found in subjects.items() for line in below_of(figures, name, found)]
    loads = [pair.load_average for pair in pairs]
    conditions = (
        f"Ours is {ours.commit}, theirs {theirs.commit}; medians of both, and the geometric mean "
        f"of their ratios within rounds, above 1 where ours is better. {os.cpu_count()} CPU "
        f"cores, {cpu_name()}; load average {median(loads):.2f} ({min(loads):.2f} to "
        f"{max(loads):.2f}) before rounds. Packages that differ: "
        f"{versions_that_differ(ours, theirs)}."
    )
    verdict = "\n".join(below) or f"- every ratio is at least {LEAST_RATIO}"
    return "\n\n".join([*tables, verdict, conditions])
