from __future__ import annotations

from dataclasses import fields, replace

import pytest

from serve.engines.key import EngineKey

KEY = EngineKey("a" * 64, "10.16.0", "NVIDIA H200", "9.0", "fp16", 1, 4, 8)


def test_the_file_name_is_pinned() -> None:
    assert KEY.file_name == "fp16-15232ba50aa64919.plan"


def test_any_other_field_is_another_file() -> None:
    others = [
        replace(KEY, onnx_sha256="b" * 64),
        replace(KEY, tensorrt_version="10.16.1"),
        replace(KEY, gpu_name="NVIDIA H100"),
        replace(KEY, compute_capability="9.1"),
        replace(KEY, precision="fp32"),
        replace(KEY, min_batch=2),
        replace(KEY, opt_batch=8),
        replace(KEY, max_batch=16),
    ]
    assert len(others) == len(fields(EngineKey))
    assert len({KEY.file_name, *(other.file_name for other in others)}) == len(others) + 1


@pytest.mark.parametrize("profile", [(0, 1, 1), (2, 1, 4), (1, 5, 4)])
def test_a_profile_must_be_ordered(profile: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="1 <= min <= opt <= max"):
        EngineKey("a" * 64, "1", "gpu", "9.0", "fp16", *profile)


def test_the_model_must_be_named_by_its_digest() -> None:
    with pytest.raises(ValueError, match="64 hex digits"):
        replace(KEY, onnx_sha256="model.onnx")
