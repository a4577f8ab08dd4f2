from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from export.bilinear_graph import GatherSketch, MatrixBilinear, MatrixFourier, without_fft
from export.onnx_graph import check_structure, write_graph
from tests.export.conftest import Exported
from tests.train.toy import PATIENT, SIZE_PX, card_of, lively, toy_model
from train.extras.bilinear import BilinearClassifier, CompactBilinear
from train.models.classifier import build_model


@PATIENT
@given(st.integers(1, 200), st.integers(0, 2**32))
def test_the_matrices_are_the_fourier_transform_at_any_length(dim: int, seed: int) -> None:
    fourier = MatrixFourier(dim)
    values = torch.randn(2, 3, dim, generator=torch.Generator().manual_seed(seed))
    real, imag = fourier.transform(values)
    rows, columns = fourier.shape
    expected = torch.fft.fft(values.double())
    for k in range(rows // 2 + 1):
        for part, exact in ((real, expected.real), (imag, expected.imag)):
            wanted = exact[..., k::rows].float()
            assert part[..., k, :].shape[-1] == columns
            torch.testing.assert_close(part[..., k, :], wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fourier.inverse(real, imag), values, rtol=1e-4, atol=1e-5)


@PATIENT
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32))
def test_gathering_gives_the_sketch_that_scattering_gives(
    channels: int, dim: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    hashes = torch.randint(0, dim, (channels,), generator=random)
    signs = torch.randint(0, 2, (channels,), generator=random).float() * 2 - 1
    positions = torch.randn(2, 4, channels, generator=random)
    expected = torch.zeros(2, 4, dim).index_add(2, hashes, positions * signs)
    sketch = GatherSketch(hashes, signs, dim)(positions)
    torch.testing.assert_close(sketch, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("channels", "dim"), [(320, 1024), (512, 1000), (1280, 4096), (64, 127)])
def test_the_features_are_those_of_the_fast_transform(channels: int, dim: int) -> None:
    pooling = CompactBilinear(channels, dim)
    maps = torch.randn(3, channels, 4, 5, generator=torch.Generator().manual_seed(dim)).relu()
    expected = pooling(maps)
    features = MatrixBilinear(pooling)(maps)
    noise = (features - expected).square().sum()
    assert 10 * torch.log10(expected.square().sum() / noise) > 80


def test_other_hashes_give_other_features() -> None:
    maps = torch.randn(1, 64, 3, 3, generator=torch.Generator().manual_seed(0))
    one, other = (MatrixBilinear(CompactBilinear(64, 128, seed=seed))(maps) for seed in (1, 2))
    assert (one - other).norm() > 0.5


def test_a_linear_head_stays_as_it_is() -> None:
    backbone = toy_model().backbone
    modules = list(backbone.modules())
    assert list(without_fft(backbone).modules()) == modules


@pytest.mark.ci
def test_the_graph_answers_as_the_model_without_what_tensorrt_refuses(
    exported: Exported, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = lively(build_model("test_resnet", 3, size_px=SIZE_PX, head="bilinear", bilinear_dim=96))
    card, path = card_of(exported.dataset, model), tmp_path / "model.onnx"
    write_graph(model, card, path, opset=20)
    check_structure(path, card, opset=20)
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert not {name for name in operators if name == "DFT" or name.startswith("Scatter")}
    assert isinstance(model.backbone, BilinearClassifier)
    assert isinstance(model.backbone.global_pool, CompactBilinear)  # a copy was changed
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        images = torch.randint(0, 256, (batch, SIZE_PX, SIZE_PX, 3), dtype=torch.uint8)
        (answer,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        with torch.no_grad():
            expected = model(images).numpy()
        noise = np.square(answer - expected).sum()
        assert 10 * np.log10(np.square(expected).sum() / max(noise, 1e-30)) > 80
