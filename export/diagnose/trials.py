"""Trials of `export/diagnose/diagnosis.py` that run or edit ONNX files."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from export.diagnose.graph_edits import (
    ChangedInitialiser,
    RefusedGraph,
    changed_initialisers,
    holds_halves,
    logits_of,
    normalisation_of,
    with_affine_input,
    with_initialisers_of,
)
from export.diagnose.int8_scales import (
    ActivationRange,
    activation_ranges,
    count_weight_scales,
    is_quantised,
    with_float_activations,
    with_float_weights,
)
from export.onnx_file import read_graph
from export.parity.failed_candidate import FailedCandidate, SuspectResult, Triple
from export.parity.tolerances import LIMITS, Precision
from serve.contract.errors import UsageError

__all__ = ["TRIALS", "without_closed_files"]

Trial = Callable[[FailedCandidate], Iterator[SuspectResult]]
# Of ImageNet (torchvision, timm), of Inception and TensorFlow ports, of CLIP, and pixels in [0, 1].
MEANS: tuple[Triple, ...] = (
    (0.485, 0.456, 0.406),
    (0.5, 0.5, 0.5),
    (0.48145466, 0.4578275, 0.40821073),
    (0.0, 0.0, 0.0),
)
STDS: tuple[Triple, ...] = (
    (0.229, 0.224, 0.225),
    (0.5, 0.5, 0.5),
    (0.26862954, 0.26130258, 0.27577711),
    (1.0, 1.0, 1.0),
)
UNREAL_FACTOR = 2.0  # a range this much too narrow or wide was not found on such images
UNREAL_SHARE = 0.1  # of all ranges


def without_closed_files(context: FailedCandidate) -> FailedCandidate:
    """Leave out files that no trial can edit: of ONNX Runtime's own format, or in two parts."""
    return replace(
        context,
        model=_open_file(context.model),
        fp32=_open_file(context.fp32),
        fresh=_open_file(context.fresh),
    )


def _open_file(path: Path | None) -> Path | None:
    if path is None:
        return None
    try:
        model = read_graph(path)
    except UsageError:
        return None
    return None if any(tensor.data_location for tensor in model.graph.initializer) else path


def _precision(context: FailedCandidate) -> Iterator[SuspectResult]:
    """A smaller file, judged by the limits of fp32: read, not tried."""
    if context.model is None or context.fresh is None or context.fp32 is not None:
        return
    kind = _kind_of(context.model)
    if kind in ("fp32", _kind_of(context.fresh)):
        return
    limit, step = LIMITS[kind].min_snr_db, f"Say --precision {kind}."
    found = f"The candidate is an {kind} file, and the limits are those of fp32"
    if context.before_db < limit:
        yield SuspectResult("precision", False, context.before_db, None, f"{found}.", step)
        return
    sentence = f"{found}: SNR {context.before_db:.1f} dB would do for {kind} ({limit:g} dB)."
    yield SuspectResult("precision", True, context.before_db, None, sentence, step)


def _kind_of(path: Path) -> Precision:
    if is_quantised(path):
        return "int8"
    return "fp16" if holds_halves(path) else "fp32"


def _optimiser(context: FailedCandidate) -> Iterator[SuspectResult]:
    if context.model is None:
        return
    logits = logits_of(context.model.read_bytes(), context.probes, optimise=False)
    yield context.finding(
        "optimiser",
        context.snr(logits),
        "Switching ONNX Runtime's graph optimisations off",
        (
            "the file is sound and this runtime's optimiser changes it",
            "Use another version of ONNX Runtime, or another precision.",
        ),
    )


def _fp32_file(context: FailedCandidate) -> Iterator[SuspectResult]:
    if context.fp32 is None:
        return
    after = context.snr(logits_of(context.fp32.read_bytes(), context.probes))
    found = f"the fp32 file on the same pixels has SNR {after:.1f} dB"
    if after >= LIMITS["fp32"].min_snr_db:
        step = "Look at the conversion, not at the model or its preprocessing."
        sentence = f"Only the conversion is at fault: {found}."
    else:
        step = "Repair the fp32 export first, then convert again."
        sentence = f"The conversion is not the first fault: {found}."
    yield SuspectResult("fp32 file", False, context.before_db, after, sentence, step)


