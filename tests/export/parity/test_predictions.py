from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from export.parity.predictions import (
    agreement_lower_bound,
    compare_predictions,
    mcnemar_p,
    require_pass,
    snr_db,
    write_flips,
)
from export.parity.tolerances import LIMITS as LIMITS_OF
from serve.contract.errors import GateError
from train.data.images import LabelledImage
from train.evaluation import Predictions

FP32 = LIMITS_OF["fp32"]
JUDGED: dict[str, Any] = {"limits": FP32, "min_images": 300}
LABELS = ("aster", "bell", "clover")


def _reference(count: int = 300, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (count, 3)).astype(np.float32)
    photos = [
        LabelledImage(f"{LABELS[k]}/{i}.jpg", LABELS[k], "test", f"{i:064x}")
        for i, k in enumerate(rng.integers(0, 3, count))
    ]
    return Predictions(photos, LABELS, logits)


def test_equal_answers_pass() -> None:
    reference = _reference()
    verdict = compare_predictions(reference, reference.logits.copy(), **JUDGED)
    assert verdict.status == "passed"
    assert (verdict.snr_db, verdict.max_abs_diff, verdict.agreement) == (999.0, 0.0, 1.0)
    assert (verdict.reasons, verdict.flips, verdict.mcnemar_p) == ((), (), 1.0)
    require_pass(verdict, what="equal")


def test_rounding_noise_passes() -> None:
    reference = _reference()
    noise = np.random.default_rng(1).normal(0, 1e-6, reference.logits.shape)
    verdict = compare_predictions(
        reference, (reference.logits + noise).astype(np.float32), **JUDGED
    )
    assert verdict.status == "passed"
    assert 115 < verdict.snr_db < 140


def test_noise_has_the_ratio_that_it_was_given() -> None:
    rng = np.random.default_rng(0)
    signal, noise = rng.normal(0, 10, 100_000), rng.normal(0, 0.1, 100_000)
    assert snr_db(signal, noise) == pytest.approx(40, abs=0.1)
    assert snr_db(signal, noise * 0) == 999.0


def test_too_few_images_prove_nothing_and_stop_nothing() -> None:
    reference = _reference(299)
    verdict = compare_predictions(reference, reference.logits, **JUDGED)
    assert verdict.status == "inconclusive"
    assert verdict.reasons == ("299 images < 300",)
    require_pass(verdict, what="few")


def test_few_images_can_still_fail() -> None:
    reference = _reference(10)
    assert compare_predictions(reference, reference.logits + 1, **JUDGED).status == "failed"


def _swap_two_labels(logits: NDArray[np.float32]) -> None:
    logits[:] = logits[:, [1, 0, 2]]


def _one_image(logits: NDArray[np.float32]) -> None:
    logits[17] = logits[17][::-1]


def _offset(logits: NDArray[np.float32]) -> None:
    logits += 0.05  # no answer flips


def _nan(logits: NDArray[np.float32]) -> None:
    logits[3, 1] = np.nan


def _infinity(logits: NDArray[np.float32]) -> None:
    logits[3, 1] = np.inf


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (
            _swap_two_labels,
            ["SNR ", "dB < 80 dB", "flip margin", "Worst flips: ", "'bell' -> 'aster'"],
        ),
        (_one_image, ["17.jpg", "299 of 300 predictions agree (99.7%", "at least 98.4%"]),
        (_offset, ["largest difference 0.05", ".jpg", "No prediction flipped", "300 of 300"]),
        (_nan, ["logits are not finite", "3.jpg"]),
        (_infinity, ["logits are not finite", "3.jpg"]),
    ],
)
def test_a_planted_fault_fails_with_its_numbers_and_images(plant: Any, words: list[str]) -> None:
    reference = _reference()
    candidate = reference.logits.copy()
    plant(candidate)
    verdict = compare_predictions(reference, candidate, **JUDGED)
    assert verdict.status == "failed"
    with pytest.raises(GateError) as caught:
        require_pass(verdict, what="fp32 toy")
    assert caught.value.message.startswith("PARITY FAIL fp32 toy: ")
    assert "Nothing was published" in caught.value.next_step
    for word in words:
        assert word in caught.value.message
    json.dumps(verdict.to_dict(), allow_nan=False)


