"""Samples and summaries made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loadtest.generator.load_result import LoadResult
from loadtest.generator.outcome import Outcome, Sample
from loadtest.plan.corpus import CorpusImage
from loadtest.plan.load_plan import LoadPlan
from loadtest.plan.reply import ReplyModel, Stages
from loadtest.plan.slo import Slo
from loadtest.result.summary import build_summary

MODEL = ReplyModel("stub", "1", "sha256:0123456789abcdef", "onnxruntime-cpu")
IMAGES = [
    CorpusImage("a.png", b"bytes", "image/png", "roses"),
    CorpusImage("b.png", b"more", "image/png"),
]
FINGERPRINT = {
    "cpu_count": 2,
    "cpu_model": "A processor",
    "locust": "2",
    "python": "3",
    "system": "Linux",
}


def sample(
    planned_s: float, latency_ms: float = 20, outcome: Outcome = Outcome.OK, **fields: Any
) -> Sample:
    if outcome is Outcome.MISSED:
        return Sample(planned_s=planned_s, outcome=outcome, path="a.png", size_bytes=5)
    fields.setdefault("sent_s", planned_s)
    defaults = {"stages": Stages(1.0, None, 3.0, 4.0), "model": MODEL, "expected": "roses"}
    return Sample(
        planned_s=planned_s,
        done_s=fields["sent_s"] + latency_ms / 1000,
        outcome=outcome,
        path="a.png",
        size_bytes=5,
        **(defaults | fields),
    )


def steady(n: int = 200, latency_ms: float = 20) -> list[Sample]:
    return [sample(number / 20, latency_ms) for number in range(n)]


def summary_of(
    samples: Sequence[Sample],
    slo: Slo | None = None,
    *,
    repeat_share: float = 0.0,
    further: dict[str, Any] | None = None,
    **result: Any,
) -> dict[str, Any]:
    plan = LoadPlan(
        url="http://127.0.0.1:3000",
        rate=20.0,
        duration_s=10.0,
        slo=slo,
        repeat_share=repeat_share,
        workers=int(result.pop("workers", 1)),
    )
    defaults: dict[str, Any] = {"duration_s": 10.0, "cpu_share": 0.1}
    load = LoadResult(samples=samples, **(defaults | result))
    return build_summary(plan, IMAGES, load, FINGERPRINT, **(further or {}))