def _normalisation(context: FailedCandidate) -> Iterator[SuspectResult]:
    """Feed the pixels that make the file's normalisation the reference's."""
    path = context.fp32 or context.model  # what is converted keeps the normalisation of its source
    if path is None or context.normalisation is None:
        return
    mean, std = (np.array(value) for value in context.normalisation)
    held = normalisation_of(path)
    if held and np.allclose(held[0], mean, atol=2e-3) and np.allclose(held[1], std, rtol=5e-3):
        return  # but for fp16's rounding
    best: tuple[float, tuple[Triple, Triple]] | None = None
    for other in [held] if held else itertools.product(MEANS, STDS):
        wrong_mean, wrong_std = (np.array(value) for value in other)
        gain = wrong_std / std
        changed = with_affine_input(path, gain, 255 * (wrong_mean - mean * gain))
        if changed is None:
            return
        after = context.snr(logits_of(changed, context.probes.astype(np.float32)))
        if best is None or after > best[0]:
            best = after, other
    assert best is not None
    after, other = best
    yield context.finding(
        "mean/std",
        after,
        f"Normalising with mean {_numbers(mean)} and std {_numbers(std)}",
        (
            f"the file normalises with mean {_numbers(other[0])} and std {_numbers(other[1])}",
            "Export again with the checkpoint's mean and std.",
        ),
    )


def _initialisers(context: FailedCandidate) -> Iterator[SuspectResult]:
    """Weights of the fp32 file against those of a sound one."""
    path = context.fp32 or context.model
    if context.fresh is None or path is None:
        return
    changed, shared = changed_initialisers(path, context.fresh)
    if not changed:
        return
    repaired = with_initialisers_of(path, context.fresh, [item.name for item in changed])
    yield context.finding(
        "initialisers",
        context.snr(logits_of(repaired, context.probes)),
        f"Putting back {len(changed)} of {shared} initialisers from a sound file",
        _repair_of(changed, shared),
    )


def _repair_of(changed: list[ChangedInitialiser], shared: int) -> tuple[str, str]:
    worst = changed[0]
    if len(changed) > shared // 2:
        return (
            "the file was made of another checkpoint",
            "Export again from the checkpoint that the reference was computed with.",
        )
    place = f"{worst.name!r} differs by {worst.max_diff:.3g} at {list(worst.where)}"
    return f"{place}, so the file is damaged", "Export again, and compare the files' sha256."


def _weights(context: FailedCandidate) -> Iterator[SuspectResult]:
    """Scales of the weights, read; and weights in float, tried."""
    if context.model is None or not is_quantised(context.model):
        return
    single, total = count_weight_scales(context.model)
    held = f"{single} of {total} weights have one scale for all their channels"
    if context.fp32 is None:
        if single > total / 2:
            step = "Quantise again with per_channel=True."
            yield SuspectResult(
                "per-tensor weights", True, context.before_db, None, f"{held[0]}{held[1:]}.", step
            )
        return
    changed = with_float_weights(context.model, context.fp32)
    coarse = single > total / 2
    step = "Quantise again with per_channel=True." if coarse else "Keep the worst nodes in float."
    yield context.finding(
        "per-tensor weights" if coarse else "weights",
        context.snr(logits_of(changed, context.probes)),
        "Taking the weights in float",
        (held, step),
    )


def _activations(context: FailedCandidate) -> Iterator[SuspectResult]:
    """Ranges of the activations, read; and activations in float, tried."""
    if context.model is None or context.fp32 is None or not is_quantised(context.model):
        return
    ranges = activation_ranges(context.model, context.fp32, context.probes)
    unreal = [found for found in ranges if found.factor >= UNREAL_FACTOR]
    noise = len(unreal) > UNREAL_SHARE * len(ranges)
    step = "Calibrate again on training images, through the serving preprocess."
    changed = with_float_activations(context.model, context.fp32)
    yield context.finding(
        "calibration" if noise else "activations",
        context.snr(logits_of(changed, context.probes)),
        "Taking the activations in float",
        (
            (_unreal_words(unreal, len(ranges)), step)
            if noise
            else ("their ranges fit, but 8 bits are too few", "Keep the worst nodes in float.")
        ),
    )


def _unreal_words(unreal: list[ActivationRange], total: int) -> str:
    worst = unreal[0]
    return (
        f"{len(unreal)} of {total} ranges look as if calibrated on something else than "
        f"images; {worst.tensor!r} holds {worst.low:.3g} to {worst.high:.3g}, images "
        f"reach {worst.seen_low:.3g} to {worst.seen_high:.3g}"
    )


def _numbers(values: object) -> str:
    found = [f"{value:.3g}" for value in np.asarray(values)]
    return found[0] if len(set(found)) == 1 else f"({', '.join(found)})"


def _unless_refused(trial: Trial, context: FailedCandidate) -> Iterator[SuspectResult]:
    try:
        yield from trial(context)
    except RefusedGraph:  # the verdict stands without a cause
        return


TRIALS: list[Trial] = [
    partial(_unless_refused, trial)
    for trial in (
        _precision,
        _optimiser,
        _fp32_file,
        _normalisation,
        _initialisers,
        _weights,
        _activations,
    )
]
