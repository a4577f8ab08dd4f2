from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.extras.distributed.serialization import (
    message_from_plan,
    plan_from_message,
    report_from_message,
    row_from_sample,
    sample_from_row,
)
from loadtest.generator.load_result import GeneratorReport
from loadtest.generator.outcome import Outcome, Sample
from loadtest.plan.load_plan import LoadPlan
from loadtest.plan.reply import ReplyModel, Stages
from loadtest.plan.slo import Slo
from loadtest.plan.target import Target

floats = st.floats(allow_nan=False)
optional = st.none() | floats
samples = st.builds(
    Sample,
    planned_s=floats,
    outcome=st.sampled_from(Outcome),
    path=st.text(),
    size_bytes=st.integers(0),
    sent_s=optional,
    done_s=optional,
    status=st.integers(0, 599),
    request_id=st.text(),
    prediction=st.text(),
    expected=st.text(),
    stages=st.builds(Stages, optional, optional, optional, optional),
    model=st.none() | st.builds(ReplyModel, st.text(), st.text(), st.text(), st.text()),
)


def through_text(value: Any) -> Any:
    return json.loads(json.dumps(value))


@given(samples)
def test_a_sample_comes_back_bit_for_bit(sample: Sample) -> None:
    assert sample_from_row(through_text(row_from_sample(sample))) == sample


@pytest.mark.parametrize(
    "plan",
    [
        LoadPlan(url="http://h", rate=0.1 + 0.2, workers=3, repeat_share=0.2),
        LoadPlan(url="http://h", users=8, scenario="offline", requests=5),
        LoadPlan(
            url="http://h",
            arrivals_s=(0.0, 0.1),
            scenario="recorded",
            target=Target(route="/p", field="f", headers=(("X", "1"),), answer=""),
        ),
    ],
)
def test_a_plan_comes_back_without_its_objective(plan: LoadPlan) -> None:
    judged = replace(plan, slo=Slo(99, 50))
    assert plan_from_message(through_text(message_from_plan(judged))) == plan


def test_a_report_comes_back() -> None:
    report = GeneratorReport(worker=1, cores=[0], histograms={"service": "HIST"})
    assert report_from_message(through_text(asdict(report))) == report
