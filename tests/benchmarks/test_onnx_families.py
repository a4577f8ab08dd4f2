from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import onnx_families
from benchmarks.onnx_families import (
    FAMILIES,
    export_family,
    generated_pixels,
    pixels_for,
    random_model,
    table_of,
)
from export.parity.tolerances import LIMITS
from serve.contract.errors import StillroomError

pytestmark = pytest.mark.e2e

NOT_EXPORTED: dict[str, str] = {}  # architecture -> what its error says


def test_generated_pictures_are_repeatable_and_smooth() -> None:
    pixels = generated_pixels(4, 40)
    assert (pixels.shape, pixels.dtype) == ((4, 40, 40, 3), np.uint8)
    np.testing.assert_array_equal(pixels, generated_pixels(4, 40))
    steps = np.abs(np.diff(pixels.astype(float), axis=1)).mean()
    assert 1 < steps < 15  # of noise it would be 85
    assert pixels.std((1, 2, 3)).min() > 20


def test_random_models_answer_differently_from_image_to_image() -> None:
    pixels = pixels_for(None, 32)[:24]
    model = random_model("test_efficientnet", pixels)
    with torch.inference_mode():
        logits = model(torch.from_numpy(pixels))
        again = random_model("test_efficientnet", pixels)(torch.from_numpy(pixels))
    assert torch.equal(logits, again)
    assert float(logits.std(0).mean()) > 1e-3


def test_one_family_from_weights_to_verdict(tmp_path: Path) -> None:
    result = export_family("test_efficientnet", pixels_for(None, 32), tmp_path)
    assert result.status == "passed", result.why
    assert result.nodes > 20
    assert result.size_bytes == (tmp_path / "test_efficientnet.onnx").stat().st_size
    assert result.snr_db > 100
    assert f"| test_efficientnet | 32 | {result.seconds:.1f} | {result.nodes} |" in table_of(
        [result]
    )


def test_what_cannot_be_exported_is_a_row_with_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise StillroomError("torch cannot export it (ConversionError: because).")

    monkeypatch.setattr(onnx_families, "write_graph", refuse)
    result = export_family("test_efficientnet", pixels_for(None, 32), tmp_path)
    assert result.status == "not exported"
    assert table_of([result]).endswith(
        "| not exported: torch cannot export it (ConversionError: because). |"
    )


def test_there_are_twenty_families_and_more() -> None:
    assert len(FAMILIES.keys() - NOT_EXPORTED.keys()) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("arch", FAMILIES)
def test_each_family_answers_as_the_eager_model(arch: str, tmp_path: Path) -> None:
    result = export_family(arch, pixels_for(None, FAMILIES[arch]), tmp_path)
    if arch in NOT_EXPORTED:
        assert result.status == "not exported"
        assert NOT_EXPORTED[arch] in result.why
        return
    assert result.status == "passed", result.why
    assert result.snr_db >= LIMITS["fp32"].min_snr_db
