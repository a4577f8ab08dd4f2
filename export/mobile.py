"""Download size of a file, and ONNX Runtime's own format for mobile devices.

The ORT format is read by the small ONNX Runtime builds for Android and iOS, without the code that
reads and optimises ONNX. It is made by the runtime itself; its converter script does the same, but
prints, and writes beside the source.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.contract.errors import GateError
from serve.runners.onnxruntime_runner import installed_onnxruntime, plain_session

__all__ = ["DownloadSize", "check_ort", "download_size", "write_ort"]

GZIP_LEVEL = 6  # what web servers usually take
ATOL_SD = 1e-3  # as fp32 parity allows; the optimised graph adds in another order
# Its layout suits the vector units of one machine; the file must run on others.
MACHINE_BOUND = ["NchwcTransformer"]


@dataclass(frozen=True)
class DownloadSize:
    """Bytes of a file, as it is and as a web server sends it.

    Args:
        bytes: of the file.
        gzip_bytes: of the same compressed with level 6.
    """

    bytes: int
    gzip_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def download_size(path: Path) -> DownloadSize:
    """Measure a file, a mebibyte at a time."""
    packer = zlib.compressobj(GZIP_LEVEL, wbits=31)
    packed = 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            packed += len(packer.compress(block))
    return DownloadSize(path.stat().st_size, packed + len(packer.flush()))


def write_ort(source: Path, path: Path) -> None:
    """Write the ORT format of an ONNX file, optimised for any CPU.

    ONNX Runtime reads such files of older versions, not of newer ones. Two files of one source
    answer alike but differ in bytes, as the runtime stores some lists in no fixed order; so the
    file is something to hand out, not something to identify a model by. An fp16 source gains
    nothing: where a CPU has no fp16 kernels, the optimised graph has fp32 weights.

    Args:
        source: ONNX file.
        path: of the result; its name must end in .ort.

    Raises:
        UsageError: ONNX Runtime is missing, or installed twice.
        ValueError: the name of the result.
    """
    if path.suffix != ".ort":
        raise ValueError(f"{path.name} must end in .ort: ONNX Runtime knows the format by it.")
    installed_onnxruntime()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(
        source,
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=MACHINE_BOUND,
    )


def check_ort(source: Path, path: Path, pixels: NDArray[np.uint8]) -> float:
    """Compare the predictions of an ORT file with those of the ONNX file it was made from.

    Args:
        source: ONNX file.
        path: ORT file.
        pixels: (N, H, W, 3) uint8.

    Returns:
        Largest difference of any logit.

    Raises:
        GateError: it is larger than 0.001 of the logits' standard deviation, or not a number.
    """
    expected, found = _logits(source, pixels), _logits(path, pixels)
    worst, allowed = float(np.abs(found - expected).max()), ATOL_SD * float(expected.std())
    if not worst <= allowed:
        raise GateError(
            f"PARITY FAIL ORT format: logits differ by {worst:.2g} from those of {source.name}, "
            f"allowed {allowed:.2g}.",
            "Use the ONNX file; this ONNX Runtime does not convert it faithfully.",
        )
    return worst


def _logits(path: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = plain_session(path)
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in pixels])
