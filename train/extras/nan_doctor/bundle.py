"""A failed training step on disk: bundle.safetensors + bundle.json, enough to run it again.

Everything is tensors and JSON. An objective is written as its class and its attributes, and only
classes of this project and of torch.nn are made from it again; nothing is pickled.
"""

from __future__ import annotations

import importlib
import json
import math
import platform
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from serve.contract.digest import canonical_json
from serve.contract.errors import CheckpointError
from train.extras.nan_doctor.replay import Step, modules_in
from train.models.classifier import ImageClassifier, build_model

__all__ = ["load_bundle", "save_bundle"]

TENSORS = "bundle.safetensors"
RECORD = "bundle.json"
SCHEMA = 1
CLASSES_FROM = ("train.", "compress.", "torch.nn.")
MOVED = {  # modules of bundles that were written before packages had folders, or their classes
    "train.bilinear": "train.extras.bilinear",
    "train.centre_loss:CentreLoss": "train.extras.center_loss:CenterLoss",
    "train.label_loss": "train.losses.label_loss",
    "train.models": "train.models.classifier",
    "train.objective": "train.losses.objective",
    "train.parallel": "train.extras.distributed.parallel",
    "train.targets": "train.losses.targets",
}
RATES = ("p", "drop_prob", "drop_rate")  # of dropout and stochastic depth, as torch and timm say
LIBRARIES = ("stillroom", "torch", "timm", "numpy", "pillow")

UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    ImportError,
    RuntimeError,
    SafetensorError,
)

Tensors = dict[str, Tensor]


def save_bundle(folder: Path, step: Step, notes: dict[str, Any]) -> None:
    """Write a step's batch, weights, objective and settings; replaces the folder.

    Args:
        folder: of the bundle.
        step: its model is an ImageClassifier.
        notes: further entries of bundle.json.

    Raises:
        OSError: the folder cannot be written.
    """
    tensors: Tensors = {"images": step.images, "labels": step.labels}
    record = {
        **notes,
        "schema": SCHEMA,
        "seed": step.seed,
        "precision": step.precision,
        "device": next(step.model.parameters()).device.type,
        "model": _written(step.model, "model", tensors),
        "objective": _written(step.objective, "objective", tensors),
        "versions": {"python": platform.python_version(), **_versions()},
    }
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Clones: safetensors refuses tensors that share memory.
    copies = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    save_file(copies, folder / TENSORS)
    (folder / RECORD).write_bytes(canonical_json(record))


def load_bundle(folder: Path) -> tuple[Step, dict[str, Any]]:
    """Read a step back, on the kind of device it ran on where there is one.

    Returns:
        The step, and bundle.json.

    Raises:
        CheckpointError: files are missing, damaged, or of an objective that is not ours.
    """
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_bytes())
        tensors = load_file(folder / TENSORS)
        model = _read(record["model"], tensors)
        objective = _read(record["objective"], tensors)
        images, labels = tensors["images"], tensors["labels"]
        step = Step(model, objective, images, labels, record["seed"], record["precision"])
    except UNREADABLE as error:
        raise CheckpointError(
            f"{folder} is not a readable bundle of a training step ({error}).",
            f"Name a folder that holds {RECORD} and {TENSORS}.",
        ) from error
    if record["device"] == "cuda" and torch.cuda.is_available():
        _move(step, torch.device("cuda"))
    return step, record


