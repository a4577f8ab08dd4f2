"""Two checkouts that train: what is read of a run, and one real command of this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.against.checkout import this_checkout
from benchmarks.against.training import FIGURES, figures_of, measure_training, same_weights
from benchmarks.timm_script import Recipe

LINE = '{{"epoch": {0}, "images_per_s": {1}, "peak_rss_mib": {2}, "a_later_key": 0}}\n'


def test_the_first_epoch_warms_up() -> None:
    text = LINE.format(1, 5.0, 300) + LINE.format(2, 40.0, 310) + LINE.format(3, 42.0, 305)
    assert figures_of(text) == {"images_per_s": 41.0, "peak_mib": 310}


def test_equal_weights_are_told_from_others() -> None:
    assert "equal, byte for byte" in same_weights({"ours": "a", "theirs": "a"})
    assert "NOT equal" in same_weights({"ours": "a", "theirs": "b"})


@pytest.mark.ci
@pytest.mark.e2e
def test_one_training_of_ours(tmp_path: Path, encode, make_picture) -> None:
    for label in ("dark", "light"):
        folder = tmp_path / "images" / label
        folder.mkdir(parents=True)
        for seed in range(20):
            picture = make_picture(seed + 100 * (label == "light"))
            (folder / f"{seed}.jpg").write_bytes(encode(picture, "JPEG"))
    recipe = Recipe(arch="mobilenetv3_small_050", size_px=32, epochs=2, batch_size=4, workers=0)
    found = measure_training(this_checkout(), recipe, tmp_path / "images", tmp_path / "run")
    assert set(found) == {figure.key for figure in FIGURES}
    assert all(value > 0 for value in found.values())
