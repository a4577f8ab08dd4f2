from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import export.model_latency
from export.latency import measure, measure_elsewhere
from export.model_latency import compare_latency, gpu_is_here
from serve.contract.errors import MeasurementError
from tests.export.conftest import Exported

SOURCE = Path(__file__).parents[2]


def test_a_tiny_graph_is_timed(exported: Exported) -> None:
    results = measure([exported.graph, exported.graph], rounds=5)
    assert len(results) == 2
    for result in results:
        assert 0 < result["q1_ms"] <= result["median_ms"] <= result["q3_ms"] < 1000
        assert result["n"] == 15


def test_measuring_needs_no_torch(exported: Exported) -> None:
    code = (
        "import sys; from pathlib import Path; from export.latency import measure; "
        f"measure([Path({str(exported.graph)!r})], rounds=1); "
        "print([name for name in ('torch', 'timm', 'train') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=SOURCE, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_models_of_a_run_are_compared_in_one_go(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(model: object, card: object, path: Path, *, opset: int) -> None:
        shutil.copy(exported.graph, path)

    monkeypatch.setattr(export.model_latency, "write_graph", write)
    models = {"teacher": exported.folder, "student": exported.folder, "file": exported.graph}
    metrics = compare_latency(models, opset=20, out=tmp_path)
    latency = json.loads((tmp_path / "latency.json").read_bytes())
    assert latency.keys() == models.keys()
    assert metrics == {f"{name}_ms": latency[name]["median_ms"] for name in latency}
    assert all(result["n"] == 120 for result in latency.values())
    assert list(tmp_path.iterdir()) == [tmp_path / "latency.json"]


def test_a_measurement_that_fails_says_how(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(MeasurementError, match=r"ended with code 1: .*INVALID_PROTOBUF"):
        measure_elsewhere([tmp_path / "broken.onnx"])


def test_a_device_that_is_not_there_is_no_reason_to_measure_another(exported: Exported) -> None:
    if gpu_is_here():
        pytest.skip("there is a GPU")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the runtime warns, and would take the CPU
        with pytest.raises(RuntimeError, match="CUDAExecutionProvider cannot be used here"):
            measure([exported.graph], rounds=1, device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not gpu_is_here(), reason="ONNX Runtime has no GPU here")
def test_a_tiny_graph_is_timed_on_the_gpu(exported: Exported) -> None:
    (result,) = measure([exported.graph], rounds=5, device="cuda")
    assert 0 < result["q1_ms"] <= result["median_ms"] <= result["q3_ms"] < 1000
