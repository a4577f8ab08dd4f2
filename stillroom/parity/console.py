"""A parity verdict, printed and written, and what it means for the exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from export.parity.compare import Verdict, require_pass, write_flips
from export.parity.image_set import ImageSet
from serve.contract.digest import canonical_json
from serve.contract.errors import GateError
from stillroom.console import show

__all__ = ["report_verdict"]

SHOWN = 5


def report_verdict(
    verdict: Verdict,
    *,
    what: str,
    facts: Mapping[str, Any],
    out: Path | None,
    strict: bool,
    probes: ImageSet,
    next_step: str,
    causes: Sequence[str] = (),
) -> None:
    """Print a verdict in plain lines, write its evidence, and stop where it is no.

    Args:
        verdict: of the comparison.
        what: the candidate, for messages.
        facts: go into parity.json beside the verdict.
        out: gets parity.json and flips.csv; None writes nothing.
        strict: too few images are a failure.
        probes: the images.
        next_step: where the verdict is "failed".
        causes: sentences of `export.diagnose.diagnosis.explain`.

    Raises:
        GateError: the verdict is "failed", or with `strict` "inconclusive".
    """
    for path in probes.left_out[:1]:
        _say(f"{len(probes.left_out)} images do not decode and were left out, first {path}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "parity.json").write_bytes(canonical_json({**facts, **verdict.to_dict()}))
        write_flips(out / "flips.csv", verdict)
    for flip in verdict.flips[:SHOWN]:
        _say(f"  {flip.path}: {flip.reference} -> {flip.candidate} (margin {flip.margin:.3g})")
    if len(verdict.flips) > SHOWN:
        where = f" in {out / 'flips.csv'}" if out else ": --out DIR lists them"
        _say(f"  {len(verdict.flips) - SHOWN} more flips{where}")
    try:
        require_pass(verdict, what=what)
    except GateError as error:  # whose own next step speaks of what was not published
        raise GateError(error.message, " ".join([next_step, *causes])) from error
    agree = verdict.images - len(verdict.flips)
    _say(
        f"parity {verdict.status} {what}: {agree} of {verdict.images} predictions agree (at least "
        f"{verdict.agreement_low:.2%}), SNR {verdict.snr_db:.0f} dB, largest difference "
        f"{verdict.max_abs_diff:.1e}"
    )
    if verdict.status == "inconclusive":
        why = "; ".join(verdict.reasons)
        step = "Give a folder of more images with --photos."
        if strict:
            raise GateError(f"PARITY INCONCLUSIVE {what}: {why}, and --strict was asked for.", step)
        _say(f"warning: this proves little: {why}. {step}")


def _say(text: str) -> None:
    show(text)
