from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from export.parity.accuracy import calibration_error, softmax
from export.parity.compare import ModelOutputs, Verdict, compare_outputs, require_pass, write_flips
from export.parity.tolerances import LIMITS
from serve.contract.errors import GateError
from tests.train.toy import PATIENT
from train.evaluation import expected_calibration_error

ROOT = Path(__file__).parents[3]
LABELS = ("aster", "bell", "clover")
Logits = NDArray[np.float32]


def answers(count: int = 300, *, sd: float = 3.0, known: bool = True) -> ModelOutputs:
    """A reference that answers two of three images rightly."""
    random = np.random.default_rng(5)
    logits = random.normal(0, sd, (count, 3)).astype(np.float32)
    targets = logits.argmax(1).astype(np.int64)
    targets[::3] = random.integers(0, 3, len(targets[::3]))
    names = tuple(f"{i}.jpg" for i in range(count))
    digests = tuple(f"{i:064x}" for i in range(count))
    return ModelOutputs(names, digests, LABELS, logits, targets if known else None)


def with_flips(reference: ModelOutputs, count: int, margin: float) -> Logits:
    """The reference's logits with `count` flips of a given margin."""
    logits = reference.logits.copy()
    reference.logits[:count] = (margin, 0.0, -margin)
    logits[:count] = (0.0, 0.01 * margin, -margin)
    return logits


