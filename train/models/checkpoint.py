"""checkpoint.safetensors + checkpoint.json: a model and all that is needed to use it. No pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from serve.contract.digest import canonical_json
from serve.contract.errors import ArtifactError, CheckpointError
from serve.contract.preprocess import PreprocessSpec
from train.models.classifier import (
    HEADS,
    ImageClassifier,
    build_model,
    count_flops,
    count_parameters,
)

__all__ = ["ModelCard", "load_checkpoint", "save_checkpoint"]

WEIGHTS = "checkpoint.safetensors"
CARD = "checkpoint.json"


@dataclass(frozen=True)
class ModelCard:
    """What checkpoint.json says.

    Args:
        arch: timm name of the backbone.
        labels: class names in the order of the logits.
        preprocess: the evaluation transform, which is the serving transform.
        train_size_px: side of the training views.
        mean: of RGB in [0, 1], inside the model.
        std: likewise.
        parameters: number of weights.
        flops: multiply-adds of one image at `preprocess.size_px`.
        dataset_digest: of the images it was trained on.
        head: linear or bilinear.
        bilinear_dim: width of the bilinear features; 0 without them.
    """

    arch: str
    labels: tuple[str, ...]
    preprocess: PreprocessSpec
    train_size_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    parameters: int
    flops: int
    dataset_digest: str
    head: str = "linear"
    bilinear_dim: int = 0

    def __post_init__(self) -> None:
        if self.head == "bilinear" and self.bilinear_dim < 1:
            raise ValueError(f"bilinear_dim = {self.bilinear_dim}: expected 1 or more")

    @classmethod
    def of(
        cls,
        model: ImageClassifier,
        *,
        labels: tuple[str, ...],
        preprocess: PreprocessSpec,
        train_size_px: int,
        dataset_digest: str,
    ) -> ModelCard:
        """Describe a model."""
        return cls(
            arch=model.arch,
            labels=labels,
            preprocess=preprocess,
            train_size_px=train_size_px,
            mean=model.mean,
            std=model.std,
            parameters=count_parameters(model),
            flops=count_flops(model, preprocess.size_px),
            dataset_digest=dataset_digest,
            head=model.head,
            bilinear_dim=model.num_features if model.head == "bilinear" else 0,
        )


def save_checkpoint(folder: Path, model: ImageClassifier, card: ModelCard) -> None:
    """Write both files; equal weights and card give equal bytes."""
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in model.backbone.state_dict().items()
    }
    save_file(tensors, folder / WEIGHTS)
    value = {**asdict(card), "preprocess": card.preprocess.to_dict()}
    (folder / CARD).write_bytes(canonical_json(value))


def load_checkpoint(folder: Path) -> tuple[ImageClassifier, ModelCard]:
    """Read a model in evaluation mode, on the CPU, and its card.

    Raises:
        CheckpointError: a file is missing or damaged, or tensors do not fit or are not finite.
    """
    if missing := [name for name in (CARD, WEIGHTS) if not (folder / name).is_file()]:
        raise CheckpointError(
            f"No checkpoint in {folder}: {' and '.join(missing)} missing.",
            "Train first: stillroom train PHOTOS --run RUN",
        )
    try:
        value = json.loads((folder / CARD).read_bytes())
        tensors = load_file(folder / WEIGHTS)
        card = ModelCard(
            **{
                **value,
                "labels": tuple(value["labels"]),
                "mean": tuple(value["mean"]),
                "std": tuple(value["std"]),
                "preprocess": PreprocessSpec.from_dict(value["preprocess"]),
            }
        )
    except (OSError, ValueError, KeyError, TypeError, ArtifactError, SafetensorError) as error:
        raise CheckpointError(
            f"The checkpoint in {folder} is damaged ({type(error).__name__}).", "Train it again."
        ) from error
    if card.head not in HEADS:
        raise CheckpointError(
            f"{folder} has a head of kind {card.head!r}; this version knows {', '.join(HEADS)}.",
            "Update stillroom, or train it again.",
        )
    model = build_model(
        card.arch,
        len(card.labels),
        size_px=card.preprocess.size_px,
        head=card.head,
        bilinear_dim=card.bilinear_dim,
    )
    try:
        model.backbone.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"The tensors in {folder} are not those of {card.arch}.", "Train it again."
        ) from error
    if bad := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
        raise CheckpointError(
            f"{folder} holds NaN or infinity in {len(bad)} tensors, first {bad[0]}.",
            "Train again with a lower learning rate.",
        )
    # timm may change its defaults; the model normalises as it was trained.
    return ImageClassifier(model.backbone, card.arch, card.mean, card.std).eval(), card
