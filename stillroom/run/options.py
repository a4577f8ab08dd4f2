"""What a recipe may say about serving, load and the ablation."""

from __future__ import annotations

from dataclasses import dataclass

from train.options import check_at_least, check_positive

__all__ = ["AblationOptions", "LoadOptions", "ServeOptions"]


@dataclass(frozen=True)
class AblationOptions:
    """`stillroom ablate`: the student with and without its teacher, with and without FixRes."""

    seeds: int = 3  # trainings of each of the four

    def __post_init__(self) -> None:
        check_at_least(self, 1, "seeds")


@dataclass(frozen=True)
class ServeOptions:
    """The service that parity over HTTP and the load test speak to."""

    backend: str = "auto"  # auto | onnxruntime-cpu | onnxruntime-cuda
    threads: int = 1  # CPU threads inside one inference
    decode_threads: int = 2  # threads that decode and resize images
    max_batch: int = 0  # largest batch of one inference; 0 takes what suits the backend
    concurrency: int = 8  # clients of the parity check, so that batches mix

    def __post_init__(self) -> None:
        check_at_least(self, 1, "threads", "decode_threads", "concurrency")
        check_at_least(self, 0, "max_batch")


@dataclass(frozen=True)
class LoadOptions:
    """The load test of a run: a closed loop for the rate reached, an open loop for the latency."""

    duration_s: float = 15.0  # of each loop
    users: int = 8  # clients of the closed loop
    rate_share: float = 0.5  # rate of the open loop, as a share of what the closed loop reached
    slo: str = "p99=100ms"  # objective on the latency from the intended send time

    def __post_init__(self) -> None:
        check_at_least(self, 1, "users")
        check_positive(self, "duration_s", "rate_share")
