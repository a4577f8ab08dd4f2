"""Why a candidate failed parity: one thing is changed at a time until its predictions are restored.

    findings = diagnose(FailedCandidate(reference, logits, pixels, infer, limits, model=path))
    require_pass(verdict, what="fp32 student", causes=explain(findings))

Each trial answers at most 64 images. The first that restores the signal ends the search, so what is
cheap and specific comes first: the fault is then proven, not guessed. Needs no torch; what edits a
graph needs onnx, and is left out where that is not installed, as on a server.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from export.parity.failed_candidate import FailedCandidate, SuspectResult

__all__ = ["FailedCandidate", "SuspectResult", "diagnose", "explain"]

FILTERS = ("bicubic", "bilinear", "lanczos")


def diagnose(context: FailedCandidate) -> list[SuspectResult]:
    """Try the suspects in turn until one explains the failure.

    Returns:
        What was tried; the last one explains the failure if any does.
    """
    trials: list[Callable[[FailedCandidate], Iterator[SuspectResult]]] = [
        _labels,
        _channels,
        _resize,
    ]
    if importlib.util.find_spec("onnx"):
        from export.diagnose.trials import TRIALS, without_closed_files  # edits graphs

        trials += TRIALS
        context = without_closed_files(context)
    findings = []
    for trial in trials:
        for finding in trial(context):
            findings.append(finding)
            if finding.explains:
                return findings
    return findings + list(_nodes(context))


def explain(findings: Sequence[SuspectResult]) -> list[str]:
    """One or two sentences for a message: the cause and the next step, or what it is not."""
    for finding in findings:
        if finding.explains:
            return [finding.sentence, finding.next_step]
    if not findings:
        return []
    tried = ", ".join(
        f"{finding.cause} {finding.after_db:.1f} dB"
        for finding in findings
        if finding.after_db is not None and not finding.next_step
    )
    hints = [f"{finding.sentence} {finding.next_step}" for finding in findings if finding.next_step]
    return [f"No single suspect restores SNR {findings[0].before_db:.1f} dB ({tried}).", *hints]


def _labels(context: FailedCandidate) -> Iterator[SuspectResult]:
    """A permutation of the labels. Free: the predictions are there."""
    expected = context.reference.logits[context.rows].astype(np.float64)
    found = context.candidate[context.rows].astype(np.float64)
    labels = context.reference.labels
    if not np.isfinite(found).all() or len(labels) < 2:
        return
    distance = (expected**2).sum(0)[:, None] + (found**2).sum(0) - 2 * expected.T @ found
    order = distance.argmin(1)
    if len(set(order)) < len(labels) or (order == np.arange(len(labels))).all():
        return
    moved = [f"{labels[i]!r} where {labels[j]!r} belongs" for i, j in enumerate(order) if i != j]
    names = "; ".join(moved[:3]) + ("; ..." if len(moved) > 3 else "")
    yield context.finding(
        "swapped labels",
        context.snr(found[:, order].astype(np.float32)),
        f"Putting {len(moved)} of {len(labels)} labels in another order",
        (
            f"the candidate's logits stand in another order ({names})",
            "Make the file's label list that of the checkpoint, in its order, and export again.",
        ),
    )


def _channels(context: FailedCandidate) -> Iterator[SuspectResult]:
    yield context.finding(
        "BGR",
        context.snr(context.infer(np.ascontiguousarray(context.probes[..., ::-1]))),
        "Swapping red and blue",
        (
            "the candidate takes BGR where the contract says RGB",
            "Decode to RGB (OpenCV gives BGR), or export again without a swap of channels.",
        ),
    )


def _resize(context: FailedCandidate) -> Iterator[SuspectResult]:
    if context.resized is None:
        return
    names = [context.reference.names[i] for i in context.rows]
    for name in FILTERS:
        pixels = context.resized(name, names)
        if pixels.shape == context.probes.shape and (pixels == context.probes).all():
            continue  # what was fed
        yield context.finding(
            f"resize {name}",
            context.snr(context.infer(pixels)),
            f"Resizing with the filter {name!r}",
            (
                "the candidate was fed pixels of another resize filter than the reference",
                f"Set the preprocess spec's interpolation to {name!r} for both, "
                "and resize with serve.contract.preprocess only.",
            ),
        )


def _nodes(context: FailedCandidate) -> Iterator[SuspectResult]:
    if not context.node_noise:
        return
    worst = [f"{name} {snr:.1f} dB" for name, snr in context.node_noise[:5]]
    yield SuspectResult(
        "noisy nodes",
        False,
        context.before_db,
        None,
        f"The noisiest nodes are {', '.join(worst)}.",
        "Keep these nodes in float and quantise again.",
    )
