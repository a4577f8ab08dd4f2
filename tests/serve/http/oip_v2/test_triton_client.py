"""Triton's own HTTP client, unchanged, against the real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from serve import client
from serve.process.launch import running_server

triton = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
from tritonclient.utils import InferenceServerException  # noqa: E402

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def url(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("triton")
    with running_server(tiny_artifact, log_path=folder / "serve.log") as base:
        yield base


@pytest.fixture(scope="module")
def asked(url: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(url.removeprefix("http://")) as one:
        yield one


@pytest.fixture(scope="module")
def name(url: str) -> str:
    return client.describe_model(url)["name"]


def test_what_it_asks_before_it_infers(asked, name: str) -> None:
    assert asked.is_server_live()
    assert asked.is_server_ready()
    assert "binary_tensor_data" in asked.get_server_metadata()["extensions"]
    assert asked.is_model_ready(name)
    inputs = {one["name"] for one in asked.get_model_metadata(name)["inputs"]}
    assert inputs == {"image", "image_bytes"}


@pytest.mark.parametrize("binary_answer", [True, False])
def test_files_are_answered_as_over_our_own_path(
    asked, name: str, url: str, make_picture, encode, binary_answer: bool
) -> None:
    blobs = [encode(make_picture(seed), "JPEG") for seed in range(5)]
    given = triton.InferInput("image_bytes", [5], "BYTES")
    given.set_data_from_numpy(np.array(blobs, dtype=object))
    wanted = triton.InferRequestedOutput("logits", binary_data=binary_answer)
    answer = asked.infer(name, [given], outputs=[wanted], request_id="five")
    assert answer.get_response()["id"] == "five"
    labels = asked.get_model_metadata(name)["parameters"]["labels"]
    best = [labels[index] for index in answer.as_numpy("logits").argmax(axis=1)]
    assert best == [client.classify(url, blob)["predictions"][0]["label"] for blob in blobs]


def test_tensors_are_equal_as_json_and_as_bytes(asked, name: str) -> None:
    [shape] = [
        one["shape"] for one in asked.get_model_metadata(name)["inputs"] if one["name"] == "image"
    ]
    pixels = np.random.default_rng(0).integers(0, 256, (3, *shape[1:]), dtype=np.uint8)
    answers = []
    for binary in (True, False):
        given = triton.InferInput("image", list(pixels.shape), "UINT8")
        given.set_data_from_numpy(pixels, binary_data=binary)
        answers.append(asked.infer(name, [given]).as_numpy("logits"))
    np.testing.assert_array_equal(*answers)


def test_a_wrong_name_is_said_in_the_clients_own_exception(asked, name: str) -> None:
    given = triton.InferInput("image_bytes", [1], "BYTES")
    given.set_data_from_numpy(np.array([b"no image"], dtype=object))
    with pytest.raises(InferenceServerException, match="no such model") as caught:
        asked.infer("another", [given])
    assert caught.value.status() == "404"
    with pytest.raises(InferenceServerException, match="JPEG, PNG or WebP") as caught:
        asked.infer(name, [given])
    assert caught.value.status() == "415"
