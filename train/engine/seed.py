"""Determinism: a seed for every purpose, derived, never drawn from shared state; GPU kernels.

So the number of loader workers changes nothing, and a resumed run continues as if never stopped.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

__all__ = ["cudnn_mode", "derive_seed", "generator"]

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
REPEATABLE = ":4096:8"  # docs.nvidia.com/cuda/cublas, "Results reproducibility"


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part and on their order.

    >>> derive_seed(0, "order", 3) == derive_seed(0, "order", 3)
    True
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(*parts: int | str) -> np.random.Generator:
    """A fresh NumPy generator seeded by `derive_seed`."""
    return np.random.Generator(np.random.PCG64(derive_seed(*parts)))


@contextmanager
def cudnn_mode(*, deterministic: bool) -> Iterator[None]:
    """Choose the kernels of the block; CPU kernels repeat their results either way.

    Args:
        deterministic: whether two runs shall agree bit for bit, at the cost of speed. What has no
            such kernel warns, and goes on with the one it has. Before the process first uses
            cuBLAS, else the environment must say CUBLAS_WORKSPACE_CONFIG=:4096:8.
    """
    import torch  # a seed is derived without it

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
