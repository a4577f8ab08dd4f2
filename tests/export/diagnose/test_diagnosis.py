from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import export.diagnose.diagnosis
from export.diagnose.diagnosis import FailedCandidate, SuspectResult, diagnose, explain
from export.diagnose.graph_edits import logits_of
from export.parity.compare import compare_outputs
from export.parity.predictions import outputs_of
from export.parity.tolerances import LIMITS
from tests.export.conftest import Exported
from tests.export.planted import (
    FAULTS,
    Bench,
    Planted,
    bgr,
    corrupted_initialiser,
    edited,
    judged,
    message_of,
    noise_calibration,
    per_tensor_int8,
    sound,
    sound_int8,
    swapped_labels,
    with_logits,
    wrong_normalisation,
)
from train.loader.views import pixels_of

IDS = [fault.__name__ for fault, *_ in FAULTS]


def _uneven(graph: Path, path: Path) -> Path:
    """A dead channel with large weights, as batch norm leaves them: one scale will not do."""

    def kill(values: NDArray[np.float32]) -> None:
        values[0] = 0

    def enlarge(values: NDArray[np.float32]) -> None:
        values[0] *= 100 * np.abs(values).max() / np.abs(values[0]).max()

    edits = {}
    for block in ("backbone.blocks.3.0", "backbone.blocks.4.0"):
        edits[f"{block}.conv_pw.weight"] = edits[f"{block}.conv_pw.weight_bias"] = kill
        edits[f"{block}.conv_dw.weight"] = enlarge
    return edited(graph, path, edits)