def test_each_limit_counts_alone() -> None:
    reference = _reference()
    near = reference.logits.copy()
    near[0] = (1.0, 1.0 - 1e-6, 0.0)
    close = Predictions(reference.photos, LABELS, near)
    flipped = near.copy()
    flipped[0] = (1.0 - 1e-6, 1.0, 0.0)
    tie = compare_predictions(close, flipped, **JUDGED)
    assert tie.status == "passed"  # a tie of a millionth may fall either way, and is listed
    assert [flip.path for flip in tie.flips] == [reference.photos[0].path]
    strict = compare_predictions(
        close, flipped, replace(FP32, max_flip_margin=1e-9), min_images=300
    )
    assert [reason.split(" ")[0] for reason in strict.reasons] == ["flip"]
    one = reference.logits.copy()
    one[5, 0] += 0.01
    one_diff = compare_predictions(reference, one, replace(FP32, min_snr_db=0.0), min_images=300)
    assert [reason[:18] for reason in one_diff.reasons] == ["largest difference"]
    assert one_diff.reasons[0].endswith(f"at {reference.photos[5].path}")
    limits = replace(FP32, min_snr_db=110, max_diff_sd=1, max_flip_margin=9)
    loud = compare_predictions(reference, one, limits, min_images=300)
    assert [reason[:3] for reason in loud.reasons] == ["SNR"]


def test_other_shapes_are_a_programming_error() -> None:
    with pytest.raises(ValueError, match=r"logits \(300, 2\) against \(300, 3\)"):
        compare_predictions(_reference(), np.zeros((300, 2), np.float32), **JUDGED)


@pytest.mark.parametrize(
    ("agree", "count", "low"),
    [(300, 300, 0.9901), (1000, 1000, 0.9970), (299, 300, 0.9843), (0, 9, 0.0)],
)
def test_the_bound_of_the_agreement_is_that_of_the_table(
    agree: int, count: int, low: float
) -> None:
    assert agreement_lower_bound(agree, count) == pytest.approx(low, abs=1e-4)
    if agree == count:
        assert agreement_lower_bound(agree, count) == pytest.approx(math.pow(0.05, 1 / count))


@pytest.mark.parametrize(
    ("lost", "gained", "p"), [(6, 0, 0.031), (10, 2, 0.039), (0, 0, 1.0), (5, 5, 1.0)]
)
def test_lost_and_gained_images_have_the_exact_p(lost: int, gained: int, p: float) -> None:
    assert mcnemar_p(lost, gained) == pytest.approx(p, abs=5e-4)
    assert mcnemar_p(gained, lost) == mcnemar_p(lost, gained)


def test_lost_and_gained_are_counted_by_the_labels() -> None:
    photos = [LabelledImage(f"{i}.jpg", "aster", "test", str(i)) for i in range(8)]
    right, wrong = [2.0, 0.0, 0.0], [0.0, 2.0, 0.0]
    reference = Predictions(photos, LABELS, np.array([right] * 6 + [wrong] * 2, np.float32))
    verdict = compare_predictions(
        reference, np.array([wrong] * 6 + [wrong] * 2, np.float32), **JUDGED
    )
    assert (verdict.reference_top1, verdict.candidate_top1) == (0.75, 0.0)
    assert verdict.mcnemar_p == pytest.approx(0.031, abs=5e-4)


def test_every_flip_is_listed_the_widest_first(tmp_path: Path) -> None:
    reference = _reference()
    candidate = reference.logits.copy()
    for i in (4, 9, 40):
        candidate[i] = candidate[i][[1, 2, 0]]
    verdict = compare_predictions(reference, candidate, **JUDGED)
    write_flips(tmp_path / "flips.csv", verdict)
    with (tmp_path / "flips.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("asked_for", "path", "sha256", "label", "reference", "candidate", "margin", "change")
    ]
    assert {row["path"] for row in rows} == {reference.photos[i].path for i in (4, 9, 40)}
    margins = [float(row["margin"]) for row in rows]
    assert margins == sorted(margins, reverse=True)
    assert verdict.to_dict()["flips"] == 3
    for row in rows:
        i = next(i for i, photo in enumerate(reference.photos) if photo.path == row["path"])
        logits = reference.logits[i]
        assert (row["sha256"], row["label"]) == (f"{i:064x}", reference.photos[i].label)
        assert row["reference"] == LABELS[logits.argmax()]
        assert row["candidate"] == LABELS[candidate[i].argmax()]
        lead = float(logits.max()) - float(logits[LABELS.index(row["candidate"])])
        assert float(row["margin"]) == pytest.approx(lead)
