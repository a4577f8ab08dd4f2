from __future__ import annotations

import json
from pathlib import Path

import pytest

import export.precision.speedup
from export.precision.fp16 import write_fp16
from export.precision.speedup import measure_benefit, measure_speedup, verdict_of
from serve.contract.errors import MeasurementError
from tests.export.toy_graph import write_toy_graph


@pytest.mark.parametrize(
    ("speedup", "verdict"),
    [
        (0.5, "slower here"),
        (0.999, "slower here"),
        (1.0, "no faster"),
        (1.049, "no faster"),
        (1.05, "worth it"),
        (3.0, "worth it"),
    ],
)
def test_the_verdict_in_words(speedup: float, verdict: str) -> None:
    assert verdict_of(speedup) == verdict


def test_turns_are_compared_pairwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine slows down half-way: each file's median says nothing, the pairs do."""
    baseline = [[2.0, 2.0, 9.0]] * 5 + [[8.0, 8.0, 8.0]] * 6
    faster = [[1.0, 1.0, 7.0]] * 5 + [[4.0, 4.0, 4.0]] * 6
    slower = [[4.0, 4.0, 4.0]] * 5 + [[16.0, 16.0, 16.0]] * 6
    calls = []

    def times(paths: list[Path], *, device: str, batch: int = 1) -> list[list[list[float]]]:
        calls.append((len(paths), device, batch))
        return [baseline, faster, slower]

    monkeypatch.setattr(export.precision.speedup, "times_elsewhere", times)
    first, second = measure_benefit(Path("a"), [Path("b"), Path("c")], device="cuda", batch=4)
    assert calls == [(3, "cuda", 1), (3, "cuda", 4)]
    assert (first.verdict, first.latency.speedup, first.device) == ("worth it", 2.0, "cuda")
    assert (second.verdict, second.latency.speedup) == ("slower here", 0.5)
    assert (first.latency.speedup_q1, first.latency.speedup_q3) == (2.0, 2.0)
    assert (first.latency.median_ms, first.latency.baseline_ms) == (4.0, 8.0)
    assert (first.latency.turns, first.latency.batch) == (11, 1)
    assert (first.throughput.batch, first.throughput.images_per_s) == (4, 1000.0)
    assert json.loads(json.dumps(first.to_dict()))["latency"]["speedup"] == 2.0


def test_two_real_files_are_timed(tmp_path: Path) -> None:
    source = write_toy_graph(tmp_path / "model.onnx")
    write_fp16(source, tmp_path / "fp16.onnx")
    (found,) = measure_benefit(source, [tmp_path / "fp16.onnx"])
    for timing in (found.latency, found.throughput):
        assert 0 < timing.median_ms < 1000
        assert timing.speedup_q1 <= timing.speedup <= timing.speedup_q3
        assert timing.turns == 40
    assert found.verdict == verdict_of(found.latency.speedup)


def test_a_file_that_cannot_be_timed_is_no_benefit(tmp_path: Path) -> None:
    source = write_toy_graph(tmp_path / "model.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(MeasurementError, match="ended with code 1"):
        measure_benefit(source, [tmp_path / "broken.onnx"])


def test_one_speedup_alone(tmp_path: Path) -> None:
    source = write_toy_graph(tmp_path / "model.onnx")
    assert 0.2 < measure_speedup(source, source) < 5
