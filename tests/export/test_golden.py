from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from export.golden import write_golden, write_reference
from serve.contract.digest import sha256_of_bytes
from serve.contract.preprocess import preprocess
from tests.export.conftest import Exported
from train.evaluation import Predictions
from train.loader.views import pixels_of


@pytest.fixture(scope="module")
def pixels(exported: Exported) -> np.ndarray:
    photos = exported.reference.photos
    return pixels_of(exported.dataset.root, photos, exported.card.preprocess)


def _write(
    exported: Exported, pixels: np.ndarray, folder: Path, count: int = 9, min_margin: float = 0.0
) -> list[dict[str, object]]:
    write_golden(
        folder,
        exported.dataset.root,
        exported.reference,
        pixels,
        count=count,
        min_margin=min_margin,
    )
    entries: list[dict[str, object]] = json.loads((folder / "golden.json").read_bytes())
    return entries


def test_golden_images_are_spread_over_the_classes(
    exported: Exported, pixels: np.ndarray, tmp_path: Path
) -> None:
    entries = _write(exported, pixels, tmp_path / "golden")
    assert Counter(str(entry["label"]) for entry in entries) == dict.fromkeys(
        ("aster", "bell", "clover"), 3
    )
    assert len({entry["file"] for entry in entries}) == 9


def test_golden_files_are_unchanged_and_their_pixels_and_logits_are_those_of_the_reference(
    exported: Exported, pixels: np.ndarray, tmp_path: Path
) -> None:
    by_digest = {photo.sha256: i for i, photo in enumerate(exported.reference.photos)}
    for entry in _write(exported, pixels, tmp_path / "golden"):
        data = (tmp_path / "golden" / str(entry["file"])).read_bytes()
        i = by_digest[sha256_of_bytes(data)]
        served = preprocess(data, exported.card.preprocess)
        assert entry["pixels_sha256"] == sha256_of_bytes(served.tobytes())
        logits = np.asarray(entry["logits"], np.float32)
        assert (logits == exported.reference.logits[i]).all()


def test_the_choice_does_not_depend_on_the_order(
    exported: Exported, pixels: np.ndarray, tmp_path: Path
) -> None:
    reference = exported.reference
    reversed_ = Predictions(reference.photos[::-1], reference.labels, reference.logits[::-1])
    one = _write(exported, pixels, tmp_path / "one")
    write_golden(
        tmp_path / "two",
        exported.dataset.root,
        reversed_,
        pixels[::-1],
        count=9,
        min_margin=0.0,
    )
    assert json.loads((tmp_path / "two" / "golden.json").read_bytes()) == one


def test_images_that_nearly_tie_are_left_out(
    exported: Exported, pixels: np.ndarray, tmp_path: Path
) -> None:
    ordered = np.sort(exported.reference.logits, axis=1)
    margins = ordered[:, -1] - ordered[:, -2]
    limit = float(np.median(margins))
    entries = _write(exported, pixels, tmp_path / "golden", count=1000, min_margin=limit)
    assert len(entries) == (margins > limit).sum()
    for entry in entries:
        best, second = sorted(map(float, entry["logits"]), reverse=True)[:2]  # type: ignore[call-overload]
        assert best - second > limit


def test_the_reference_holds_every_image_by_its_digest(exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "reference.csv"
    write_reference(path, exported.reference)
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["sha256", "logit:aster", "logit:bell", "logit:clover"]
    expected = {
        photo.sha256: row
        for photo, row in zip(exported.reference.photos, exported.reference.logits, strict=True)
    }
    assert [row[0] for row in rows] == sorted(expected)
    for sha256, *values in rows:
        assert (np.array(values, np.float32) == expected[sha256]).all()
