"""report.html: its numbers are those of the samples, counted again here by other code."""

from __future__ import annotations

import csv
import json
import math
import random
import re
from collections import Counter, defaultdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from loadtest.generator.load_result import GeneratorReport
from loadtest.generator.outcome import Outcome
from loadtest.max_rate.search import MaxRate, RateTrial
from loadtest.plan.slo import slo_from_text
from loadtest.report.__main__ import main
from loadtest.report.page import write_report
from loadtest.report.scales import linear, logarithmic, nines
from loadtest.result.files import write_outputs
from tests.loadtest.hand_made import sample, steady, summary_of

SLO = slo_from_text("p99=50ms")
FAILURES = (Outcome.HTTP_ERROR, Outcome.TIMEOUT, Outcome.CONNECTION_ERROR, Outcome.WRONG_PREDICTION)


class Tables(HTMLParser):
    """Rows of the tables that have an id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = defaultdict(list)
        self._table = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self._table = dict(attrs).get("id") or ""
        elif tag == "tr" and self._table:
            self.rows[self._table].append([])
        elif tag == "td" and self._table:
            self.rows[self._table][-1].append("")

    def handle_data(self, data: str) -> None:
        if self._table and self.rows[self._table] and self.rows[self._table][-1]:
            self.rows[self._table][-1][-1] += data.strip()

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self._table = ""


def write_load(folder: Path, samples, slo=SLO, **options: Any) -> str:
    write_outputs(folder, summary_of(samples, slo, **options), samples)
    return write_report(folder).read_text()


def mixed(seed: int = 0) -> list:
    rng = random.Random(seed)
    return [
        sample(
            n / 40,
            rng.lognormvariate(3, 0.7),
            rng.choice(FAILURES) if rng.random() < 0.05 else Outcome.OK,
            request_id=f"id-{n}",
            status=200 + n % 2,
        )
        for n in range(400)
    ] + [sample(9.99, outcome=Outcome.MISSED)]


def test_the_figures_are_those_of_the_samples(tmp_path: Path) -> None:
    tables = Tables(write_load(tmp_path, mixed())).rows
    with (tmp_path / "samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    replied = [r for r in rows if r["outcome"] not in ("connection_error", "missed")]
    for column, name in ((1, "intended_ms"), (3, "service_ms")):
        values = sorted(float(row[name]) for row in replied)
        for row in tables["percentiles"][1:-1]:
            share = float(row[0][1:]) / 100
            expected = values[math.ceil(round(share * len(values), 6)) - 1]
            assert row[column] == f"{expected:.1f} ms"
        assert tables["percentiles"][-1][column] == f"{values[-1]:.1f} ms"
    due = Counter(int(float(row["planned_s"])) for row in rows)
    good = Counter(int(float(r["done_s"])) for r in rows if r["outcome"] == "ok")
    for second, row in enumerate(tables["seconds"][1:]):
        assert (int(row[1]), int(row[3])) == (due[second], good[second])
    failed = Counter((r["outcome"], r["status"]) for r in rows if r["outcome"] != "ok")
    shown = {
        (r[0].replace(" ", "_"), r[1].replace("-", "0")): int(r[2]) for r in tables["failures"][1:]
    }
    assert shown == failed
    first = {(r["outcome"], r["status"]): r["request_id"] for r in reversed(rows)}
    for row in tables["failures"][1:]:
        key = (row[0].replace(" ", "_"), row[1].replace("-", "0"))
        assert row[4] == (first[key] or "-")


def test_intervals_are_those_of_order_statistics(tmp_path: Path) -> None:
    """By scipy: how many of n values lie below a percentile is a binomial count."""
    values = [10.0 + n / 10 for n in range(200)]
    samples = [sample(n / 20, value) for n, value in enumerate(values)]
    rows = {row[0]: row[2] for row in Tables(write_load(tmp_path, samples)).rows["percentiles"][1:]}
    low, high = (int(stats.binom.ppf(p, 200, 0.9)) for p in (0.025, 0.975))
    assert rows["p90"] == f"{values[low - 1]:.1f} to {values[high]:.1f} ms"
    assert rows["p99"].startswith("from ")  # its upper end is beyond the largest of 200
    assert rows["max"] == ""


def test_processes_are_shown_over_time(tmp_path: Path) -> None:
    reports = [
        GeneratorReport(worker=n, time_s=[1.0, 2.0], cpu_shares=[0.5, 1.0], rss_mib=[50, 100])
        for n in range(2)
    ]
    watched = {
        "pinned_cores": [],
        "time_s": [1.0, 2.0],
        "cpu_share": [1.0, 1.5],
        "rss_mib": [300.0, 200.0],
        "cpu_mean_share": 1.25,
        "rss_peak_mib": 300.0,
        "gpus": [
            {"index": n, "time_s": [1.0, 2.0], "busy_share": [0.2, 0.9], "memory_mib": [9, 8]}
            for n in range(2)
        ],
    }
    text = write_load(tmp_path, steady(), generators=reports, further={"service_process": watched})
    cpu, memory = (
        re.search(f'aria-label="{label} over time">.*?</svg>', text)[0]
        for label in ("CPU", "Resident memory")
    )
    for drawing in (cpu, memory):
        assert drawing.count("<polyline") == 3
        assert drawing.count(">generator</text>") == 1
    for label in ("GPU", "GPU memory"):
        drawing = re.search(f'aria-label="{label} over time">.*?</svg>', text)[0]
        assert drawing.count("<polyline") == 2
    *_, end = points(re.findall(r'intended" points="([^"]*)"', cpu)[0])
    *_, half = points(re.findall(r'service" points="([^"]*)"', cpu)[0])
    bottom = 220 - 46
    assert (bottom - end[1]) / (bottom - half[1]) == pytest.approx(1.5, rel=0.01)


def points(text: str) -> list[tuple[float, ...]]:
    return [tuple(map(float, one.split(","))) for one in text.split()]


def test_saturation_draws_latency_over_the_rate(tmp_path: Path) -> None:
    steps = [
        {"users": users, "good_rps": rps, "p50_ms": ms, "p99_ms": ms * 2, "valid": True}
        for users, rps, ms in ((1, 100, 10), (2, 200, 10), (4, 150, 30))
    ]
    none = {"users": 8, "good_rps": 0, "p50_ms": None, "p99_ms": None, "valid": True}
    law = {"steps": [*steps, none], "usl": None}
    text = write_load(tmp_path, steady(), further={"saturation": law})
    drawing = re.search(r'aria-label="Latency over the rate reached">.*?</svg>', text)[0]
    assert re.findall(r'on-dot"[^>]*>(\d+)<', drawing) == ["1", "2", "4"]
    (low, high, back) = points(re.findall(r'intended" points="([^"]*)"', drawing)[0])
    assert low[1] == high[1] > back[1]
    assert high[0] - low[0] == pytest.approx(2 * (high[0] - back[0]), abs=0.3)


def test_the_command_asks_another_service_the_same_way(tmp_path: Path) -> None:
    summary = summary_of(steady())
    summary["target"] |= {"route": "/predict", "field": "file", "answer": ""}
    write_outputs(tmp_path, summary, steady())
    said = "--route /predict --field file --answer &#39;&#39;"
    assert said in write_report(tmp_path).read_text()


@pytest.mark.parametrize(
    ("scenario", "said"),
    [("server", "leaves out how late the generator sent"), ("offline", "waited for a connection")],
)
def test_what_parts_the_two_curves_is_said(tmp_path: Path, scenario: str, said: str) -> None:
    write_outputs(tmp_path, summary_of(steady()) | {"scenario": scenario}, steady())
    assert said in write_report(tmp_path).read_text()


def test_every_reply_is_in_the_heat_map(tmp_path: Path) -> None:
    """One request in each of ten places: ten cells of one shade."""
    text = write_load(tmp_path, [sample(n + 0.5, 2.0 ** (n + 1)) for n in range(10)])
    cells = re.findall(r'class="cell"[^>]*fill-opacity="([\d.]+)"', text)
    assert cells == ["1.00"] * 10


@pytest.mark.parametrize(
    ("samples", "options", "word"),
    [
        (steady(), {}, "passed"),
        (steady(latency_ms=80), {}, "failed"),
        (steady(20), {}, "inconclusive"),
        (steady(), {"cpu_share": 0.95}, "invalid"),
        (steady(), {"stopped_by": "SIGINT"}, "inconclusive"),
        (steady(), {"slo": None}, "passed"),
        ([*steady(), sample(9.9, outcome=Outcome.WRONG_PREDICTION)], {}, "failed"),
        ([sample(n / 20, outcome=Outcome.CONNECTION_ERROR) for n in range(200)], {}, "failed"),
    ],
)
def test_the_verdict_comes_first(tmp_path: Path, samples, options, word: str) -> None:
    text = write_load(tmp_path, samples, **options)
    body = text[text.index("<main>") :]
    assert f'<span class="badge">{word}</span>' in body[:300]
    assert f'<header class="{word}">' in body


def test_what_breaks_a_rule_is_said_above_the_figures(tmp_path: Path) -> None:
    text = write_load(tmp_path, steady(), cpu_share=0.95)
    said = text.index("The generator used 95% of its core")
    assert text.index("<h1>") < said < text.index("<dl>")


def test_the_page_needs_no_host_and_runs_no_script(tmp_path: Path) -> None:
    evil = sample(1, outcome=Outcome.HTTP_ERROR, request_id="<script>alert(1)</script>")
    text = write_load(tmp_path, [*steady(), evil])
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "default-src 'none'" in text
    assert not re.search(r"\b(src|href)=|url\(|@import", text)


def test_every_drawing_has_words(tmp_path: Path) -> None:
    text = write_load(tmp_path, mixed())
    drawings = re.findall(r"<svg [^>]*>", text)
    assert len(drawings) == 3
    assert all('role="img"' in one and 'aria-label="' in one for one in drawings)


def test_a_closed_loop_has_one_curve_and_says_what_it_hides(tmp_path: Path) -> None:
    summary = summary_of(steady()) | {"mode": "closed", "users": 4, "target_rps": None}
    write_outputs(tmp_path, summary, steady())
    text = write_report(tmp_path).read_text()
    assert "A closed loop: clients wait for the service" in text
    assert 'class="line service"' not in text
    assert "--users 4" in text
    assert ">due</text>" not in text
    assert "intended" not in re.sub(r'class="[^"]*"|--\w+|<style>.*</style>', "", text, flags=re.S)


def write_max_rate(folder: Path, **found: Any) -> str:
    probes = []
    for number, (rate, ms) in enumerate(((20.0, 20), (40.0, 90), (30.0, 40)), 1):
        samples = steady(latency_ms=ms)
        write_outputs(folder / "probes" / f"{number:02d}", summary_of(samples, SLO), samples)
        probe = RateTrial(rate, 200, 200 if ms > 50 else 0)
        probes.append((probe, probe.verdict(0.01)))
    found_rate = MaxRate(0.01, **found, probes=probes)
    value = {"slo": {"percentile": 99.0, "target_ms": 50.0}, **found_rate.to_dict()}
    (folder / "promise.json").write_text(json.dumps(value))
    return write_report(folder).read_text()


def test_a_promise_shows_each_rate_and_the_last_load_at_its_own(tmp_path: Path) -> None:
    text = write_max_rate(tmp_path, rate=20.0, refused=21.0)
    assert "<h1>20.0 requests/s at p99 &lt;= 50 ms</h1>" in text
    assert "Shown 3 times, each with 95 % confidence. 21.0 requests/s do not hold." in text
    rows = Tables(text).rows["probes"][1:]
    assert [(row[1], row[4]) for row in rows] == [
        ("20.0", "20.0 ms"), ("40.0", "90.0 ms"), ("30.0", "40.0 ms"),
    ]  # fmt: skip
    assert "What follows is of probe 01, the last at the max rate." in text
    assert text.count('<circle class="dot') == 3
    assert text.count("<dl>") == 1
    assert text.index("<dl>") > text.index("What follows is of probe 01")  # they are its figures


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({}, "No rate that was tried holds p99 &lt;= 50 ms."),
        ({"note": "stopped before the end"}, "No max rate can be given: stopped before the end."),
        ({"rate": 20.0, "limit": "it was late"}, "may be the generator&#39;s"),
    ],
)
def test_what_is_not_promised_is_said(tmp_path: Path, found: dict[str, Any], said: str) -> None:
    assert said in write_max_rate(tmp_path, **found)


def test_a_stopped_search_without_probes_has_a_page(tmp_path: Path) -> None:
    max_rate = MaxRate(0.01, note="stopped before the end").to_dict()
    value = {"slo": {"percentile": 99.0, "target_ms": 50.0}, **max_rate}
    (tmp_path / "promise.json").write_text(json.dumps(value))
    assert "stopped before the end" in write_report(tmp_path).read_text()


def test_the_command_makes_it_again_and_refuses_what_is_no_result(tmp_path: Path, capsys) -> None:
    page = write_load(tmp_path / "a", steady())
    (tmp_path / "a" / "report.html").unlink()
    assert main([str(tmp_path / "a")]) == 0
    assert (tmp_path / "a" / "report.html").read_text() == page
    assert main([str(tmp_path)]) == 2
    assert "holds no results of a load test" in capsys.readouterr().err
    (tmp_path / "summary.json").write_text("{}")
    assert main([str(tmp_path)]) == 2
    assert "summary.json has no abandoned, achieved_rps, answers" in capsys.readouterr().err
    (tmp_path / "promise.json").write_text("{}")
    assert main([str(tmp_path)]) == 2
    assert "promise.json has no confirmations, limit, note" in capsys.readouterr().err
    (tmp_path / "a" / "samples.csv").write_text("x\n1\n")
    assert main([str(tmp_path / "a")]) == 2
    assert "samples.csv is missing or damaged" in capsys.readouterr().err


@given(st.floats(1e-3, 1e6), st.floats(1e-3, 1e6))
def test_scales_hold_their_values_in_order(a: float, b: float) -> None:
    low, high = sorted((a, b))
    for scale in (linear(high), linear(high, rounded=False), logarithmic(low, high)):
        assert 0 <= scale.place(low) <= scale.place(high) <= 1
        assert 2 <= len(scale.ticks) <= 13
        places = [scale.place(value) for value, _ in scale.ticks]
        assert places == sorted(places)
        assert scale.place(scale.ticks[-1][0]) == pytest.approx(1) or len(scale.ticks) < 10


def test_each_nine_has_the_same_width() -> None:
    scale = nines(1000)
    assert [words for _, words in scale.ticks] == ["0", "p50", "p90", "p99", "p99.9"]
    assert [scale.place(p) for p in (0, 90, 99, 99.9)] == pytest.approx([0, 1 / 3, 2 / 3, 1])
