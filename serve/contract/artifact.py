"""The artifact: the folder that export writes and serve reads. Nothing else crosses that border.

artifact/
  manifest.json    names, digests, labels, preprocessing, parity, lineage
  model.onnx       uint8 (N, H, W, 3) RGB -> float32 (N, K) logits; normalisation inside
  golden/          a few image files, unchanged, and golden.json with their logits
  reference.csv    reference logits of the parity images by sha256 of their bytes
  parity.json      the verdict, in full
  flips.csv        every image whose prediction changed
  engines/         TensorRT plans: a cache, not part of the artifact's digest
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.contract.errors import ArtifactError
from serve.contract.manifest import damaged_files, read_manifest
from serve.contract.spec import PreprocessSpec

__all__ = ["Artifact", "artifact_root", "open_artifact"]

MODEL = "model.onnx"


@dataclass(frozen=True)
class Artifact:
    """A verified artifact folder.

    Args:
        root: the folder.
        name: of the run.
        version: first 12 digits of the model file's sha256.
        digest: sha256 of the manifest: names every byte of the artifact and its lineage.
        labels: K class names in the order of the logits.
        preprocess: bytes -> pixels.
        precision: fp32, fp16 or int8.
        golden_atol: largest allowed difference of golden logits on the backend that serves.
        manifest: everything else, as JSON.
    """

    root: Path
    name: str
    version: str
    digest: str
    labels: tuple[str, ...]
    preprocess: PreprocessSpec
    precision: str
    golden_atol: float
    manifest: dict[str, Any]

    @property
    def model_path(self) -> Path:
        """The ONNX file."""
        return self.root / MODEL


def open_artifact(root: Path) -> Artifact:
    """Open an artifact after checking every digest in it.

    Args:
        root: the artifact folder, or a run folder that holds one as `artifact/`.

    Raises:
        ArtifactError: missing, damaged, of another kind or version, or inconsistent.
    """
    if not root.is_dir():
        raise ArtifactError(
            f"No such artifact folder: {root}.", "Build one: stillroom run IMAGES --until export"
        )
    root = artifact_root(root)
    manifest = read_manifest(root, kind="artifact")
    if damaged := damaged_files(root, manifest):
        raise ArtifactError(
            f"The artifact {root} is damaged: {'; '.join(damaged)}.",
            "It is not served. Copy it again, or rebuild: stillroom export RUN",
        )
    return _artifact_from(root, manifest)


def artifact_root(folder: Path) -> Path:
    """The artifact folder itself, where `folder` is a run folder that holds one."""
    inside = folder / "artifact"
    return inside if inside.is_dir() and not (folder / MODEL).exists() else folder


def _artifact_from(root: Path, manifest: dict[str, Any]) -> Artifact:
    try:
        spec = PreprocessSpec.from_dict(manifest["preprocess"])
        artifact = Artifact(
            root=root,
            name=str(manifest["name"]),
            version=str(manifest["version"]),
            digest=str(manifest["digest"]),
            labels=tuple(manifest["labels"]),
            preprocess=spec,
            precision=str(manifest["precision"]),
            golden_atol=float(manifest["golden_atol"]),
            manifest=manifest,
        )
        digest = manifest["preprocess_digest"]
    except KeyError as error:
        raise ArtifactError(
            f"The manifest of {root} has no {error.args[0]!r}.", "Export the artifact again."
        ) from error
    if digest != spec.digest:
        raise ArtifactError(
            f"The preprocess spec of {root} has digest {spec.digest[:12]}, the manifest says "
            f"{digest[:12]}: this stillroom would compute other pixels.",
            "Use the stillroom that exported it, or export again.",
        )
    return artifact
