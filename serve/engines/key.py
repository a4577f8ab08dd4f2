"""EngineKey: what a TensorRT plan is valid for, and the cache file name that follows from it.

A plan is executable code for one GPU and one TensorRT version; the ONNX file is the source. A key
that differs in anything names another file, so a foreign plan is never found, only rebuilt.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from serve.contract.digest import digest_of_json

__all__ = ["EngineKey"]


@dataclass(frozen=True)
class EngineKey:
    """All that decides the bytes, or the validity, of a TensorRT plan.

    Args:
        onnx_sha256: of the ONNX file the plan is built from.
        tensorrt_version: as the library reports it.
        gpu_name: as the driver reports it.
        compute_capability: for example "9.0".
        precision: "fp16", "fp32" or "int8".
        min_batch: smallest batch of the optimisation profile.
        opt_batch: the batch that the profile is tuned for.
        max_batch: largest batch of the profile.

    Raises:
        ValueError: not 1 <= min_batch <= opt_batch <= max_batch, or no sha256.
    """

    onnx_sha256: str
    tensorrt_version: str
    gpu_name: str
    compute_capability: str
    precision: str
    min_batch: int
    opt_batch: int
    max_batch: int

    def __post_init__(self) -> None:
        if not 1 <= self.min_batch <= self.opt_batch <= self.max_batch:
            raise ValueError(
                f"profile {self.min_batch}/{self.opt_batch}/{self.max_batch}: expected "
                "1 <= min <= opt <= max."
            )
        if len(self.onnx_sha256) != 64:
            raise ValueError(f"onnx_sha256 = {self.onnx_sha256!r}: expected 64 hex digits.")

    @property
    def digest(self) -> str:
        """Hex sha256 of all fields."""
        return digest_of_json(asdict(self))

    @property
    def file_name(self) -> str:
        """Name of the plan below `engines/`, for example `fp16-3f2a90c1b7de4410.plan`."""
        return f"{self.precision}-{self.digest[:16]}.plan"
