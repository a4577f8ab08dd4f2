"""What is known of a candidate that failed parity, and what one trial of a suspect found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.parity.compare import Logits, ModelOutputs, snr_db
from export.parity.tolerances import Tolerances

__all__ = ["FailedCandidate", "SuspectResult", "Triple"]

PROBES = 64  # images of a trial
GAIN_DB = 6.0  # a smaller gain restores nothing
Pixels = NDArray[np.uint8]
Triple = tuple[float, ...]  # of red, green and blue


@dataclass(frozen=True)
class SuspectResult:
    """One suspect, tried.

    Args:
        cause: short, stable name of the suspect.
        explains: changing it restores the predictions.
        before_db: SNR of the candidate on the probe images.
        after_db: SNR with the one thing changed; None where nothing could be run.
        sentence: what was found, with its numbers.
        next_step: what to do about it; empty where it does not explain the failure.
    """

    cause: str
    explains: bool
    before_db: float
    after_db: float | None
    sentence: str
    next_step: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


@dataclass(frozen=True)
class FailedCandidate:
    """What is known of a candidate that failed. What is not given is not suspected.

    Args:
        reference: N images with the reference's logits.
        candidate: (N, K) logits that were judged.
        pixels: (N, H, W, 3) uint8 that the candidate was fed.
        infer: the candidate; any number of such images -> logits.
        limits: of the candidate's precision; `min_snr_db` says what "restored" means.
        model: its ONNX file.
        fp32: the fp32 file that a fp16 or int8 file was made from.
        fresh: a sound fp32 file of the same model, that shows a damaged weight: a fresh export.
        normalisation: mean and std of RGB in [0, 1] that the reference was computed with.
        resized: (filter, names of images) -> pixels as `pixels`, resized by that filter.
        node_noise: (node, SNR in dB) of an int8 file, the worst first, from
            export/precision/node_noise.py.
    """

    reference: ModelOutputs
    candidate: Logits
    pixels: Pixels
    infer: Callable[[Pixels], Logits]
    limits: Tolerances
    model: Path | None = None
    fp32: Path | None = None
    fresh: Path | None = None
    normalisation: tuple[Triple, Triple] | None = None
    resized: Callable[[str, Sequence[str]], Pixels] | None = None
    node_noise: Sequence[tuple[str, float]] = ()

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Numbers of the probe images: evenly spread, as images often stand class by class."""
        count = len(self.pixels)
        return np.unique(np.linspace(0, count - 1, min(count, PROBES)).round().astype(np.int64))

    @cached_property
    def probes(self) -> Pixels:
        """(n, H, W, 3) uint8 pixels of the probe images."""
        return self.pixels[self.rows]

    @cached_property
    def before_db(self) -> float:
        """SNR of the candidate on the probe images."""
        return self.snr(self.candidate[self.rows])

    def snr(self, logits: Logits) -> float:
        """SNR in dB of other logits of the probe images."""
        expected = self.reference.logits[self.rows].astype(np.float64)
        return snr_db(expected, logits.astype(np.float64) - expected)

    def restored(self, after_db: float) -> bool:
        """Whether the limit holds again, and did not before."""
        return after_db >= max(self.limits.min_snr_db, self.before_db + GAIN_DB)

    def finding(
        self, cause: str, after_db: float, tried: str, repair: tuple[str, str]
    ) -> SuspectResult:
        """A finding on one trial.

        Args:
            cause: short name.
            after_db: SNR of the trial.
            tried: what was changed, as the subject of "restores the predictions".
            repair: what it means where it does, and what to do then.
        """
        change = f"SNR {self.before_db:.1f} -> {after_db:.1f} dB"
        if not self.restored(after_db):
            sentence = f"{tried} does not restore the predictions ({change})."
            return SuspectResult(cause, False, self.before_db, after_db, sentence)
        meaning, next_step = repair
        sentence = f"{tried} restores the predictions ({change}): {meaning}."
        return SuspectResult(cause, True, self.before_db, after_db, sentence, next_step)
