"""Fixtures that more than one folder of tests uses; nothing here needs torch."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from PIL import Image

from tests.serve.fake_tensorrt import FakeMachine
from train.engine.progress import log_to_console

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: one thread each
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Equal examples in every run: a test that fails, fails again. `make soak` draws new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("default" if os.environ.get("STILLROOM_SOAK") else "repeatable")

log_to_console()  # as a command does: tests read progress on standard error


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that train in a forked child come first.

    PyTorch refuses that once the parent has run a backward pass with a device beside the CPU
    registered, as an export to ONNX registers one.
    """
    items.sort(key=lambda item: item.get_closest_marker("forks") is None)


SIDE = 32
LABELS = ("daisy", "rose", "tulip", "weed")
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)

ArtifactBuilder = Callable[..., Path]
PictureMaker = Callable[..., bytes]


def _picture(seed: int, width: int = 60, height: int = 40, mode: str = "RGB") -> Image.Image:
    """A smooth picture with its own colours: JPEG keeps it, and the model tells seeds apart."""
    random = np.random.default_rng(seed)
    bands = {"RGB": 3, "RGBA": 4, "CMYK": 4, "L": 1}[mode]
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    base, dx, dy = random.uniform(0, 255, bands), *random.uniform(-90, 90, (2, bands))
    levels = base + x[..., None] * dx + y[..., None] * dy
    pixels = levels.clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if bands == 1 else pixels, mode)


def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _golden_files() -> dict[str, bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: rotate by 90 degrees
    return {
        "photo.jpg": _encode(_picture(1), "JPEG"),
        "grey.png": _encode(_picture(2, mode="L"), "PNG"),
        "cmyk.jpg": _encode(_picture(3, mode="CMYK"), "JPEG"),
        "rotated.jpg": _encode(_picture(4), "JPEG", exif=exif),
        "alpha.png": _encode(_picture(5, mode="RGBA"), "PNG"),
        "thin.png": _encode(_picture(6, width=50, height=1), "PNG"),
    }


def _model_bytes(seed: int, side: int, labels: int, scale: float = 1.0) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(seed)
    constants = {
        "scale": (1 / 255 / np.array(STD, np.float32)).reshape(1, 3, 1, 1),
        "shift": (-np.array(MEAN, np.float32) / np.array(STD, np.float32)).reshape(1, 3, 1, 1),
        "kernel": random.normal(0, 0.4, (8, 3, 3, 3)) * scale,
        "head": random.normal(0, 1.5, (8, labels)),
        "bias": random.normal(0, 0.1, labels),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["nchw", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["normal"]),
        helper.make_node("Conv", ["normal", "kernel"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["vector"]),
        helper.make_node("Gemm", ["vector", "head", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", side, side, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", labels])],
        [
            numpy_helper.from_array(np.asarray(value, np.float32), name)
            for name, value in constants.items()
        ],
    )
    opset = helper.make_opsetid("", 18)
    return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString())


def _logits_of(model: bytes, pixels: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"image": pixels})[0])


