"""The command on a report plans the load that the report is of."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from loadtest.generator.load_result import LoadResult
from loadtest.plan.arguments import build_parser, plan_from_options
from loadtest.plan.load_plan import LoadPlan
from loadtest.plan.slo import Slo
from loadtest.plan.target import Target
from loadtest.report.command import command_of
from loadtest.result.summary import build_summary
from tests.loadtest.hand_made import FINGERPRINT, IMAGES, sample

URL = "http://127.0.0.1:3000"
OTHER = Target(route="/predict?a=1&b", field="file", answer="/label")
PLANS = {
    "rate": LoadPlan(
        url=URL, rate=12.5, duration_s=33, seed=4, slo=Slo(percentile=99.9, target_ms=50)
    ),
    "ramp": LoadPlan(url=URL, rate=80, duration_s=20, scenario="ramp", warmup_s=0),
    "repeats": LoadPlan(url=URL, rate=5, repeat_share=0.25, workers=2, target=OTHER),
    "closed": LoadPlan(url=URL, users=3, duration_s=7, warmup_s=1.5),
    "one": LoadPlan(url=URL, users=1, scenario="singlestream"),
    "saturation": LoadPlan(url=URL, users=8, scenario="saturation"),
    "offline": LoadPlan(url=URL, users=8, scenario="offline", requests=9),
    "recorded": LoadPlan(url=URL, arrivals_s=(0.0, 1.5), scenario="recorded", warmup_s=0),
}


@pytest.mark.parametrize("name", PLANS)
def test_it_plans_the_same_load(name: str, tmp_path: Path) -> None:
    arrivals = tmp_path / "arrivals.csv"
    arrivals.write_text("time_s\n0\n1.5\n")
    result = LoadResult(samples=[sample(0.1)], duration_s=2.0, cpu_share=0.1)  # it was stopped
    summary = build_summary(PLANS[name], IMAGES, result, FINGERPRINT)
    words = shlex.split(command_of(summary).replace("CSV", str(arrivals)))
    assert words[:3] == ["python", "-m", "loadtest"]
    assert plan_from_options(build_parser().parse_args(words[3:]), images=2) == PLANS[name]


def test_a_summary_of_before_says_what_ran() -> None:
    result = LoadResult(samples=[sample(0.1)], duration_s=2.0, cpu_share=0.1)
    summary = build_summary(PLANS["rate"], IMAGES, result, FINGERPRINT)
    del summary["asked"]
    assert " --duration-s 2 " in command_of(summary)
