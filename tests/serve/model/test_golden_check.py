"""The gate before ready, shown failing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from serve.contract.artifact import open_artifact
from serve.contract.digest import canonical_json
from serve.contract.errors import ArtifactError
from serve.model.golden_check import replay_golden, warm_up
from serve.runners.open import open_runner


def replay(root: Path):
    artifact = open_artifact(root)
    with open_runner(artifact, max_batch_size=4) as runner:
        warm_up(artifact, runner)
        return replay_golden(artifact, runner)


def change_golden(root: Path, **changes) -> None:
    path = root / "golden" / "golden.json"
    entries = json.loads(path.read_bytes())
    entries[0].update(changes)
    path.write_bytes(canonical_json(entries))


def test_a_valid_artifact_passes(tiny_artifact: Path) -> None:
    check = replay(tiny_artifact)
    assert (check.images, check.equal_pixels, check.note) == (6, 6, "")
    assert check.max_logit_diff <= check.atol == 1e-4


def test_another_model_under_a_valid_manifest_is_refused(
    artifact_copy: Path, make_model, rewrite_manifest
) -> None:
    (artifact_copy / "model.onnx").write_bytes(make_model(0, 32, 4, 1.01))
    rewrite_manifest(artifact_copy)
    with pytest.raises(ArtifactError, match=r"photo\.jpg is predicted wrongly on onnxruntime-cpu"):
        replay(artifact_copy)


def test_swapped_labels_are_not_noticed_by_logits_but_top1_is_named(
    artifact_copy: Path, rewrite_manifest
) -> None:
    entries = json.loads((artifact_copy / "golden" / "golden.json").read_bytes())
    logits = np.array(entries[0]["logits"])
    best, other = np.argsort(-logits)[:2]
    logits[other] = logits[best] + 1e-6
    change_golden(artifact_copy, logits=logits.tolist())
    rewrite_manifest(artifact_copy, golden_atol=100.0)
    with pytest.raises(ArtifactError, match="top-1 is 'daisy', stored is"):
        replay(artifact_copy)


def test_other_pixels_with_the_same_pillow_are_refused(
    artifact_copy: Path, rewrite_manifest
) -> None:
    change_golden(artifact_copy, pixels_sha256="0" * 64)
    rewrite_manifest(artifact_copy)
    with pytest.raises(ArtifactError, match=r"photo\.jpg gives other pixels.*in both"):
        replay(artifact_copy)


def test_other_pixels_with_another_pillow_are_told(artifact_copy: Path, rewrite_manifest) -> None:
    change_golden(artifact_copy, pixels_sha256="0" * 64)
    rewrite_manifest(artifact_copy, pillow="9.9.9")
    check = replay(artifact_copy)
    assert check.equal_pixels == 5
    assert "Pillow was 9.9.9 there" in check.note


def test_a_model_that_gives_nan_is_refused(tiny_artifact: Path) -> None:
    artifact = open_artifact(tiny_artifact)
    with open_runner(artifact) as runner:
        runner.infer = lambda images: np.full((1, 4), np.nan, np.float32)  # type: ignore[method-assign]
        with pytest.raises(ArtifactError, match="predicted wrongly"):
            replay_golden(artifact, runner)


def test_an_artifact_without_golden_images_is_refused(
    artifact_copy: Path, rewrite_manifest
) -> None:
    (artifact_copy / "golden" / "golden.json").write_bytes(b"[]\n")
    rewrite_manifest(artifact_copy)
    with pytest.raises(ArtifactError, match="no golden images"):
        replay(artifact_copy)


def test_every_batch_size_is_run_once_the_largest_first(tiny_artifact: Path) -> None:
    artifact, sizes = open_artifact(tiny_artifact), []

    class Counting:
        max_batch_size = 4

        def infer(self, images):
            sizes.append(len(images))

    warm_up(artifact, Counting())
    assert sizes == [4, 3, 2, 1]
