"""timm's training script as a peer: its command for a training like ours, and its final weights."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.data import create_dataset, create_loader, resolve_data_config

from train.models.classifier import ImageClassifier, build_model

__all__ = ["Recipe", "our_overrides", "read_final_model", "timm_flags", "top1_by_timm"]


@dataclass(frozen=True)
class Recipe:
    """One training, told to both sides.

    Args:
        arch: timm name.
        size_px: side of the views, and of the evaluation.
        epochs: in all, the warm-up among them.
        warmup_epochs: of a linear rise, after which the cosine begins.
        batch_size: images a step.
        lr: peak.
        ema_decay: of the average of weights; 0 for none.
        workers: loader processes.
    """

    arch: str = "tf_efficientnet_lite0"
    size_px: int = 80
    epochs: int = 5
    warmup_epochs: int = 1
    batch_size: int = 32
    lr: float = 6e-4
    min_lr: float = 1e-5
    weight_decay: float = 0.02
    clip_norm: float = 5.0
    min_scale: float = 0.35
    max_aspect: float = 4 / 3
    flip: float = 0.5
    jitter: float = 0.2
    ema_decay: float = 0.0
    workers: int = 1


def our_overrides(recipe: Recipe, weights: Path, seed: int) -> list[str]:
    """`stillroom train` overrides for a recipe."""
    teacher = {
        "arch": recipe.arch,
        "weights": weights,
        "train_size_px": recipe.size_px,
        "test_size_px": recipe.size_px,
        "epochs": recipe.epochs,
        "head_epochs": 0,
        "warmup_epochs": float(recipe.warmup_epochs),
        "batch_size": recipe.batch_size,
        "optimizer": "adamw",
        "schedule": "cosine",
        "lr": recipe.lr,
        "min_lr": recipe.min_lr,
        "weight_decay": recipe.weight_decay,
        "clip_norm": recipe.clip_norm,
        "ema_decay": recipe.ema_decay,
        "balance_limit": 0.0,
        "label_smoothing": 0.0,
        "drop_rate": 0.0,
        "crop_pct": 1.0,
        "precision": "fp32",
        "workers": recipe.workers,
        "augment.min_scale": recipe.min_scale,
        "augment.max_aspect": recipe.max_aspect,
        "augment.flip": recipe.flip,
        "augment.brightness": recipe.jitter,
        "augment.contrast": recipe.jitter,
        "augment.saturation": recipe.jitter,
    }
    return [f"seed={seed}", *(f"teacher.{key}={value}" for key, value in teacher.items())]


def timm_flags(recipe: Recipe, weights: Path, seed: int, *, classes: int, steps: int) -> list[str]:
    """Flags of timm's train.py for a recipe; those of files and folders are left out.

    Args:
        recipe: of both sides.
        weights: initial ones, of a model with these classes.
        seed: of its random numbers, which are others than ours.
        classes: K.
        steps: of an epoch; the warm-up starts where ours does.
    """
    flags = {
        "model": recipe.arch,
        "num-classes": classes,
        "initial-checkpoint": weights,
        "img-size": recipe.size_px,
        "crop-pct": 1.0,
        "interpolation": "bicubic",
        "train-interpolation": "bicubic",
        "batch-size": recipe.batch_size,
        "validation-batch-size": 64,
        "opt": "adamw",
        "lr": recipe.lr,
        "weight-decay": recipe.weight_decay,
        "clip-grad": recipe.clip_norm,
        "sched": "cosine",
        "epochs": recipe.epochs - recipe.warmup_epochs,  # --warmup-prefix adds the warm-up
        "warmup-epochs": recipe.warmup_epochs,
        "warmup-lr": recipe.lr / (steps * recipe.warmup_epochs + 1),
        "min-lr": recipe.min_lr,
        "cooldown-epochs": 0,
        "ratio": f"{1 / recipe.max_aspect} {recipe.max_aspect}",
        "scale": f"{recipe.min_scale} 1.0",
        "hflip": recipe.flip,
        "color-jitter": recipe.jitter,
        "smoothing": 0.0,
        "reprob": 0.0,
        "workers": recipe.workers,
        "checkpoint-hist": 1,
        "log-interval": 1000,
        "seed": seed,
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }
    switches = ["--sched-on-updates", "--warmup-prefix"]
    if recipe.ema_decay:
        switches += ["--model-ema", "--model-ema-warmup"]
        flags["model-ema-decay"] = recipe.ema_decay
    named = [part for key, value in flags.items() for part in (f"--{key}", *str(value).split())]
    return [*named, *switches]


def read_final_model(checkpoint: Path, recipe: Recipe, classes: int) -> list[ImageClassifier]:
    """The weights after the last epoch as our models: the raw ones, and the average if there is.

    Args:
        checkpoint: timm's last.pth.tar; a pickle, of which tensors and flags are read only.
        recipe: it was trained by.
        classes: K.
    """
    with torch.serialization.safe_globals([argparse.Namespace]):
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    models = []
    for key in ("state_dict", "state_dict_ema"):
        if key in saved:
            model = build_model(recipe.arch, classes, size_px=recipe.size_px)
            model.backbone.load_state_dict(saved[key])
            models.append(model.eval())
    return models


def top1_by_timm(model: ImageClassifier, root: Path, class_map: Path, size_px: int) -> float:
    """Top-1 of a folder of classes as timm's library evaluates it: its reader and transform."""
    backbone = model.backbone.eval()
    settings = {"input_size": (3, size_px, size_px), "crop_pct": 1.0, "interpolation": "bicubic"}
    config = resolve_data_config(settings, model=backbone)
    dataset = create_dataset("", root=str(root), split="test", class_map=str(class_map))
    loader = create_loader(
        dataset,
        input_size=config["input_size"],
        batch_size=64,
        use_prefetcher=False,
        interpolation=config["interpolation"],
        mean=config["mean"],
        std=config["std"],
        crop_pct=config["crop_pct"],
        num_workers=0,
        device=torch.device("cpu"),
    )
    hits = 0
    with torch.inference_mode():
        for images, labels in loader:
            hits += int((backbone(images).argmax(1) == labels).sum())
    return hits / len(dataset)
