"""`summary.json`: the figures of a load, and the sentences that limit what they prove.

Schema version 1. A reader refuses a higher version; keys may be added within one. Latencies are in
milliseconds; `intended` runs from the planned sending, which is the figure to quote; `service` from
the actual one. In a closed loop nothing is planned, and both are the same. `slo.met` is null where
fewer than `slo.needed` requests were planned and so show neither true nor false. `verdict` is one
word of `loadtest.result.verdict`, which `reasons` explain. The schema is in `summary.schema.json`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from loadtest.errors import EXIT_STOPPED
from loadtest.generator.histogram import LatencyHistogram, has_histograms
from loadtest.generator.load_result import GeneratorReport, LoadResult
from loadtest.generator.outcome import Outcome, Sample, latencies_of
from loadtest.plan.corpus import CorpusImage, corpus_sha256
from loadtest.plan.load_plan import LoadPlan
from loadtest.plan.reply import Stages
from loadtest.result.binomial import clopper_pearson
from loadtest.result.caching import compare_repeats
from loadtest.result.percentiles import describe_ms, samples_needed
from loadtest.result.trend import describe_trend
from loadtest.result.validity import judge_validity
from loadtest.result.verdict import reasons_of, status_of
from loadtest.result.warnings import warnings_of

__all__ = ["SCHEMA_VERSION", "build_summary", "exit_code_from_summary"]

SCHEMA_VERSION = 1
MAX_EXAMPLES = 5
ERROR_CONFIDENCE = 0.95
POPULATION = (
    "requests of the measured window that got an HTTP reply (ok, wrong_answer, http_error), and "
    "timeouts with at least the timeout; connection_error and missed are counted only"
)
SLO_POPULATION = (
    "intended latency of all planned requests; one without a right prediction (wrong_answer, "
    "http_error, timeout, connection_error, missed) counts as infinite latency"
)


def build_summary(
    plan: LoadPlan,
    images: Sequence[CorpusImage],
    result: LoadResult,
    fingerprint: dict[str, Any],
    **further: dict[str, Any],
) -> dict[str, Any]:
    """All figures of one load, ready for JSON.

    Args:
        plan: what was to be done.
        images: what was sent.
        result: what became of it.
        fingerprint: of the machine, as `environment.fingerprint` gives it.
        further: blocks that other runs gave: `calibration`, `doubling`, `saturation`, `service`.
    """
    samples = result.samples
    counts = Counter(sample.outcome for sample in samples)
    summary: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "scenario": plan.scenario,
        "mode": plan.mode,
        "url": plan.url,
        "users": plan.users,
        "target_rps": plan.rate,
        "seed": plan.seed,
        "warmup_s": plan.warmup_s,
        "duration_s": round(result.duration_s, 3),
        "asked": {
            "duration_s": plan.duration_s,
            "repeat_share": plan.repeat_share,
            "requests": plan.requests,
        },
        "timeout_s": plan.timeout_s,
        "stopped_by": result.stopped_by,
        "abandoned": result.abandoned,
        "planned": len(samples),
        "counts": {outcome.value: counts[outcome] for outcome in Outcome},
        "errors": _errors(samples),
        "silence": _silence(samples, result.duration_s),
        **_rates(samples, result.duration_s),
        **_latencies(samples),
        "histograms": _merge_histograms(result.generators),
        "trend": describe_trend(samples, result.duration_s),
        "caching": compare_repeats(samples) if plan.repeat_share else None,
        "stage_means_ms": _stage_means(samples),
        "answers": _predictions(samples),
        **_models(samples),
        "corpus": _describe_corpus(images),
        "target": _describe_target(plan),
        "workers": plan.workers,
        "lost_workers": result.lost_workers,
        "generator_cpu_share": round(result.cpu_share, 4),
        "generators": [_describe_generator(report) for report in result.generators],
        "environment": {
            **fingerprint,
            "load_average_before": list(result.load_average_before),
            "load_average_after": list(result.load_average_after),
        },
        **further,
    }
    if plan.slo is not None:
        summary["slo"] = _judge_slo(plan, samples)
    summary["validity"] = judge_validity(summary)
    summary["verdict"], summary["reasons"] = status_of(summary).value, reasons_of(summary)
    summary["warnings"] = warnings_of(summary)
    return summary


def exit_code_from_summary(summary: dict[str, Any]) -> int:
    """The exit code of the command: 75 where it was stopped, else that of the verdict."""
    return EXIT_STOPPED if summary["stopped_by"] else status_of(summary).exit_code


def _rates(samples: Sequence[Sample], duration_s: float) -> dict[str, float]:
    """Requests per second of the measured window.

    Replies count if they came in a window of the same length that begins later by the fastest
    reply. So a steady service achieves what was planned, though its last replies come after the end
    of the sending, and one that falls behind does not get the time to catch up.
    """
    replied = [sample for sample in samples if sample.outcome.replied and sample.done_s is not None]
    fastest_s = min((sample.service_ms or 0.0 for sample in replied), default=0.0) / 1000
    end_s = duration_s + fastest_s + 1e-9
    in_time = Counter(sample.outcome for sample in replied if (sample.done_s or 0.0) <= end_s)

    def per_second(number: int) -> float:
        return round(number / duration_s, 3) if duration_s > 0 else 0.0

    return {
        "planned_rps": per_second(len(samples)),
        "achieved_rps": per_second(in_time.total()),
        "good_rps": per_second(in_time[Outcome.OK]),
    }


def _latencies(samples: Sequence[Sample]) -> dict[str, Any]:
    lateness = describe_ms([s.lateness_ms for s in samples if s.lateness_ms is not None])
    return {
        "latency_population": POPULATION,
        **{kind: describe_ms(values_ms) for kind, values_ms in latencies_of(samples).items()},
        "dispatch_lateness": {key: lateness[key] for key in ("p50_ms", "p99_ms", "max_ms")},
    }


def _errors(samples: Sequence[Sample]) -> dict[str, Any]:
    """The share of planned requests that did not end well, with its interval."""
    n = len(samples)
    failed = sum(sample.outcome is not Outcome.OK for sample in samples)
    low, high = clopper_pearson(failed, n, ERROR_CONFIDENCE)
    return {
        "n": n,
        "failed": failed,
        "share": round(failed / n, 6) if n else None,
        "low": round(low, 6),
        "high": round(high, 6),
        "confidence": ERROR_CONFIDENCE,
    }


def _silence(samples: Sequence[Sample], duration_s: float) -> dict[str, Any] | None:
    """The requests sent after the last that was answered; None where there are none."""
    sent = sorted((s for s in samples if s.sent_s is not None), key=lambda s: s.sent_s or 0.0)
    answered = [number for number, sample in enumerate(sent) if sample.outcome.classified]
    silent = sent[answered[-1] + 1 :] if answered else sent
    if not silent:
        return None
    from_s = max((sent[number].done_s or 0.0 for number in answered), default=0.0)
    end_s = max([duration_s, *(sample.done_s or 0.0 for sample in silent)])
    return {
        "from_s": round(from_s, 3),
        "for_s": round(max(0.0, end_s - from_s), 3),
        "requests": len(silent),
        "timeouts": sum(sample.outcome is Outcome.TIMEOUT for sample in silent),
    }


def _merge_histograms(reports: Sequence[GeneratorReport]) -> dict[str, Any] | None:
    """Those of all generators, added; None where the library is missing."""
    if not has_histograms() or not reports or not all(report.histograms for report in reports):
        return None
    merged: dict[str, Any] = {}
    for kind in ("intended", "service"):
        total = LatencyHistogram()
        for report in reports:
            total.merge(LatencyHistogram(report.histograms[kind]))
        merged[kind] = total.describe()
    return merged


def _describe_generator(report: GeneratorReport) -> dict[str, Any]:
    values = asdict(report)
    del values["histograms"]
    return {**values, "cores": list(report.cores)}


def _describe_target(plan: LoadPlan) -> dict[str, Any]:
    """How the service was asked; of headers the names alone, for a value may be a secret."""
    target = plan.target
    return {
        "route": target.route,
        "field": target.field,
        "headers": sorted(name for name, _ in target.headers),
        "answer": target.answer,
    }


def _stage_means(samples: Sequence[Sample]) -> dict[str, float | None]:
    means: dict[str, float | None] = {}
    for field in Stages._fields:
        values = [v for s in samples if (v := getattr(s.stages, field)) is not None]
        means[field] = round(sum(values) / len(values), 3) if values else None
    return means


def _predictions(samples: Sequence[Sample]) -> dict[str, Any]:
    wrong = [s for s in samples if s.outcome is Outcome.WRONG_PREDICTION]
    return {
        "checked": sum(1 for s in samples if s.outcome.classified and s.expected),
        "wrong": len(wrong),
        "examples": [
            {
                "path": s.path,
                "expected": s.expected,
                "answer": s.prediction,
                "request_id": s.request_id,
            }
            for s in wrong[:MAX_EXAMPLES]
        ],
    }


def _models(samples: Sequence[Sample]) -> dict[str, Any]:
    seen = sorted({s.model for s in samples if s.model is not None})
    return {
        "models": [model._asdict() for model in seen],
        "model_digests": sorted({model.digest for model in seen}),
    }


def _describe_corpus(images: Sequence[CorpusImage]) -> dict[str, Any]:
    return {
        "images": len(images),
        "bytes": sum(len(image.body) for image in images),
        "with_expected": sum(1 for image in images if image.expected),
        "sha256": corpus_sha256(images),
    }


def _judge_slo(plan: LoadPlan, samples: Sequence[Sample]) -> dict[str, Any]:
    assert plan.slo is not None
    observed_ms = plan.slo.observed_ms(samples) if samples else None
    return {
        "percentile": plan.slo.percentile,
        "target_ms": plan.slo.target_ms,
        "observed_ms": None if observed_ms is None else round(observed_ms, 3),
        "met": plan.slo.is_met(samples),
        "needed": samples_needed(plan.slo.percentile),
        "population": SLO_POPULATION,
    }
