from __future__ import annotations

import io
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from PIL import Image

import stillroom
from serve.contract.errors import ArtifactError, UnsupportedImage
from stillroom.commands.service.predict import predict_images


@pytest.fixture(scope="module")
def model(unpacked_old_run):
    with stillroom.load(str(unpacked_old_run / "run")) as model:
        yield model


@pytest.fixture(scope="module")
def images(unpacked_old_run):
    return sorted((unpacked_old_run / "photos").rglob("*.jpg"))


def test_path_text_bytes_image_and_array_give_one_prediction(model, images):
    path = images[0]
    image = Image.open(path)
    found = model.predict(path)
    assert found.image == str(path)
    for other in (str(path), path.read_bytes(), image, np.asarray(image.convert("RGB"))):
        same = model.predict(other)
        assert (same.labels, same.probabilities) == (found.labels, found.probabilities)
    assert model.predict(image).image == ""


def test_the_best_label_is_first_and_top_k_keeps_the_best(model, images):
    found = model.predict(images[0])
    assert set(found.labels) == set(model.labels) == {"0", "1", "2"}
    assert found.probabilities == tuple(sorted(found.probabilities, reverse=True))
    assert sum(found.probabilities) == pytest.approx(1)
    assert (found.label, found.probability) == (found.labels[0], found.probabilities[0])
    two = model.predict(images[0], top_k=2)
    assert two.labels == found.labels[:2]
    with pytest.raises(ValueError, match="top_k = 0: expected 1 or more"):
        model.predict(images[0], top_k=0)
    with pytest.raises(FrozenInstanceError):
        found.label = "else"


def test_a_batch_of_any_length_is_as_one_by_one(model, images):
    found = model.predict_batch(iter(images[:11]))
    alone = [model.predict(image) for image in images[:11]]
    assert [one.label for one in found] == [one.label for one in alone]
    assert np.allclose(
        [one.probabilities for one in found], [one.probabilities for one in alone], atol=1e-5
    )
    assert model.predict_batch([]) == []


def test_it_predicts_as_the_command_does(model, images, unpacked_old_run, capsys):
    predict_images(str(unpacked_old_run / "run"), images[:1], 3)
    said = capsys.readouterr().out
    found = model.predict(images[0])
    for label, probability in zip(found.labels, found.probabilities, strict=True):
        assert f"{label} {probability:.3f}" in said


def test_an_image_turned_by_exif_is_upright(model):
    upright = Image.effect_noise((60, 40), 90).convert("RGB")
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right to see it upright
    file = io.BytesIO()
    turned.save(file, "PNG", exif=exif)
    assert (
        model.predict(Image.open(file)).probabilities
        == model.predict(file.getvalue()).probabilities
        == model.predict(upright).probabilities
    )


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_an_array_of_another_kind_is_refused(model, array):
    with pytest.raises(ValueError, match=r"expected uint8 \(H, W, 3\)"):
        model.predict(array)


def test_what_is_not_an_image_is_refused(model, tmp_path):
    with pytest.raises(UnsupportedImage):
        model.predict(b"not an image")
    with pytest.raises(FileNotFoundError):
        model.predict(tmp_path / "none.jpg")


def test_no_artifact(tmp_path):
    with pytest.raises(ArtifactError, match="No such artifact folder"):
        stillroom.load(tmp_path / "none")


def test_what_it_says_of_itself(model):
    assert repr(model).startswith("<Model ")
    assert model.backend in repr(model)