def write_tiny_artifact(
    root: Path, *, seed: int = 0, labels: tuple[str, ...] = LABELS, side: int = SIDE
) -> Path:
    import PIL

    from serve.contract.digest import canonical_json, sha256_of_bytes
    from serve.contract.manifest import write_manifest
    from serve.contract.preprocess import PreprocessSpec, preprocess

    spec = PreprocessSpec(size_px=side, crop_pct=1.0)
    model = _model_bytes(seed, side, len(labels))
    (root / "golden").mkdir(parents=True)
    (root / "model.onnx").write_bytes(model)
    golden, reference = [], []
    for name, data in _golden_files().items():
        (root / "golden" / name).write_bytes(data)
        pixels = preprocess(data, spec)
        logits = [float(value) for value in _logits_of(model, pixels[None])[0]]
        sha256 = sha256_of_bytes(pixels.tobytes())
        golden.append({"file": name, "pixels_sha256": sha256, "logits": logits})
        reference.append(",".join([sha256_of_bytes(data), *map(repr, logits)]))
    (root / "golden" / "golden.json").write_bytes(canonical_json(golden))
    header = ",".join(["sha256", *labels])
    (root / "reference.csv").write_text("\n".join([header, *reference]) + "\n")
    parity = {"verdict": "passed", "images": len(golden), "flips": 0, "max_logit_diff": 0.0}
    (root / "parity.json").write_bytes(canonical_json(parity))
    (root / "flips.csv").write_text("sha256,reference,candidate\n")
    write_manifest(
        root,
        {
            "kind": "artifact",
            "name": "tiny",
            "version": sha256_of_bytes(model)[:12],
            "labels": list(labels),
            "parents": {},
            "precision": "fp32",
            "opset": 18,
            "golden_atol": 1e-4,
            "input": {
                "name": "image",
                "dtype": "uint8",
                "layout": "NHWC",
                "shape": [None, side, side, 3],
            },
            "normalisation": {"mean": list(MEAN), "std": list(STD)},
            "preprocess": spec.to_dict(),
            "preprocess_digest": spec.digest,
            "parity": parity,
            "lineage": [{"stage": "dataset", "digest": "0" * 64}],
            "pillow": PIL.__version__,
        },
    )
    return root


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the cache of the person who runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLROOM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def build_artifact() -> ArtifactBuilder:
    """A function that writes a valid artifact folder: `build_artifact(root, seed=, labels=)`."""
    return write_tiny_artifact


@pytest.fixture(scope="session")
def tiny_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A valid artifact of four labels and 32 px, built without torch. Read only: copy to change."""
    return write_tiny_artifact(tmp_path_factory.mktemp("tiny") / "artifact")


@pytest.fixture
def artifact_copy(tiny_artifact: Path, tmp_path: Path) -> Path:
    """A copy of `tiny_artifact` that a test may damage."""
    return Path(shutil.copytree(tiny_artifact, tmp_path / "artifact"))


@pytest.fixture
def fake_machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    """TensorRT and CUDA that compute through ONNX Runtime: tests/serve/fake_tensorrt.py."""
    from serve.engines import cuda_memory, tensorrt_runner
    from serve.engines.library import EngineLibrary

    machine = FakeMachine()
    monkeypatch.setattr(cuda_memory, "_runtime", lambda: machine.cuda)
    monkeypatch.setattr(tensorrt_runner, "installed_engine_libraries", lambda: ["fake"])
    monkeypatch.setattr(tensorrt_runner, "find_engine_library", lambda: EngineLibrary(machine.trt))
    return machine


@pytest.fixture(scope="session")
def rewrite_manifest() -> Callable[..., None]:
    """A function that changes fields and signs the manifest anew: `rewrite_manifest(root, k=v)`."""

    def rewrite(root: Path, **changes: Any) -> None:
        from serve.contract.manifest import write_manifest

        manifest = json.loads((root / "manifest.json").read_bytes())
        kept = {k: v for k, v in manifest.items() if k not in ("digest", "files", "schema_version")}
        write_manifest(root, {**kept, **changes})

    return rewrite


@pytest.fixture(scope="session")
def make_model() -> Callable[..., bytes]:
    """A function that gives ONNX bytes: `make_model(seed, side, labels, scale)`."""
    return _model_bytes


@pytest.fixture(scope="session")
def make_picture() -> Callable[..., Image.Image]:
    """A function that draws a picture: `make_picture(seed, width=, height=, mode=)`."""
    return _picture


@pytest.fixture(scope="session")
def encode() -> PictureMaker:
    """A function that encodes a picture: `encode(image, "JPEG", quality=90)`."""
    return _encode


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    """A small valid image."""
    return _encode(_picture(1), "JPEG")


@pytest.fixture(scope="session")
def exact_int8() -> None:
    """Skip where this processor adds products of 8 bits in 16: the largest of them saturate."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    deep = 64
    a = onnx.helper.make_tensor_value_info("a", onnx.TensorProto.UINT8, [1, deep])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT32, [1, 16])
    b = onnx.numpy_helper.from_array(np.full((deep, 16), 127, np.int8), "b")
    node = onnx.helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "sums", [a], [y], [b]),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"a": np.full((1, deep), 255, np.uint8)})
    if found[0, 0] != deep * 255 * 127:
        pytest.skip("this processor's int8 sums saturate (it has no VNNI)")
