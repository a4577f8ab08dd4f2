from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from export.mobile import check_ort, download_size, write_ort
from export.precision.quantize import write_int8
from serve.contract.errors import GateError
from tests.export.toy_graph import images, write_toy_graph


def test_sizes_are_those_of_the_file_and_of_gzip(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"weights " * 400_000)
    size = download_size(path)
    assert size.bytes == 3_200_000
    assert size.gzip_bytes == pytest.approx(len(gzip.compress(path.read_bytes(), 6)), abs=40)
    assert size.to_dict() == {"bytes": size.bytes, "gzip_bytes": size.gzip_bytes}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_mobile_form_answers_as_the_file_it_was_made_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], precision: str
) -> None:
    source, path = write_toy_graph(tmp_path / "fp32.onnx"), tmp_path / "model.ort"
    if precision == "int8":
        write_int8(source, tmp_path / "int8.onnx", images(16))
    write_ort(tmp_path / f"{precision}.onnx", path)
    assert path.read_bytes()[4:8] == b"ORTM"
    assert str(tmp_path).encode() not in path.read_bytes()
    assert check_ort(tmp_path / f"{precision}.onnx", path, images(16, seed=1)) < 1e-4
    assert capsys.readouterr() == ("", "")


def test_another_models_mobile_form_is_found(tmp_path: Path) -> None:
    source = write_toy_graph(tmp_path / "one.onnx")
    write_ort(write_toy_graph(tmp_path / "two.onnx", seed=1), tmp_path / "two.ort")
    with pytest.raises(GateError, match=r"ORT format: logits differ by .* from those of one.onnx"):
        check_ort(source, tmp_path / "two.ort", images(4))


def test_the_format_goes_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model.bin must end in .ort"):
        write_ort(write_toy_graph(tmp_path / "one.onnx"), tmp_path / "model.bin")