def _written(value: Any, name: str, tensors: Tensors) -> Any:
    """A value as JSON; its tensors go into `tensors` under its name."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, list | tuple):
        items = [_written(item, f"{name}.{i}", tensors) for i, item in enumerate(value)]
        return {type(value).__name__: items}
    if isinstance(value, dict):
        return {"dict": [[key, _written(v, f"{name}.{key}", tensors)] for key, v in value.items()]}
    if isinstance(value, ImageClassifier):
        return {"classifier": _card(value, name, tensors)}
    kind = type(value)
    path = f"{kind.__module__}:{kind.__qualname__}"
    if not kind.__module__.startswith(CLASSES_FROM):
        return {"foreign": path}
    attributes = _attributes(value).items()
    return {"class": path, "has": {k: _written(v, f"{name}.{k}", tensors) for k, v in attributes}}


def _read(value: Any, tensors: Tensors) -> Any:
    """The reverse of `_written`."""
    if not isinstance(value, dict):
        return value
    ((tag, inner), *rest) = value.items()
    if tag == "class":
        return _made(inner, {k: _read(v, tensors) for k, v in dict(rest)["has"].items()})
    readers: dict[str, Callable[[], Any]] = {
        "float": lambda: float(inner),
        "tensor": lambda: tensors[inner],
        "list": lambda: [_read(item, tensors) for item in inner],
        "tuple": lambda: tuple(_read(item, tensors) for item in inner),
        "dict": lambda: {key: _read(item, tensors) for key, item in inner},
        "classifier": lambda: _classifier(inner, tensors),
    }
    if tag not in readers:
        raise ValueError(f"{inner or tag} cannot be made again")
    return readers[tag]()


def _attributes(value: Any) -> dict[str, Any]:
    """What makes an object what it is; of a module without torch's own bookkeeping."""
    attributes = dict(vars(value))
    if isinstance(value, nn.Module):
        own = {"training", "_parameters", "_buffers", "_modules"}
        attributes = {k: v for k, v in attributes.items() if k in own or k not in vars(nn.Module())}
    return attributes


def _made(path: str, attributes: dict[str, Any]) -> Any:
    module, _, name = MOVED.get(path, path).partition(":")
    module = MOVED.get(module, module)
    if not module.startswith(CLASSES_FROM):
        raise ValueError(f"{path} is not a class of this project")
    cls = getattr(importlib.import_module(module), name)
    if not isinstance(cls, type):
        raise TypeError(f"{path} is not a class")
    made: Any = object.__new__(cls)
    if isinstance(made, nn.Module):
        nn.Module.__init__(made)
    vars(made).update(attributes)
    return made


def _card(model: ImageClassifier, name: str, tensors: Tensors) -> dict[str, Any]:
    """What rebuilds a classifier, with its mode, its frozen weights and its dropout rates."""
    tensors |= {f"{name}.{key}": tensor for key, tensor in _tensors_of(model).items()}
    embed = getattr(model.backbone, "patch_embed", None)
    size = getattr(embed, "img_size", None) or (0,)
    return {
        "tensors": name,
        "arch": model.arch,
        "classes": model.num_classes,
        "head": {"head": model.head, "bilinear_dim": model.num_features},
        "size_px": size[0],
        "mean": list(model.mean),
        "std": list(model.std),
        "rates": _rates(model),
        "evaluating": [n for n, module in model.named_modules() if not module.training],
        "frozen": [n for n, parameter in model.named_parameters() if not parameter.requires_grad],
    }


def _classifier(card: dict[str, Any], tensors: Tensors) -> ImageClassifier:
    rates = card["rates"]
    # Layers of stochastic depth are built only where its rate is not 0.
    deepest = max((r for n, r in rates.items() if n.endswith(".drop_prob")), default=0.0)
    model = build_model(
        card["arch"],
        card["classes"],
        size_px=card["size_px"] or 224,  # convolutions take any
        drop_path_rate=deepest,
        **card["head"],
    )
    model.mean, model.std = tuple(card["mean"]), tuple(card["std"])
    with torch.no_grad():
        for name, tensor in _tensors_of(model).items():
            tensor.copy_(tensors[f"{card['tensors']}.{name}"])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in card["frozen"])
    for name, module in model.named_modules():
        module.training = name not in card["evaluating"]
        for rate in RATES:
            if isinstance(getattr(module, rate, None), float | int):
                setattr(module, rate, rates.get(f"{name}.{rate}", 0.0))
    return model


def _tensors_of(model: nn.Module) -> Tensors:
    """Weights and all buffers, those of the normalisation too, which no state_dict holds."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _rates(model: nn.Module) -> dict[str, float]:
    """Rates of dropout and stochastic depth, which no state_dict holds."""
    return {
        f"{name}.{rate}": float(value)
        for name, module in model.named_modules()
        for rate in RATES
        if isinstance(value := getattr(module, rate, None), float | int)
    }


def _move(step: Step, device: torch.device) -> None:
    step.model.to(device)
    for module in modules_in(step.objective).values():
        module.to(device)


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
