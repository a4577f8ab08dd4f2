from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset

from tests.train.toy import fast
from train.data.dataset import Dataset
from train.extras.sanity.case import SanityCase, sanity_case_of
from train.extras.sanity.checks import CHECKS, check, run_sanity
from train.extras.sanity.overfit import overfit_one_batch
from train.loader.sampler import ViewKey
from train.models.classifier import ImageClassifier

OPTIONS = fast(arch="test_resnet")
Pixels = NDArray[np.uint8]


class Changed(TorchDataset[tuple[Pixels, int]]):
    """Training views with a fault."""

    def __init__(
        self, subject: SanityCase, change: Callable[[Pixels], Pixels], shift: int = 0
    ) -> None:
        self._views, self._change, self._shift = subject.views, change, shift
        self.targets = subject.views.targets

    def __len__(self) -> int:
        return len(self._views)

    def __getitem__(self, key: ViewKey) -> tuple[Pixels, int, None]:
        image = self._views[key._replace(position=(key.position + self._shift) % len(self))][0]
        return np.ascontiguousarray(self._change(image)), int(self.targets[key.position]), None


class Stubborn(nn.BatchNorm2d):
    """Batch norm that takes no notice of `eval()`."""

    def train(self, mode: bool = True) -> Stubborn:
        super().train(True)
        return self


@pytest.fixture(scope="module")
def subject(dataset: Dataset) -> SanityCase:
    return sanity_case_of(dataset, OPTIONS, 0)


def with_model(subject: SanityCase, change: Callable[[ImageClassifier], Any]) -> SanityCase:
    """The subject with a fault planted in its model."""

    def build() -> ImageClassifier:
        model = subject.build()
        change(model)
        return model

    return replace(subject, build=build)


def with_views(
    subject: SanityCase, change: Callable[[Pixels], Pixels] = lambda image: image, shift: int = 0
) -> SanityCase:
    views: Any = Changed(subject, change, shift)
    return replace(subject, views=views)


def assert_wrong(name: str, subject: SanityCase, *expected: str) -> None:
    found = check(name, subject)
    assert not found.ok, found
    for text in expected:
        assert text in found.words


def classifier(model: ImageClassifier) -> Any:
    return model.backbone.get_classifier()  # type: ignore[operator]


def test_a_sound_training_passes_every_check(dataset: Dataset) -> None:
    checks = run_sanity(dataset, OPTIONS, seed=0)
    assert [one.name for one in checks] == list(CHECKS)
    assert [one for one in checks if not one.ok] == []
    assert all(one.words.endswith(".") and "\n" not in one.words for one in checks)


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_leaves_the_model_as_it_was(subject: SanityCase, name: str) -> None:
    before = {key: tensor.clone() for key, tensor in subject.model.state_dict().items()}
    check(name, subject)
    after = subject.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert subject.model.training


def test_the_batch_has_the_classes_in_turn(subject: SanityCase) -> None:
    assert len(subject.positions) == len(set(subject.positions)) == OPTIONS.batch_size
    assert np.ptp(np.bincount(subject.labels.numpy())) == 0


def test_views_of_another_size(subject: SanityCase) -> None:
    assert_wrong("shapes", with_views(subject, lambda image: image[::2]), "(12, 32, 32, 3) uint8")
    floats: Any = lambda image: image / np.float32(255)  # noqa: E731
    assert_wrong("shapes", with_views(subject, floats), "float32")


def test_a_label_out_of_range(subject: SanityCase) -> None:
    planted = with_views(subject)
    planted.views.targets = planted.views.targets + 1
    assert_wrong("shapes", planted, "Labels 1 to 3", "0 to 2")


def test_a_classifier_of_other_classes_or_without_numbers(subject: SanityCase) -> None:
    def widen(model: ImageClassifier) -> None:
        model.backbone.fc = nn.Linear(classifier(model).in_features, 4)

    assert_wrong("shapes", with_model(subject, widen), "(12, 4)", "(12, 3)")
    spoilt = with_model(subject, lambda model: classifier(model).bias.data.fill_(math.nan))
    assert_wrong("shapes", spoilt, "not all finite")


def test_labels_in_another_order(subject: SanityCase) -> None:
    assert_wrong("label order", replace(subject, names=subject.names[::-1]), "not sorted")
    planted = with_views(subject)
    planted.views.targets = (planted.views.targets + 1) % 3
    assert_wrong("label order", planted, "39 of 39", "is aster, trained as bell")


