"""On the fonts that matplotlib brings along."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from benchmarks import typefaces

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@pytest.fixture(scope="module")
def faces() -> dict[str, Path]:
    return typefaces.find_faces([FONTS])


def write(out: Path, faces: dict[str, Path], seed: int) -> dict[str, bytes]:
    typefaces.write_dataset(out, faces, {"train": 3, "test": 2}, seed)
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.jpg")}


def test_one_upright_text_face_a_family(faces):
    assert {"DejaVu Sans", "DejaVu Serif", "DejaVu Sans Mono"} <= set(faces)
    assert not any("Bold" in path.name or "Oblique" in path.name for path in faces.values())


def test_a_file_that_is_no_font_is_passed_over(tmp_path):
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    (tmp_path / "note.txt").write_text("no font")
    assert typefaces.find_faces([tmp_path]) == {}


def test_equal_seeds_give_equal_pictures(faces, tmp_path):
    first = write(tmp_path / "one", faces, 0)
    assert first == write(tmp_path / "two", faces, 0)
    assert first != write(tmp_path / "three", faces, 1)
    assert len(first) == 5 * len(faces)
    assert len(set(first.values())) == len(first)
    with Image.open(tmp_path / "one" / next(iter(first))) as image:
        assert image.size == (typefaces.SIZE_PX, typefaces.SIZE_PX)
        assert np.asarray(image).std() > 5  # there is ink on the paper


def test_no_word_of_the_test_split_is_trained_on(faces, tmp_path, monkeypatch):
    drawn: dict[str, set[str]] = {}

    def remember(path, rng, syllables):
        drawn.setdefault("+".join(syllables), set()).update(syllables)
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr(typefaces, "draw_word", remember)
    write(tmp_path, faces, 0)
    train, test = drawn.values()
    assert not train & test
    assert train | test == set(typefaces.SYLLABLES.split())
