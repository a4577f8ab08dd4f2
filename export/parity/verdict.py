"""The outcome of a parity comparison: its numbers, its flips, and stopping where it failed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from export.parity.accuracy import AccuracyChange
from serve.contract.errors import GateError

__all__ = ["Flip", "Verdict", "require_pass", "write_flips"]

USUAL_CAUSES = "Usual causes: channel order, mean/std, a damaged weight."


@dataclass(frozen=True)
class Flip:
    """An image whose prediction changed.

    Args:
        path: of the image in the dataset.
        sha256: of its bytes.
        label: the truth; empty where it is not known.
        reference: the reference's answer.
        candidate: the candidate's answer.
        margin: the reference's logit of its answer minus its logit of the candidate's answer.
        change: lost where only the reference was right, gained where only the candidate is, other
            where neither; empty where the truth is not known.
    """

    path: str
    sha256: str
    label: str
    reference: str
    candidate: str
    margin: float
    change: Literal["lost", "gained", "other", ""]


@dataclass(frozen=True)
class Verdict:
    """Outcome of one comparison.

    Args:
        status: passed, failed, or inconclusive (too few images to say).
        reasons: what failed or is not shown, each with its number and limit.
        images: number of images compared.
        agreement: share with equal predictions.
        agreement_low: one-sided 95 % lower bound of the true share (Clopper-Pearson).
        max_abs_diff: largest difference of any logit; -1 where one is not finite.
        sd: standard deviation of the reference logits.
        snr_db: signal to noise of the logits; 999 where they are equal, -999 where not finite.
        mean_kl: mean KL(reference || candidate) in nats; None where a logit is not finite.
        margin_scale: logits in which margins are counted: 1, or sd where that is unusual.
        flips: every image whose prediction changed, widest margin first.
        batch_max_diff: what the other images of a batch changed, in logits; None: not measured.
        blank_max_diff: largest difference on blank images, in logits; None: not measured.
        accuracy: by the labels; None where there are none.
    """

    status: Literal["passed", "failed", "inconclusive"]
    reasons: tuple[str, ...]
    images: int
    agreement: float
    agreement_low: float
    max_abs_diff: float
    sd: float
    snr_db: float
    mean_kl: float | None
    margin_scale: float
    flips: tuple[Flip, ...]
    batch_max_diff: float | None
    blank_max_diff: float | None
    accuracy: AccuracyChange | None

    @property
    def reference_top1(self) -> float | None:
        """Share right by the labels, where there are some."""
        return self.accuracy.reference_top1 if self.accuracy else None

    @property
    def candidate_top1(self) -> float | None:
        """Likewise."""
        return self.accuracy.candidate_top1 if self.accuracy else None

    @property
    def mcnemar_p(self) -> float | None:
        """Exact two-sided p of lost against gained images, where there are labels."""
        return self.accuracy.mcnemar_p if self.accuracy else None

    @property
    def flip_margin(self) -> float:
        """The widest margin that flipped, in `margin_scale` logits; 0 without flips."""
        return self.flips[0].margin / self.margin_scale if self.flips else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Flat JSON form; the flips are counted here and listed in flips.csv."""
        value = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        del value["accuracy"]
        accuracy: dict[str, Any] = dict.fromkeys(entry.name for entry in fields(AccuracyChange))
        if self.accuracy:
            accuracy = asdict(self.accuracy)
            accuracy["classes"] = list(accuracy["classes"])
        return {
            **value,
            "reasons": list(self.reasons),
            "flips": len(self.flips),
            "flip_margin": self.flip_margin,
            **accuracy,
        }


def require_pass(verdict: Verdict, *, what: str, causes: Sequence[str] = ()) -> None:
    """Stop where the verdict failed.

    Args:
        verdict: of the comparison.
        what: the candidate, for the message.
        causes: sentences of `export.diagnose.diagnosis.explain`; without them the usual causes are
            listed.

    Raises:
        GateError: names the numbers, the limits, the worst images and the cause.
    """
    if verdict.status != "failed":
        return
    worst = "; ".join(
        f"{flip.path} {flip.reference!r} -> {flip.candidate!r} (margin {flip.margin:.3g})"
        for flip in verdict.flips[:3]
    )
    agree = verdict.images - len(verdict.flips)
    raise GateError(
        f"PARITY FAIL {what}: {'; '.join(verdict.reasons)}. "
        f"{agree} of {verdict.images} predictions agree ({verdict.agreement:.1%}, at least "
        f"{verdict.agreement_low:.1%})"
        + _accuracy_words(verdict.accuracy)
        + (f". Worst flips: {worst}." if worst else ". No prediction flipped."),
        " ".join(["Nothing was published.", *(causes or [USUAL_CAUSES])]),
    )


def write_flips(path: Path, gate: Verdict, test: Verdict | None = None) -> None:
    """Write flips.csv: every image whose prediction changed.

    Args:
        path: of the file.
        gate: of the images that decide.
        test: of the test split, which is only reported.
    """
    names = ["asked_for", *(entry.name for entry in fields(Flip))]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        for asked_for, verdict in (("gate", gate), ("test", test)):
            flips = verdict.flips if verdict else ()
            writer.writerows({"asked_for": asked_for, **asdict(flip)} for flip in flips)


def _accuracy_words(accuracy: AccuracyChange | None) -> str:
    if accuracy is None:
        return ""
    return (
        f"; top-1 {accuracy.reference_top1:.1%} -> {accuracy.candidate_top1:.1%}, "
        f"{accuracy.lost} right predictions lost, {accuracy.gained} gained "
        f"(McNemar p = {accuracy.mcnemar_p:.2g})"
    )