def test_pixels_that_are_not_normalised(subject: SanityCase) -> None:
    def plain(model: ImageClassifier) -> None:
        model.scale.fill_(1.0)
        model.shift.fill_(0.0)

    assert_wrong("normalisation", with_model(subject, plain), "expected about 0 and 1")
    assert_wrong("normalisation", with_views(subject, lambda image: image // 32), "not normalised")


def test_another_mean_than_the_weights_had(subject: SanityCase) -> None:
    def other(model: ImageClassifier) -> None:
        model.mean = (0.1, 0.2, 0.3)

    assert_wrong("normalisation", with_model(subject, other), "(0.1, 0.2, 0.3)", "(0.5, 0.5, 0.5)")


def test_views_in_bgr(subject: SanityCase) -> None:
    assert_wrong("colours", with_views(subject, lambda image: image[..., ::-1]), "BGR")


def test_views_of_other_photographs(subject: SanityCase) -> None:
    assert_wrong("colours", with_views(subject, shift=20), "not of the images")


def test_views_much_darker_than_what_is_served(subject: SanityCase) -> None:
    assert_wrong("colours", with_views(subject, lambda image: image // 2), "levels off")


def test_a_classifier_that_starts_too_large(subject: SanityCase) -> None:
    large = with_model(subject, lambda model: classifier(model).weight.data.mul_(100))
    assert_wrong("first loss", large, "ln 3 = 1.10", "init=xavier")


def test_a_first_loss_that_is_too_good(subject: SanityCase) -> None:
    learnt = copy.deepcopy(subject.model)
    overfit_one_batch(learnt, subject.images, subject.labels, optimizer="adamw", lr=3e-3, steps=40)
    planted = replace(subject, build=lambda: copy.deepcopy(learnt))
    assert_wrong("first loss", planted, "the answer is in the input")
    own = replace(planted, options=replace(OPTIONS, weights="mine.safetensors"))
    assert check("first loss", own).ok


def test_a_model_that_is_another_each_time(subject: SanityCase) -> None:
    numbers = iter(range(100))
    planted = with_model(
        subject, lambda model: classifier(model).bias.data.add_(torch.eye(3)[next(numbers) % 3])
    )
    assert_wrong("same seed", planted, "first loss")


def test_views_that_are_others_each_time(subject: SanityCase) -> None:
    random = np.random.default_rng()
    noise = with_views(subject, lambda image: image ^ random.integers(0, 2, image.shape, np.uint8))
    assert_wrong("same seed", noise, "other views")


def norms_of(model: ImageClassifier) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def test_batch_norm_that_is_frozen(subject: SanityCase) -> None:
    class Frozen:
        def freeze(self, model: ImageClassifier) -> None:
            model.requires_grad_(True)

        def set_mode(self, model: ImageClassifier) -> None:
            model.train()
            norms_of(model)[1].eval()

    assert_wrong("batch norm", replace(subject, policy=Frozen()), "do not move", "conv1.4")

    def still(model: ImageClassifier) -> None:
        for norm in norms_of(model):
            norm.momentum = 0.0

    assert_wrong("batch norm", with_model(subject, still), "momentum 0")


def test_batch_norm_that_moves_in_evaluation(subject: SanityCase) -> None:
    def stubborn(model: ImageClassifier) -> None:
        norms_of(model)[-1].__class__ = Stubborn

    planted = with_model(subject, stubborn)
    assert_wrong("batch norm", planted, "In evaluation 1 batch norms move")
    assert_wrong("one by one", planted, "depends on the rest of its batch")


def test_a_model_without_batch_norm_is_no_fault(dataset: Dataset) -> None:
    found = check("batch norm", sanity_case_of(dataset, fast(arch="test_vit"), 0))
    assert found.ok
    assert "no batch norm" in found.words


def test_a_layer_that_lets_nothing_through(subject: SanityCase) -> None:
    def dead(model: ImageClassifier) -> None:
        model.backbone.get_submodule("layer3").register_forward_hook(lambda *args: args[2] * 0)

    assert_wrong("answers", with_model(subject, dead), "same logits")


def test_a_layer_that_no_gradient_reaches(subject: SanityCase) -> None:
    def cut(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return output.detach()

    planted = with_model(
        subject, lambda m: m.backbone.get_submodule("layer2").register_forward_hook(cut)
    )
    assert_wrong("gradients", planted, "backbone.conv1.0.weight", "cut off")


@pytest.mark.parametrize(("lr", "way"), [(1e-9, "raise lr"), (1e4, "lower lr")])
def test_a_learning_rate_with_which_nothing_is_learnt(
    subject: SanityCase, lr: float, way: str
) -> None:
    planted = replace(subject, options=replace(OPTIONS, lr=lr))
    assert_wrong("one batch", planted, f"lr={lr:g}", way)


def test_equal_images_under_several_labels(subject: SanityCase) -> None:
    planted = replace(subject, pixels=np.repeat(subject.pixels[:1], len(subject.pixels), axis=0))
    assert_wrong("one batch", planted, "Labels and images", "equal images under several labels")
    slow = replace(planted, options=replace(OPTIONS, lr=1e-6))
    assert_wrong("one batch", slow, "Nor at lr=0.001", "equal images under several labels")


def test_a_batch_that_is_learnt_slowly_gets_more_steps(subject: SanityCase) -> None:
    few = overfit_one_batch(
        subject.fresh(), subject.images, subject.labels, optimizer="adamw", lr=5e-5, steps=8
    )
    assert 8 < len(few.losses) <= 25
    none = overfit_one_batch(
        subject.fresh(), subject.images, subject.labels, optimizer="adamw", lr=1e-9, steps=8
    )
    assert len(none.losses) == 9
