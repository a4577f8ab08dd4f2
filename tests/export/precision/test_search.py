from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from export.precision.search import FileVerdict, Search, search_int8
from tests.export.toy_graph import images, write_toy_graph


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_graph(tmp_path_factory.mktemp("toy") / "model.onnx")


class Gate:
    """Passes a file once it has so many float layers; remembers the calls."""

    def __init__(self, needed: int) -> None:
        self.needed = needed
        self.float_layers: list[int] = []

    def __call__(self, path: Path) -> FileVerdict:
        assert path.name == "model.onnx"  # what an artifact calls it
        names = {tensor.name for tensor in onnx.load(path).graph.initializer}
        layers = sum(f"{layer}.weight" in names for layer in LAYERS)
        self.float_layers.append(layers)
        return FileVerdict(layers >= self.needed, {"snr_db": 10.0 + layers})


LAYERS = ("stem", "depthwise", "pointwise", "head")


def _search(
    source: Path, out: Path, needed: int, speedup_of: Callable[[Path], float] | None
) -> tuple[Search, Gate]:
    gate = Gate(needed)
    return search_int8(source, out, images(8), judge_file=gate, speedup_of=speedup_of), gate


def test_a_file_that_passes_at_once_is_taken(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "int8.onnx"
    found, gate = _search(source, out, 0, lambda _: 1.8)
    assert (found.status, gate.float_layers, found.harm) == ("passed", [0], ())
    assert found.chosen == found.attempts[0]
    assert found.chosen is not None
    assert (found.chosen.keep_float, found.chosen.speedup) == ((), 1.8)
    assert found.chosen.bytes == out.stat().st_size
    assert list(tmp_path.iterdir()) == [out]


def test_the_worst_go_back_to_float_until_it_passes(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "int8.onnx"
    found, gate = _search(source, out, 2, lambda _: 1.5)
    assert found.status == "passed"
    assert gate.float_layers == [0, 1, 2]
    worst = [node.name for node in found.harm]
    assert [attempt.keep_float for attempt in found.attempts] == [
        (),
        tuple(worst[:1]),
        tuple(worst[:2]),
    ]
    assert [attempt.passed for attempt in found.attempts] == [False, False, True]
    assert found.chosen == found.attempts[-1]
    names = {tensor.name for tensor in onnx.load(out).graph.initializer}
    assert {f"{name}.weight" for name in worst[:2]} <= names


def test_what_never_passes_leaves_no_file(source: Path, tmp_path: Path) -> None:
    found, gate = _search(source, tmp_path / "int8.onnx", 9, lambda _: 1.5)
    assert (found.status, found.chosen) == ("failed", None)
    assert gate.float_layers[0] == 0
    assert max(gate.float_layers) < len(LAYERS)  # all in float would be the fp32 file
    assert not list(tmp_path.iterdir())


def test_the_search_ends_where_the_benefit_is_gone(source: Path, tmp_path: Path) -> None:
    speeds = iter([1.6, 1.2, 1.01])
    found, gate = _search(source, tmp_path / "int8.onnx", 9, lambda _: next(speeds))
    assert (found.status, found.chosen) == ("slower", None)
    assert len(gate.float_layers) == 3
    assert [attempt.speedup for attempt in found.attempts] == [1.6, 1.2, 1.01]
    assert not list(tmp_path.iterdir())


def test_a_slow_file_is_not_improved_on(source: Path, tmp_path: Path) -> None:
    found, gate = _search(source, tmp_path / "int8.onnx", 9, lambda _: 0.7)
    assert (found.status, gate.float_layers, found.harm) == ("slower", [0], ())


def test_a_file_that_passes_but_is_slower_is_there_for_the_caller(
    source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "int8.onnx"
    found, _ = _search(source, out, 0, lambda _: 0.7)
    assert found.status == "slower"
    assert found.chosen == found.attempts[0]
    assert out.exists()


def test_without_a_clock_at_most_half_goes_back_to_float(source: Path, tmp_path: Path) -> None:
    found, _ = _search(source, tmp_path / "int8.onnx", 9, None)
    assert found.status == "failed"
    assert len(found.attempts[-1].keep_float) <= len(found.harm) // 2
    assert all(attempt.speedup is None for attempt in found.attempts)


def test_equal_answers_give_an_equal_search(source: Path, tmp_path: Path) -> None:
    found = [
        _search(source, tmp_path / name, 2, lambda _: 1.5)[0] for name in ("one.onnx", "two.onnx")
    ]
    assert found[0] == found[1]
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    value = json.loads(json.dumps(found[0].to_dict()))
    assert value["status"] == "passed"
    assert value["attempts"][1]["figures"]["snr_db"] >= 10
    assert value["chosen"]["keep_float"] == value["attempts"][2]["keep_float"]