@pytest.fixture(scope="module")
def bench(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("planted")
    reference = outputs_of(exported.reference)
    photos = {photo.path: photo for photo in exported.reference.photos}
    spec = exported.card.preprocess

    def resized(filter_name: str, names: Sequence[str]) -> NDArray[np.uint8]:
        other = replace(spec, interpolation=filter_name)
        return pixels_of(exported.dataset.root, [photos[name] for name in names], other)

    return Bench(
        folder=folder,
        reference=reference,
        pixels=resized(spec.interpolation, reference.names),
        graph=exported.graph,
        normalisation=(exported.card.mean, exported.card.std),
        resized=resized,
        calibration=pixels_of(exported.dataset.root, exported.dataset.of_split("train"), spec),
        stem="backbone.conv_stem.weight",
        head=("backbone.classifier.weight",),
    )


@pytest.fixture(scope="module")
def int8_bench(bench: Bench) -> Bench:
    """The same on a file that int8 can hold only with a scale for each channel."""
    graph = _uneven(bench.graph, bench.folder / "uneven.onnx")
    logits = logits_of(graph.read_bytes(), bench.pixels)
    return replace(bench, graph=graph, reference=with_logits(bench.reference, logits))


def test_a_sound_file_passes(bench: Bench) -> None:
    fp32, _ = judged(bench, sound(bench))
    assert (fp32.status, fp32.reasons, len(fp32.flips)) == ("passed", (), 0)
    assert fp32.snr_db > 100


@pytest.mark.usefixtures("exact_int8")
def test_a_sound_int8_file_passes(int8_bench: Bench) -> None:
    int8, _ = judged(int8_bench, sound_int8(int8_bench))
    assert (int8.status, int8.reasons) == ("passed", ())
    assert 15 < int8.snr_db < 30


@pytest.mark.parametrize(("fault", "cause", "words"), FAULTS, ids=IDS)
def test_each_planted_fault_fails_with_a_message_of_its_own(
    bench: Bench,
    int8_bench: Bench,
    fault: Callable[[Bench], Planted],
    cause: str,
    words: list[str],
) -> None:
    used = int8_bench if fault in (per_tensor_int8, noise_calibration) else bench
    message, findings = message_of(used, fault(used), f"toy {fault.__name__}")
    assert message.startswith(f"PARITY FAIL toy {fault.__name__}: SNR ")
    for word in words:
        assert word in message
    assert "SNR" in message.partition("Nothing was published.")[2]
    # It is this cause and no other, and it is shown by restored answers.
    assert [finding.cause for finding in findings if finding.explains] == [cause]
    found = findings[-1]
    assert found.cause == cause
    assert found.after_db is not None
    limit = LIMITS["int8" if used is int8_bench else "fp32"].min_snr_db
    assert found.before_db < limit <= found.after_db
    others = {word for _, name, own in FAULTS if name != cause for word in own}
    assert not any(word in message for word in others - set(words) - {"restores"})
    json.dumps([finding.to_dict() for finding in findings], allow_nan=False)


def test_an_exact_repair_restores_the_reference_to_the_last_bits(bench: Bench) -> None:
    for fault in (bgr, wrong_normalisation, corrupted_initialiser, swapped_labels):
        _, suspects = judged(bench, fault(bench))
        after = diagnose(suspects)[-1].after_db
        assert after is not None
        assert after > 100, fault.__name__


def test_normalisation_is_found_where_the_file_does_not_show_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.diagnose.trials.normalisation_of", lambda path: None)
    _, suspects = judged(bench, wrong_normalisation(bench))
    found = diagnose(suspects)[-1]
    assert (found.cause, found.explains) == ("mean/std", True)
    assert "the file normalises with mean 0.5 and std 0.5" in found.sentence


def test_a_file_of_another_checkpoint_is_told_from_a_damaged_one(
    bench: Bench, tmp_path: Path
) -> None:
    import onnx

    names = [
        item.name
        for item in onnx.load(bench.graph).graph.initializer
        if item.name.endswith(("weight", "bias"))
    ]
    path = edited(
        bench.graph, tmp_path / "other.onnx", dict.fromkeys(names, lambda a: a.__imul__(1.1))
    )
    message, findings = message_of(bench, Planted(path, bench.pixels), "other")
    assert findings[-1].cause == "initialisers"
    assert "the file was made of another checkpoint" in message


def test_a_weight_that_is_no_number_is_named(bench: Bench, tmp_path: Path) -> None:
    def spoil(values: NDArray[np.float32]) -> None:
        values[1, 2] = np.nan

    path = edited(bench.graph, tmp_path / "nan.onnx", {bench.head[0]: spoil})
    message, findings = message_of(bench, Planted(path, bench.pixels), "nan")
    assert findings[-1].cause == "initialisers"
    assert findings[0].before_db == -999.0
    assert f"'{bench.head[0]}' differs by inf at [1, 2]" in message


def test_scales_alone_give_per_tensor_weights_away(int8_bench: Bench) -> None:
    _, suspects = judged(int8_bench, per_tensor_int8(int8_bench))
    found = diagnose(replace(suspects, fp32=None, fresh=None))[-1]
    assert (found.cause, found.explains, found.after_db) == ("per-tensor weights", True, None)
    assert "18 of 18 weights have one scale" in found.sentence


def test_the_fp32_file_is_blamed_before_its_conversion(int8_bench: Bench, bench: Bench) -> None:
    """An int8 file of another fp32 file than the reference's."""
    _, suspects = judged(bench, replace(sound_int8(int8_bench), pixels=bench.pixels))
    findings = diagnose(replace(suspects, fp32=int8_bench.graph, fresh=None))
    assert not any(finding.explains for finding in findings)
    told = " ".join(explain(findings))
    assert told.startswith("No single suspect restores SNR ")
    assert "The conversion is not the first fault: the fp32 file on the same pixels has" in told
    assert "Repair the fp32 export first" in told


def test_an_optimiser_that_changes_the_model_is_named(bench: Bench) -> None:
    """The file is sound; the runner answers otherwise, as a faulty optimiser makes it."""
    planted = sound(bench)
    wrong = planted.infer(bench.pixels) * np.float32(0.5) + 1

    def infer(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return planted.infer(pixels) * np.float32(0.5) + 1

    suspects = FailedCandidate(
        bench.reference, wrong, bench.pixels, infer, LIMITS["fp32"], model=planted.model
    )
    findings = diagnose(suspects)
    assert [finding.cause for finding in findings if finding.explains] == ["optimiser"]
    assert "this runtime's optimiser changes it" in " ".join(explain(findings))


def test_noisy_nodes_are_the_last_word(bench: Bench) -> None:
    random = np.random.default_rng(0)
    noise = random.normal(0, 3, bench.reference.logits.shape).astype(np.float32)
    suspects = FailedCandidate(
        bench.reference,
        bench.reference.logits + noise,
        bench.pixels,
        lambda pixels: np.zeros((len(pixels), 3), np.float32),
        LIMITS["int8"],
        node_noise=[("node_Conv_228", 3.25), ("node_Gemm_242", 9.0)],
    )
    told = explain(diagnose(suspects))
    assert len(told) == 2
    assert told[0].startswith("No single suspect restores SNR ")
    assert "BGR 0.0 dB" in told[0]
    assert told[1].startswith("The noisiest nodes are node_Conv_228 3.2 dB, node_Gemm_242 9.0 dB.")
    assert told[1].endswith("Keep these nodes in float and quantise again.")


def test_nothing_known_is_nothing_suspected(bench: Bench) -> None:
    planted = sound(bench)
    suspects = FailedCandidate(
        bench.reference,
        bench.reference.logits + 1,
        bench.pixels,
        planted.infer,
        LIMITS["fp32"],
    )
    assert [finding.cause for finding in diagnose(suspects)] == ["BGR"]
    assert explain([]) == []


def test_a_trial_is_cheap(bench: Bench) -> None:
    fed = []

    def infer(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        fed.append(len(pixels))
        return np.zeros((len(pixels), 3), np.float32)

    logits = np.zeros_like(bench.reference.logits)
    suspects = FailedCandidate(bench.reference, logits, bench.pixels, infer, LIMITS["fp32"])
    diagnose(replace(suspects, resized=bench.resized))
    assert fed == [64, 64, 64]  # BGR and two filters
    assert suspects.rows[0] == 0
    assert suspects.rows[-1] == len(bench.pixels) - 1


def test_a_server_without_onnx_still_tries_the_pixels(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export.diagnose.diagnosis.importlib.util, "find_spec", lambda name: None)
    _, suspects = judged(bench, wrong_normalisation(bench))
    causes = {finding.cause for finding in diagnose(suspects)}
    assert causes == {"BGR", "resize bilinear", "resize lanczos"}
    _, suspects = judged(bench, bgr(bench))
    assert diagnose(suspects)[-1].explains


def test_a_finding_needs_more_than_the_limit(bench: Bench) -> None:
    """Where SNR was no fault, a trial that leaves it as it is explains nothing."""
    logits = bench.reference.logits.copy()
    logits[0, 0] += 1e-2
    verdict = compare_outputs(bench.reference, logits, LIMITS["fp32"], min_images=300)
    assert verdict.status == "failed"
    suspects = FailedCandidate(
        bench.reference, logits, bench.pixels, sound(bench).infer, LIMITS["fp32"]
    )
    assert not suspects.restored(suspects.before_db + 5.9)
    assert suspects.restored(suspects.before_db + 6.1)
    found: list[SuspectResult] = diagnose(suspects)
    assert not any(finding.explains for finding in found)


def test_the_judged_file_is_not_touched(bench: Bench) -> None:
    planted = wrong_normalisation(bench)
    before = planted.model.read_bytes()
    message_of(bench, planted, "x")
    assert planted.model.read_bytes() == before
