from __future__ import annotations

import math
import re

import numpy as np
import pytest

from stillroom.page import format as wording
from stillroom.page.charts.confusion import draw_confusion
from stillroom.page.charts.svg import tag
from stillroom.report.charts.curves import draw_curves
from stillroom.report.charts.history import History
from stillroom.report.charts.intervals import axis_of, draw_row
from stillroom.report.charts.load import (
    MAX_POINTS,
    draw_over_time,
    draw_percentiles,
    latency_limits,
)
from stillroom.report.charts.samples import Samples
from stillroom.report.models import ModelRow, Score

SLO = {"percentile": 99.0, "target_ms": 50.0}


def samples_of(count: int) -> Samples:
    latency = np.random.default_rng(0).lognormal(2, 1, count)
    return Samples(np.linspace(0, 10, count), latency + 1, latency, np.arange(count) % 50 > 0)


def model_of(low: float, top1: float, high: float) -> ModelRow:
    score = Score(100, round(100 * top1), top1, low, high)
    return ModelRow("student", "S", "a", 1, 1, 1, 8, 8, None, "", score, score, exported=True)


@pytest.mark.parametrize("count", [0, 1, 2, 20_000])
def test_any_number_of_requests(count):
    samples = samples_of(count)
    limits = latency_limits([samples], SLO)
    curve = draw_percentiles(samples, SLO, limits, name="a", planned=True)
    dots = draw_over_time(samples, SLO, limits, name="b")
    assert "nan" not in curve + dots
    assert len(curve) + len(dots) < 250_000
    assert dots.count(" L ") < 2 * MAX_POINTS


def test_the_tail_of_the_latency_is_drawn_whole():
    latency = np.concatenate([np.full(9990, 5.0), np.full(10, 800.0)])
    samples = Samples(np.linspace(0, 1, 10_000), latency, latency, np.ones(10_000, bool))
    low, high = latency_limits([samples], None)
    assert (low < 5, high > 800) == (True, True)
    labels = re.findall(
        r">([\d.]+)</text>", draw_percentiles(samples, None, (low, high), name="a", planned=False)
    )
    assert {"50", "90", "99", "99.9"} <= set(labels)


def test_curves_survive_gaps_and_single_epochs():
    gap = History("T", (("all", 1),), (math.nan,), (math.nan,), (math.nan,), (0.5,))
    assert "<svg" in draw_curves(gap, name="x", top1_low=0.0)


def test_short_coordinates_do_not_shorten_the_labels():
    flat = tuple(0.0454 + i * 0.0005 for i in range(5))
    drawing = draw_curves(History("T", (("all", 5),), flat, flat, flat, flat), name="x", top1_low=0)
    assert "0.046</text>" in drawing or "0.0460</text>" in drawing
    assert not re.search(r'[" ]\d+\.\d{3,}', drawing)
    long = samples_of(100_000)
    limits = latency_limits([long], None)
    assert "99.999<" in draw_percentiles(long, None, limits, name="x", planned=True)


def test_the_axis_holds_every_interval_and_is_shared():
    models = [model_of(0.41, 0.5, 0.59), model_of(0.93, 0.98, 0.995)]
    axis = axis_of(models)
    assert axis.low <= 0.41
    assert axis.high >= 0.995
    assert 2 <= len(axis.ticks) <= 8
    assert "41.0% to 59.0%" in draw_row(axis, models[0])
    perfect = axis_of([model_of(1.0, 1.0, 1.0)])
    assert perfect.low < perfect.high <= 1.0


def test_a_class_without_images_is_no_division_by_zero():
    drawing = draw_confusion([[3, 1], [0, 0]], ["a", "b<c"])
    assert "b&lt;c" in drawing
    assert "a → b&lt;c: 1 of 4 (25.0%)" in drawing


def test_long_names_keep_both_ends():
    names = ["a very long class name, number 1", "a very long class name, number 2"]
    drawing = draw_confusion([[1, 0], [0, 1]], names)
    assert "number 1</text>" in drawing
    assert "number 2</text>" in drawing


def test_attributes_are_escaped():
    assert tag("text", "<&", class_='"x', stroke_width=1.5) == (
        '<text class="&#34;x" stroke-width="1.5">&lt;&amp;</text>'
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (wording.percent(0.98123), "98.1 %"),
        (wording.percent(None), "–"),
        (wording.number(math.inf), "–"),
        (wording.points(-0.0028, 2), "−0.28"),
        (wording.points(0.01), "+1.0"),
        (wording.points(0.0), "0.0"),
        (wording.ms(0.3318), "0.33 ms"),
        (wording.ms(227.07), "227 ms"),
        (wording.millions(373_658), "0.37 M"),
        (wording.millions(11_200_000), "11.2 M"),
        (wording.millions(1_820_000_000), "1.82 G"),
        (wording.size(1_503_666), "1.5 MB"),
        (wording.count(12_345), "12 345"),
        (wording.duration(90), "90.0 s"),
        (wording.duration(600), "10.0 min"),
        (wording.p_value(0.00001), "< 0.0001"),
        (wording.p_value(0.5), "= 0.50"),
        (wording.scientific(3.3e-6), "3.3e−6"),
        (wording.scientific(0.0), "0"),
    ],
)
def test_numbers_for_people(text, expected):
    assert text.replace(wording.SPACE, " ") == expected
