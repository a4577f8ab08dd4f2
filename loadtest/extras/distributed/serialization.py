"""Plans, samples and reports as the plain values that Locust's messages carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from loadtest.generator.load_result import GeneratorReport
from loadtest.generator.outcome import Outcome, Sample
from loadtest.plan.load_plan import LoadPlan
from loadtest.plan.reply import ReplyModel, Stages
from loadtest.plan.target import Target

__all__ = [
    "message_from_plan",
    "plan_from_message",
    "report_from_message",
    "row_from_sample",
    "sample_from_row",
]

_COLUMNS = tuple(field.name for field in fields(Sample))


def message_from_plan(plan: LoadPlan) -> dict[str, Any]:
    """Everything of a plan but its objective, which only the master judges."""
    return {**asdict(plan), "slo": None}


def plan_from_message(message: dict[str, Any]) -> LoadPlan:
    """The plan back."""
    target = dict(message["target"])
    target["headers"] = tuple((str(name), str(value)) for name, value in target["headers"])
    arrivals_s = tuple(message["arrivals_s"])
    return LoadPlan(**{**message, "target": Target(**target), "arrivals_s": arrivals_s})


def report_from_message(message: dict[str, Any]) -> GeneratorReport:
    """The report back from its `asdict`."""
    return GeneratorReport(**message)


def row_from_sample(sample: Sample) -> list[Any]:
    """A sample as a list; floats stay the same bit for bit."""
    values = {name: getattr(sample, name) for name in _COLUMNS}
    values["outcome"] = sample.outcome.value
    values["stages"] = list(sample.stages)
    values["model"] = None if sample.model is None else list(sample.model)
    return list(values.values())


def sample_from_row(row: Sequence[Any]) -> Sample:
    """The sample back."""
    values = dict(zip(_COLUMNS, row, strict=True))
    values["outcome"] = Outcome(values["outcome"])
    values["stages"] = Stages(*values["stages"])
    values["model"] = None if values["model"] is None else ReplyModel(*values["model"])
    return Sample(**values)