@pytest.mark.parametrize("module", ["parity.compare", "parity.tolerances", "diagnose.diagnosis"])
def test_a_server_can_judge(module: str) -> None:
    """It has numpy; ONNX Runtime is loaded by what runs a file only."""
    wrong = {"torch", "scipy", "onnx", "onnxruntime", "sklearn", "train"}
    code = (
        f"import sys, export.{module}; wrong = {wrong} & set(sys.modules); assert not wrong, wrong"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# ---- numbers


@pytest.mark.parametrize(
    ("precision", "sound", "broken"), [("fp32", 110, 70), ("fp16", 44, 30), ("int8", 19, 11)]
)
def test_each_precision_has_its_own_limits(precision: str, sound: float, broken: float) -> None:
    reference = answers()
    noise = np.random.default_rng(0).normal(0, 1, reference.logits.shape)
    power = np.sqrt((reference.logits.astype(float) ** 2).mean() / (noise**2).mean())
    for snr, passes in ((sound, True), (broken, False)):
        limits = replace(LIMITS[precision], min_agreement=0.0, max_top1_drop=1.0)  # type: ignore[index]
        candidate = (reference.logits + noise * power * 10 ** (-snr / 20)).astype(np.float32)
        verdict = compare_outputs(reference, candidate, limits, min_images=300)
        assert verdict.snr_db == pytest.approx(snr, abs=1)
        assert any("SNR" in reason for reason in verdict.reasons) is not passes


def test_an_answer_that_depends_on_its_batch_fails() -> None:
    reference = answers()
    sd = float(reference.logits.std())
    for found, status in ((0.9e-3 * sd, "passed"), (1.1e-3 * sd, "failed"), (-1.0, "failed")):
        verdict = compare_outputs(
            reference, reference.logits, LIMITS["fp32"], min_images=300, invariance=found
        )
        assert verdict.status == status
        assert verdict.to_dict()["batch_max_diff"] == found
    verdict = compare_outputs(
        reference, reference.logits, LIMITS["fp32"], min_images=300, invariance=0.5
    )
    assert verdict.reasons[0].startswith("an image's logits change by 0.5 > 0.00")
    assert verdict.reasons[0].endswith("with the batch that it is in")


def test_blank_images_must_answer_too() -> None:
    reference = answers()
    blank = np.array([[40.0, -20, 1], [1, 2, 3]], np.float32)  # far from images: large
    size = float(np.sqrt((blank**2).mean()))
    for change, status in ((0.009 * size, "passed"), (0.011 * size, "failed"), (np.nan, "failed")):
        found = blank.copy()
        found[0, 1] += change
        verdict = compare_outputs(
            reference, reference.logits, LIMITS["fp32"], min_images=300, blank=(blank, found)
        )
        assert verdict.status == status
        json.dumps(verdict.to_dict(), allow_nan=False)
    assert verdict.reasons == ("logits of an all-black or all-white image are not finite",)


def test_a_reference_that_is_not_finite_is_no_reference() -> None:
    reference = answers()
    reference.logits[7, 1] = np.nan
    with pytest.raises(GateError, match=r"The reference itself answers 1 of 300 .* first 7\.jpg"):
        compare_outputs(reference, reference.logits, LIMITS["fp32"], min_images=300)


def test_a_candidate_that_is_not_finite_has_a_verdict_in_json() -> None:
    reference = answers()
    candidate = reference.logits.copy()
    candidate[9, 0], candidate[11, 1] = np.inf, np.nan
    verdict = compare_outputs(reference, candidate, LIMITS["int8"], min_images=300)
    value = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
    assert value["status"] == "failed"
    assert (value["snr_db"], value["max_abs_diff"]) == (-999.0, -1.0)
    assert (value["mean_kl"], value["candidate_ece"], value["confidence_shift"]) == (None,) * 3
    assert verdict.reasons[0] == "the candidate's logits are not finite, first at 9.jpg"


@PATIENT
@given(st.integers(0, 2**32 - 1), st.floats(-6, 1))
def test_a_verdict_does_not_depend_on_the_order_of_the_images(seed: int, size: float) -> None:
    random = np.random.default_rng(seed)
    reference = answers(60)
    assert reference.targets is not None
    noise = random.normal(0, 10**size, reference.logits.shape)
    candidate = (reference.logits + noise).astype(np.float32)
    order = random.permutation(60)
    other = ModelOutputs(
        names=tuple(reference.names[i] for i in order),
        sha256=tuple(reference.sha256[i] for i in order),
        labels=LABELS,
        logits=reference.logits[order],
        targets=reference.targets[order],
    )
    one = compare_outputs(reference, candidate, LIMITS["int8"], min_images=60).to_dict()
    two = compare_outputs(other, candidate[order], LIMITS["int8"], min_images=60).to_dict()
    for name, value in one.items():
        same = pytest.approx(value) if isinstance(value, float) else value
        assert two[name] == same, name
    assert one["agreement_low"] <= one["agreement"]
    assert one["lost"] + one["gained"] <= one["flips"]


# ---- decisions


def test_an_agreement_that_few_images_cannot_show_is_inconclusive() -> None:
    reference = answers()
    candidate = with_flips(reference, 9, 0.02)  # 97 % agree, ties all
    verdict = compare_outputs(reference, candidate, LIMITS["int8"], min_images=300)
    assert verdict.status == "inconclusive"
    assert verdict.agreement_low < 0.95 < verdict.agreement
    (reason,) = verdict.reasons
    assert reason.startswith("97.0% of 300 predictions agree, which shows 94.8% only, not 95.0%")
    assert reason.endswith("give about 390 images")
    require_pass(verdict, what="few")
    more = answers(400)
    assert (
        compare_outputs(more, with_flips(more, 9, 0.02), LIMITS["int8"], min_images=300).status
        == "passed"
    )


def test_an_agreement_below_the_limit_fails() -> None:
    reference = answers()
    verdict = compare_outputs(
        reference, with_flips(reference, 20, 0.02), LIMITS["int8"], min_images=300
    )
    assert verdict.status == "failed"
    assert verdict.reasons[0] == "agreement 93.3% < 95.0%"


@pytest.mark.parametrize(("margin", "status"), [(1.9, "passed"), (2.1, "failed")])
def test_a_wide_margin_may_not_flip(margin: float, status: str) -> None:
    reference = answers()
    verdict = compare_outputs(
        reference, with_flips(reference, 1, margin), LIMITS["int8"], min_images=300
    )
    assert verdict.status == status
    assert verdict.flip_margin == pytest.approx(margin)


@pytest.mark.parametrize(("scale", "counted"), [(1.0, 1.0), (0.02, 0.06), (10.0, 30.0)])
def test_margins_are_counted_in_sd_where_logits_are_unusual(scale: float, counted: float) -> None:
    reference = answers(sd=3 * scale)
    candidate = with_flips(reference, 1, 1.0 * scale)
    verdict = compare_outputs(reference, candidate, LIMITS["int8"], min_images=300)
    assert verdict.margin_scale == pytest.approx(counted, rel=0.1)
    assert verdict.flips[0].margin == pytest.approx(scale)  # in flips.csv: logits, always
    limits = replace(LIMITS["int8"], max_flip_margin=0.1)
    reasons = compare_outputs(reference, candidate, limits, min_images=300).reasons
    assert reasons[0].startswith("flip margin ")
    assert reasons[0].endswith("logits")
    assert ("sd of" in reasons[0]) is (scale != 1)


# ---- accuracy


def flipped(reference: ModelOutputs, lost: int, gained: int, *, skip: int = -1) -> Logits:
    """Ties that fall another way, to or from the truth; none gained in the class `skip`."""
    assert reference.targets is not None
    logits, candidate = reference.logits, reference.logits.copy()
    right = np.flatnonzero(logits.argmax(1) == reference.targets)[:lost]
    wrong = (logits.argmax(1) != reference.targets) & (reference.targets != skip)
    wrong = np.flatnonzero(wrong)[:gained]
    for i, target, best in [
        *((i, (reference.targets[i] + 1) % 3, reference.targets[i]) for i in right),
        *((i, reference.targets[i], logits[i].argmax()) for i in wrong),
    ]:
        logits[i], candidate[i] = -5.0, -5.0
        logits[i, best], logits[i, target] = 1.0, 0.99
        candidate[i, best], candidate[i, target] = 0.99, 1.0
    return candidate


@pytest.mark.parametrize(
    ("lost", "gained", "fails"),
    [(12, 1, True), (6, 0, True), (5, 0, False), (12, 9, False), (1, 12, False), (0, 0, False)],
)
def test_a_drop_fails_where_chance_does_not_explain_it(lost: int, gained: int, fails: bool) -> None:
    reference = answers(600)
    candidate = flipped(reference, lost, gained)
    limits = replace(LIMITS["int8"], max_top1_drop=0.002)
    verdict = compare_outputs(reference, candidate, limits, min_images=300)
    assert (verdict.status == "failed") is fails
    assert any(reason.startswith("top-1 drops by") for reason in verdict.reasons) is fails
    found = verdict.accuracy
    assert found is not None
    assert (found.lost, found.gained) == (lost, gained)
    assert found.top1_change_low <= found.top1_change <= found.top1_change_high
    assert found.top1_change == pytest.approx((gained - lost) / 600)


def test_one_class_that_pays_for_the_others_fails() -> None:
    reference = answers(900)
    assert reference.targets is not None
    candidate = flipped(reference, 0, 14, skip=0)
    asters = np.flatnonzero((reference.targets == 0) & (reference.logits.argmax(1) == 0))[:14]
    reference.logits[asters], candidate[asters] = (1.0, 0.99, -9), (0.99, 1.0, -9)
    verdict = compare_outputs(reference, candidate, LIMITS["int8"], min_images=300)
    found = verdict.accuracy
    assert found is not None
    assert found.top1_change == 0
    assert found.classes[0].label == "aster"
    assert [reason.split(" gains")[0] for reason in verdict.reasons] == [
        f"class 'aster' loses 14 of {found.classes[0].images} and"
    ]


def test_a_small_class_is_not_judged_by_itself() -> None:
    reference = answers(300)
    assert reference.targets is not None
    reference.targets[:] = 0
    reference.targets[:19] = 1
    verdict = compare_outputs(reference, reference.logits, LIMITS["int8"], min_images=300)
    assert verdict.accuracy is not None
    assert [change.label for change in verdict.accuracy.classes] == ["aster"]


def test_calibration_is_that_of_evaluation_and_is_reported_only() -> None:
    reference = answers()
    assert reference.targets is not None
    probs = softmax(reference.logits)
    assert calibration_error(probs, reference.targets) == pytest.approx(
        expected_calibration_error(probs, reference.targets)
    )
    sharper = (reference.logits * 1.1).astype(np.float32)
    verdict = compare_outputs(reference, sharper, LIMITS["int8"], min_images=300)
    assert verdict.status == "passed"
    assert verdict.accuracy is not None
    assert verdict.accuracy.confidence_shift is not None
    assert verdict.accuracy.confidence_shift > 0.005
    assert verdict.mean_kl is not None
    assert verdict.mean_kl > 0


# ---- flips


def test_lost_and_gained_images_are_told_apart(tmp_path: Path) -> None:
    reference = answers(600)
    candidate = flipped(reference, 5, 2)
    assert reference.targets is not None
    wrong = np.flatnonzero(reference.logits.argmax(1) != reference.targets)[-1]
    truth = reference.targets[wrong]
    a, b = (truth + 1) % 3, (truth + 2) % 3
    reference.logits[wrong, [truth, a, b]], candidate[wrong, [truth, a, b]] = (
        (-5, 1, 0.99),
        (-5, 0.99, 1),
    )
    verdict = compare_outputs(reference, candidate, LIMITS["int8"], min_images=300)
    changes = [flip.change for flip in verdict.flips]
    assert {name: changes.count(name) for name in set(changes)} == {
        "lost": 5,
        "gained": 2,
        "other": 1,
    }
    write_flips(tmp_path / "flips.csv", verdict)
    assert (tmp_path / "flips.csv").read_text().splitlines()[0].endswith(",margin,change")


def test_unlabelled_images_are_judged_by_numbers_and_decisions() -> None:
    reference = answers(known=False)
    verdict = compare_outputs(reference, reference.logits, LIMITS["fp32"], min_images=300)
    assert verdict.status == "passed"
    assert (verdict.reference_top1, verdict.mcnemar_p, verdict.accuracy) == (None, None, None)
    candidate = reference.logits[:, ::-1].copy()
    verdict = compare_outputs(reference, candidate, LIMITS["fp32"], min_images=300)
    assert {(flip.label, flip.change) for flip in verdict.flips} == {("", "")}
    value = verdict.to_dict()
    assert value["reference_top1"] is value["lost"] is value["classes"] is None
    with pytest.raises(GateError) as caught:
        require_pass(verdict, what="unlabelled")
    assert "top-1" not in str(caught.value)


def test_the_json_form_is_flat_and_the_same_with_and_without_labels() -> None:
    labelled, unlabelled = (
        compare_outputs(
            answers(known=known), answers().logits, LIMITS["fp32"], min_images=300
        ).to_dict()
        for known in (True, False)
    )
    assert labelled.keys() == unlabelled.keys()
    assert {"reference_top1", "candidate_top1", "mcnemar_p", "lost", "gained"} <= labelled.keys()
    assert labelled["flips"] == 0
    json.dumps(labelled, allow_nan=False)


def test_causes_take_the_place_of_the_usual_ones() -> None:
    reference = answers()
    verdict: Verdict = compare_outputs(
        reference, reference.logits[:, ::-1].copy(), LIMITS["fp32"], min_images=300
    )
    with pytest.raises(GateError) as caught:
        require_pass(verdict, what="x", causes=["It was the gardener.", "Ask the cook."])
    step = caught.value.next_step
    assert step == "Nothing was published. It was the gardener. Ask the cook."


def test_answers_must_fit_together() -> None:
    good = answers(4)
    for change in (
        {"names": good.names[:3]},
        {"sha256": good.sha256[:3]},
        {"labels": LABELS[:2]},
        {"targets": np.zeros(3, np.int64)},
    ):
        with pytest.raises(ValueError, match=r"logits \(4, 3\)"):
            replace(good, **change)  # type: ignore[arg-type]
