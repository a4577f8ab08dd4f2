"""What the service says in its reply: the prediction, the model, and where the time went."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

__all__ = [
    "NO_STAGES",
    "ReplyModel",
    "ReplyPrediction",
    "Stages",
    "prediction_from_body",
    "stages_from_header",
]


class ReplyModel(NamedTuple):
    """Which model predicted."""

    name: str
    version: str
    digest: str
    backend: str


class ReplyPrediction(NamedTuple):
    """The most probable label, and who says so, where the service tells."""

    label: str
    model: ReplyModel | None


class Stages(NamedTuple):
    """Milliseconds the service spent on each stage, as it reports them; None where it does not."""

    decode_ms: float | None = None
    queue_ms: float | None = None
    infer_ms: float | None = None
    total_ms: float | None = None


NO_STAGES = Stages()


def prediction_from_body(body: bytes) -> ReplyPrediction | None:
    """Read the JSON body of a classification; None if it is anything else."""
    try:
        document: Any = json.loads(body)
        label = document["predictions"][0]["label"]
        model = document["model"]
        named = ReplyModel(*(str(model[field]) for field in ReplyModel._fields))
    except (ValueError, LookupError, TypeError):
        return None
    return ReplyPrediction(label, named) if isinstance(label, str) else None


def stages_from_header(header: str | None) -> Stages:
    """Read `decode;dur=1.2, queue;dur=0.4`; unknown and malformed entries are passed over.

    Source: W3C Server Timing, section 3 (durations are milliseconds).
    """
    durations: dict[str, float] = {}
    for entry in (header or "").split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        field = f"{name.lower()}_ms"
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            duration = _duration(value) if key.strip().lower() == "dur" else None
            if field in Stages._fields and duration is not None:
                durations[field] = duration
    return Stages(**durations)


def _duration(text: str) -> float | None:
    try:
        value = float(text.strip().strip('"'))
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
