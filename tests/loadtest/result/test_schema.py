from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from loadtest.extras.scaling.saturation import describe_saturation
from loadtest.generator.load_result import GeneratorReport
from loadtest.generator.outcome import Outcome
from loadtest.plan.slo import Slo
from loadtest.result.summary import SCHEMA_VERSION
from tests.loadtest.extras.scaling.test_saturation import measured
from tests.loadtest.hand_made import sample, steady, summary_of
from tests.loadtest.stub_server import ROOT

SCHEMA = json.loads((ROOT / "loadtest" / "summary.schema.json").read_text())
ADDED = {"asked", "reasons", "silence", "verdict"}  # within version 1: a summary of before has none
VALIDATOR = Draft202012Validator(SCHEMA)
FURTHER: dict[str, Any] = {
    "calibration": {"capacity_rps": 900.0, "rate_share": 0.1, "lateness_p99_ms": 0.4},
    "doubling": {"workers": 2, "n": 99, "p99_ms": 20.0, "p99_change": 0.01},
    "saturation": describe_saturation([measured(users) for users in (1, 2, 4)]),
    "service_process": {
        "pinned_cores": [0],
        "time_s": [1.0],
        "cpu_share": [0.5],
        "rss_mib": [90.0],
        "cpu_mean_share": 0.5,
        "rss_peak_mib": 90.0,
        "gpus": [{"index": 0, "time_s": [1.0], "busy_share": [0.5], "memory_mib": [900.0]}],
    },
}
GENERATORS = [GeneratorReport(lag_p99_ms=0.2, lag_max_ms=0.3, cores=[1])]


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["schema_version"]["const"] == SCHEMA_VERSION


@pytest.mark.parametrize(
    "summary",
    [
        summary_of(steady(), Slo(99, 50), generators=GENERATORS, further=FURTHER),
        summary_of(steady(), repeat_share=0.2),
        summary_of([], stopped_by="SIGTERM"),
        summary_of([sample(1, outcome=outcome) for outcome in Outcome], Slo(99, 50)),
    ],
)
def test_summaries_fit_it(summary: dict[str, Any]) -> None:
    VALIDATOR.validate(summary)
    assert set(SCHEMA["required"]) | ADDED == set(summary) - {"slo", *FURTHER}
    assert set(summary) <= set(SCHEMA["properties"])


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "ajar"},
        {"counts": {"ok": 1}},
        {"schema_version": 2},
        {"validity": {"valid": "yes", "rules": []}},
        {"target": {"route": "/", "field": "", "headers": ["X-Key: secret"], "answer": ""}},
    ],
)
def test_what_is_none_does_not(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        VALIDATOR.validate({**summary_of(steady()), **change})
