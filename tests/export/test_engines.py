"""Every exported model parses and builds under the real TensorRT-RTX, which needs no GPU.

That a plan gives the right predictions needs one: tests/serve/runners/test_base.py, marked
`tensorrt`.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import timm
import torch

from export.onnx_graph import write_graph
from serve.contract.errors import EngineError
from serve.engines.build import BuiltEngine, Profile, build_engine
from serve.engines.library import EngineLibrary, find_engine_library
from tests.export.conftest import Exported
from tests.train.toy import SIZE_PX, card_of
from train.models.classifier import build_model

pytestmark = pytest.mark.e2e

PROFILE = Profile.up_to(8)
QUICK = ("test_vit",)
OTHERS = [name for name in timm.list_models("test_*") if name not in QUICK]


@pytest.fixture(scope="module")
def library() -> EngineLibrary:
    try:
        return find_engine_library(ahead_of_time=True)
    except EngineError as error:
        pytest.skip(str(error))


def _build(library: EngineLibrary, path: Path) -> BuiltEngine:
    built = build_engine(library, path.read_bytes(), PROFILE, gpu="sm86")
    assert built.plan
    facts = {t.name: (t.dtype, t.shape) for t in (*built.inputs, *built.outputs)}
    assert facts == {
        "image": ("UINT8", (-1, SIZE_PX, SIZE_PX, 3)),
        "logits": ("FLOAT", (-1, 3)),
    }
    return built


def _export(exported: Exported, path: Path, arch: str, **head: object) -> Path:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = build_model(arch, 3, size_px=SIZE_PX, **head).eval()  # type: ignore[arg-type]
        write_graph(model, card_of(exported.dataset, model), path, opset=20)
    return path


@pytest.mark.parametrize("gpu", ["sm80", "sm86", "sm89", "sm120", "sm121"])
def test_the_exported_model_builds_for_every_gpu(
    library: EngineLibrary, exported: Exported, gpu: str
) -> None:
    onnx = exported.graph.read_bytes()
    assert build_engine(library, onnx, PROFILE, gpu=gpu).plan


def test_turing_takes_no_fp32(library: EngineLibrary, exported: Exported) -> None:
    with pytest.raises(EngineError, match=r"FP32 GEMM is not supported.*--precision fp16"):
        build_engine(library, exported.graph.read_bytes(), PROFILE, gpu="sm75")


@pytest.mark.parametrize("arch", QUICK)
def test_other_families_build(
    library: EngineLibrary, exported: Exported, tmp_path: Path, arch: str
) -> None:
    _build(library, _export(exported, tmp_path / "model.onnx", arch))


def test_a_bilinear_head_builds(library: EngineLibrary, exported: Exported, tmp_path: Path) -> None:
    head = {"head": "bilinear", "bilinear_dim": 96}
    _build(library, _export(exported, tmp_path / "model.onnx", "test_resnet", **head))


@pytest.mark.slow
@pytest.mark.parametrize("arch", OTHERS)
def test_the_remaining_small_families_build(
    library: EngineLibrary, exported: Exported, tmp_path: Path, arch: str
) -> None:
    _build(library, _export(exported, tmp_path / "model.onnx", arch))
