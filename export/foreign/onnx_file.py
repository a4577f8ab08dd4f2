"""Any ONNX image classifier, whoever made it: its layout is read from the file's own input.

Fits what `export.parity.batching` asks of a runner, so that a foreign file is judged by the same
code, in the same mixed batches and with the same session options as an artifact. No torch here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from export.foreign.preprocess_choice import Triple
from serve.contract.errors import UsageError
from serve.runners.onnxruntime_runner import installed_onnxruntime, session_options

__all__ = ["InputLayout", "OnnxClassifier", "ends_in_softmax", "layout_of"]

DTYPES: dict[str, np.dtype[Any]] = {
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
}
LARGEST_BATCH = 16
UNKNOWN_OPSET = re.compile(r"Opset (\d+) is under development")
PROVIDER = "CPUExecutionProvider"


@dataclass(frozen=True)
class InputLayout:
    """What a file says of its input.

    Args:
        dtype: uint8 takes pixels as they are; floats are normalised first.
        order: of the dimensions.
        size_px: side of the square; None where the file leaves it open.
        batch: number of images that it always takes; None where any.
    """

    dtype: np.dtype[Any]
    order: Literal["NHWC", "NCHW"]
    size_px: int | None
    batch: int | None


def layout_of(shape: list[Any], dtype: str, name: str) -> InputLayout:
    """Read an input's shape, in which dynamic dimensions are names or None.

    Raises:
        UsageError: no batch of RGB squares of a known type.
    """
    sides = [dim if isinstance(dim, int) else None for dim in shape]
    if dtype not in DTYPES or len(sides) != 4:
        raise _unusual(name, dtype, shape)
    if sides[1] == 3 and sides[3] != 3:
        order: Literal["NHWC", "NCHW"] = "NCHW"
        height, width = sides[2:]
    elif sides[3] == 3 and sides[1] != 3:
        order, (height, width) = "NHWC", sides[1:3]
    else:
        raise _unusual(name, dtype, shape)
    if None not in (height, width) and height != width:
        raise _unusual(name, dtype, shape)
    return InputLayout(DTYPES[dtype], order, height or width, sides[0])


class OnnxClassifier:
    """An ONNX file that answers pixels with raw scores; `infer` as that of a `Runner`.

    Args:
        path: of the file.
        mean: of RGB in [0, 1], for files that take floats: (pixel / 255 - mean) / std.
        std: likewise.
        threads: CPU threads.

    Raises:
        UsageError: no such file, no classifier that ONNX Runtime can load, or a float input without
            mean and std.
    """

    backend = "onnxruntime-cpu"
    reason = "files are compared on the CPU"

    def __init__(
        self, path: Path, *, mean: Triple | None = None, std: Triple | None = None, threads: int = 1
    ) -> None:
        self.path = path
        self._version = installed_onnxruntime()
        self._session = _open_session(path, threads)
        self._threads = threads
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise UsageError(
                f"{path} has {len(inputs)} inputs; a classifier has one.", "Export it with one."
            )
        self._input = inputs[0].name
        self.layout = layout_of(inputs[0].shape, inputs[0].type, str(path))
        if self.layout.dtype.kind == "f" and (mean is None or std is None):
            raise UsageError(
                f"{path} takes {self.layout.dtype} and does not say how they are normalised.",
                "Say it with --mean and --std, of RGB in [0, 1]: --mean 0.485,0.456,0.406 "
                "--std 0.229,0.224,0.225",
            )
        self._mean, self._std = (np.array(v or (0.0,) * 3, np.float32) for v in (mean, std))
        self._output = _output_of(self._session, path)
        self.max_batch_size = self.layout.batch or LARGEST_BATCH

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names that our own exports carry; empty in files of others."""
        text = self._session.get_modelmeta().custom_metadata_map.get("labels", "")
        return tuple(text.split("\n")) if text else ()

    def infer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores (n, K) float32 of (n, size_px, size_px, 3) uint8, n at most `max_batch_size`.

        Raises:
            UsageError: the file refuses its own input, or gives no row for each image.
        """
        count = len(images)
        if self.layout.batch is not None:  # a fixed batch is filled up with its last image
            images = np.concatenate([images, *[images[-1:]] * (self.layout.batch - count)])
        try:
            scores = self._session.run([self._output], {self._input: self._prepared(images)})[0]
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise UsageError(
                f"{self.path} fails on a batch of {len(images)} images ({_first_line(error)}).",
                "Check it alone, with onnxruntime.InferenceSession(...).run(...).",
            ) from error
        rows: NDArray[np.float32] = np.asarray(scores, np.float32).reshape(len(scores), -1)
        if len(rows) != len(images):
            raise UsageError(
                f"{self.path} gives {scores.shape} for {len(images)} images.",
                "Name a classifier whose output is (batch, classes).",
            )
        return rows[:count]

    def describe(self) -> dict[str, Any]:
        """JSON facts, as of a runner."""
        return {
            "backend": self.backend,
            "provider": self._session.get_providers()[0],
            "library": self._version,
            "threads": self._threads,
            "optimisation": "all",
            "max_batch_size": self.max_batch_size,
        }

    def __enter__(self) -> OnnxClassifier:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session = None

    def _prepared(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        values: NDArray[Any] = images
        if self.layout.dtype.kind == "f":
            values = (images.astype(np.float32) / 255 - self._mean) / self._std
        if self.layout.order == "NCHW":
            values = values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(values, self.layout.dtype)


def _open_session(path: Path, threads: int) -> Any:
    import onnxruntime

    if not path.is_file():
        raise UsageError(f"No such file: {path}.", "Name an ONNX file.")
    try:
        # By path, not by bytes: weights in a second file are looked for beside it.
        return onnxruntime.InferenceSession(path, session_options(threads), providers=[PROVIDER])
    except Exception as error:  # as in `infer`
        text = _first_line(error)
        if type(error).__name__ == "InvalidProtobuf":
            what, step = "is not an ONNX file, or a damaged one", "Copy or export it again."
        elif "is not a registered function/op" in text:
            what = f"needs operators that ONNX Runtime has not ({text})"
            step = "Export it with standard operators only."
        elif "external data" in str(error).lower() or "No such file" in str(error):
            what = f"keeps its weights in a second file, which cannot be read ({text})"
            step = (
                "Put that file beside it; or make one file of both: "
                "onnx.save(onnx.load(path), 'one.onnx')."
            )
        elif found := UNKNOWN_OPSET.search(str(error)):
            what = f"is of opset {found[1]}, which {installed_onnxruntime()} does not know"
            step = "Export it with a smaller opset_version, or take a newer ONNX Runtime."
        else:
            what, step = f"cannot be loaded ({text})", "Check it: onnx.checker.check_model(path)"
        raise UsageError(f"{path} {what}.", step) from error


def _output_of(session: Any, path: Path) -> str:
    outputs = session.get_outputs()
    named = [output.name for output in outputs if output.name == "logits"]
    if len(outputs) == 1 or named:
        return str(named[0] if named else outputs[0].name)
    raise UsageError(
        f"{path} has {len(outputs)} outputs, none of them called logits: "
        f"{', '.join(output.name for output in outputs)}.",
        "Export it with its scores alone.",
    )


def _unusual(name: str, dtype: str, shape: list[Any]) -> UsageError:
    return UsageError(
        f"{name} takes {dtype} of shape {shape}; expected uint8, float or float16 as "
        "(batch, 3, size, size) or (batch, size, size, 3), with 3 written in the file.",
        "Export it for RGB squares.",
    )


def _first_line(error: Exception) -> str:
    """ONNX Runtime's own words, without its codes and the path that the message names already."""
    text = (str(error).strip().splitlines() or [""])[0].split(" : ", 3)[-1]
    return text.rpartition(" failed:")[2].strip().rstrip(".")[:200] or type(error).__name__


def ends_in_softmax(scores: NDArray[np.float32]) -> bool:
    """Whether the rows are probabilities: none is negative, each sums to 1."""
    sums = scores.sum(1, dtype=np.float64)
    return bool((scores >= 0).all() and np.allclose(sums, 1, rtol=0, atol=1e-3))
