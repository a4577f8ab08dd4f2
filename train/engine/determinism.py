"""Which kernels a GPU may use: the fastest it finds, or those that repeat their results."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["cudnn_mode"]

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
REPEATABLE = ":4096:8"  # docs.nvidia.com/cuda/cublas, "Results reproducibility"


@contextmanager
def cudnn_mode(*, deterministic: bool) -> Iterator[None]:
    """Choose the kernels of the block; CPU kernels repeat their results either way.

    Args:
        deterministic: whether two runs shall agree bit for bit, at the cost of speed. What has no
            such kernel warns, and goes on with the one it has. Before the process first uses
            cuBLAS, else the environment must say CUBLAS_WORKSPACE_CONFIG=:4096:8.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    asked = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn.benchmark, cudnn.deterministic = not deterministic, deterministic
    if deterministic:
        os.environ.setdefault(WORKSPACE, REPEATABLE)
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before
        torch.use_deterministic_algorithms(asked, warn_only=warned)
