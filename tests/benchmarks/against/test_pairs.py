"""Pairing, ratios and the table of two checkouts, without a load."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from benchmarks.against.checkout import Checkout
from benchmarks.against.pairs import Figure, Pair, order_of, ratio_of, report, run_pairs

RATE = Figure("rate", "requests/s", more_is_better=True)
COST = Figure("cpu_ms", "CPU ms/request", 2)
SIDES = [Checkout(Path(name), Path("python"), name, {"a": "1"}) for name in ("abc", "def")]


def pairs_of(ratios: list[float], subject: str = "model") -> list[Pair]:
    """Ours is so many times theirs in each round, on a machine that slows down more and more."""
    return [
        Pair(
            number, subject,
            ours={"rate": 100 / (number + 1) * ratio, "cpu_ms": (number + 1) / ratio},
            theirs={"rate": 100 / (number + 1), "cpu_ms": float(number + 1)},
            load_average=float(number),
        )
        for number, ratio in enumerate(ratios)
    ]  # fmt: skip


def test_sides_are_measured_in_turn_and_change_places(tmp_path: Path) -> None:
    calls = []

    def measure(subject: str, side: str, number: int) -> dict[str, float]:
        calls.append((number, subject, side))
        return {"rate": 2.0 if side == "ours" else 1.0}

    pairs = run_pairs(["x", "y"], 4, tmp_path / "log", measure)
    for subject in "xy":
        sides = [side for _, name, side in calls if name == subject]
        assert sides == ["ours", "theirs", "theirs", "ours"] * 2
    for first, second in zip(calls[::2], calls[1::2], strict=True):
        assert first[:2] == second[:2]  # both sides of a pair run next to one another
    assert [pair.ours["rate"] / pair.theirs["rate"] for pair in pairs] == [2.0] * 8
    assert [Pair(**json.loads(x)) for x in (tmp_path / "log").read_text().splitlines()] == pairs
    assert order_of(0) == ("ours", "theirs")


def test_ratios_are_taken_within_rounds_and_above_1_is_better() -> None:
    pairs = pairs_of([1.25] * 5)
    for figure in (RATE, COST):
        ratio = ratio_of(figure, pairs)
        assert (ratio.ratio, ratio.n) == (pytest.approx(1.25), 5)
        assert ratio.low == pytest.approx(1.25)  # the machine's slowing down is in no ratio


def test_the_interval_is_that_of_student() -> None:
    ratio = ratio_of(RATE, pairs_of([0.9, 1.0, 1.1]))
    logs = [math.log(value) for value in (0.9, 1.0, 1.1)]
    mean = sum(logs) / 3
    reach = 4.302653 * math.sqrt(sum((x - mean) ** 2 for x in logs) / 2 / 3)  # t(0.975, 2)
    assert ratio.low == pytest.approx(math.exp(mean - reach), rel=1e-5)
    assert ratio.high == pytest.approx(math.exp(mean + reach), rel=1e-5)


def test_the_interval_holds_the_ratio_as_often_as_it_says() -> None:
    draw = random.Random(0)
    held = 0
    for _ in range(500):
        found = ratio_of(RATE, pairs_of([0.97 * math.exp(draw.gauss(0, 0.1)) for _ in range(8)]))
        held += found.low <= 0.97 <= found.high
    assert 460 <= held <= 490


def test_one_round_has_no_interval() -> None:
    assert str(ratio_of(RATE, pairs_of([1.1]))) == "1.100"


def test_the_table_has_both_sides_ratio_interval_and_n() -> None:
    text = report(*SIDES, [RATE, COST], pairs_of([1.02, 1.0, 0.98, 1.0]))
    assert "| requests/s | 41 | 42 | 1.000 (0.974 to 1.026) | 4 |" in text
    assert "load average 1.50 (0.00 to 3.00)" in text
    assert "every ratio is at least 0.97" in text
    assert "Ours is abc, theirs def" in text


def test_a_slower_side_is_named_and_whether_noise_explains_it() -> None:
    text = report(*SIDES, [RATE], pairs_of([0.9, 0.91, 0.89, 0.9], "slow"))
    assert "- slow, requests/s: 0.900 (0.887 to 0.913) is below 0.97\n" in text
    text = report(*SIDES, [RATE], pairs_of([0.7, 1.2, 0.8, 1.1], "noisy"))
    assert "is below 0.97, which noise may explain" in text
    assert "every ratio" not in text
