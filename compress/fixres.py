"""FixRes: fit the classifier and the last batch norm to the test resolution; freeze all else.

Training crops show objects larger than test crops do. Testing at a larger size undoes that, and
shifts the statistics of the last features; a short fine-tuning of what reads them repairs it.

Source: Touvron et al. 2019, arXiv:1906.06423, sections 4 and 5; implemented from the paper.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save

from compress.proof import tensor_digests
from serve.contract.errors import GateError
from serve.contract.preprocess import NO_LIMITS, PreprocessSpec, crop_and_resize, preprocess
from train.data.dataset import Dataset
from train.data.image_bytes import read_bytes
from train.fitting import build_views
from train.loader.sampler import ViewKey
from train.loader.views import FixedViews, View, Views, pixels_of
from train.models.classifier import ImageClassifier
from train.models.freeze import classifiers_of

__all__ = ["ClassifierAndLastNorms", "check_views", "digests_of_model", "test_time_views"]

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
AFFINE = ("weight", "bias")
CHECKED_VIEWS = 16


class ClassifierAndLastNorms:
    """Freeze policy: the classifier learns, and of the last batch norms the statistics move.

    Args:
        norms: of `compress.last_norms`; none for models without batch norm.
        affine: whether their weights and biases learn, too.
    """

    def __init__(self, norms: tuple[str, ...], *, affine: bool) -> None:
        self._norms, self._affine = norms, affine

    def freeze(self, model: ImageClassifier) -> None:
        """As `train.models.freeze.FreezePolicy`."""
        model.requires_grad_(False)
        free = self.may_change(model)
        for name, parameter in model.backbone.named_parameters():
            parameter.requires_grad_(name in free)

    def set_mode(self, model: ImageClassifier) -> None:
        """As `train.models.freeze.FreezePolicy`."""
        model.eval()
        for classifier in classifiers_of(model):
            classifier.train()
        for name in self._norms:
            model.backbone.get_submodule(name).train()

    def may_change(self, model: ImageClassifier) -> set[str]:
        """Names of the backbone's tensors that this policy allows to change.

        A last norm can be part of the classifier; its affine parameters obey `affine` there, too.
        """
        heads = classifiers_of(model)
        prefixes = [f"{n}." for n, m in model.backbone.named_modules() if m in heads]
        tensors = set(model.backbone.state_dict())
        free = {name for name in tensors if name.startswith(tuple(prefixes))}
        for norm in self._norms:
            free |= {f"{norm}.{name}" for name in STATISTICS} & tensors
            affine = {f"{norm}.{name}" for name in AFFINE} & tensors
            free = free | affine if self._affine else free - affine
        return free


def digests_of_model(model: ImageClassifier) -> dict[str, str]:
    """Digest of each tensor as its checkpoint would hold it."""
    tensors = {
        name: t.detach().cpu().contiguous() for name, t in model.backbone.state_dict().items()
    }
    return tensor_digests(save(tensors))


def test_time_views(dataset: Dataset, spec: PreprocessSpec, seed: int) -> Views:
    """The training images as the server sees them, computed once where memory allows.

    Raises:
        GateError: a view is not what the server computes.
    """
    photos = dataset.of_split("train")
    views: Views
    if 3 * spec.size_px**2 * len(photos) <= dataset.cache_mib * 2**20:
        views = FixedViews(pixels_of(dataset.root, photos, spec), dataset.targets("train"))
    else:
        views = build_views(dataset, _centre_view(spec), keep_px=0, seed=seed)
    paths = [dataset.root / photo.path for photo in photos]
    check_views(views, paths, spec)
    return views


def check_views(views: Views, paths: list[Path], spec: PreprocessSpec) -> None:
    """Compare some views, spread over all, with what the server computes of the same files.

    Args:
        views: for the training loop.
        paths: of the images, in their order.
        spec: of the server.

    Raises:
        GateError: one differs by a byte.
    """
    for position in {round(p) for p in np.linspace(0, len(paths) - 1, CHECKED_VIEWS)}:
        view, *_ = views[ViewKey(0, position, 0, spec.size_px)]
        if not np.array_equal(view, preprocess(read_bytes(paths[position]), spec, NO_LIMITS)):
            raise GateError(
                f"FixRes would train on pixels of {paths[position].name} that no server computes.",
                "This is a bug in stillroom; please report it with the recipe.",
            )


def _centre_view(spec: PreprocessSpec) -> View:
    def view(
        pixels: NDArray[np.uint8], size_px: int, rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        return np.asarray(crop_and_resize(Image.fromarray(pixels), spec))

    return view
