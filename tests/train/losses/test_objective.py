from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serve.contract.errors import DatasetError
from tests.train.toy import SIZE_PX, fast, toy_model
from train.augment.mixup import Mix
from train.extras.center_loss import CenterLoss
from train.losses.label_loss import LabelLoss, class_weights, focal_loss
from train.losses.objective import CrossEntropy, Supervised, Term, build_objective
from train.options import LossOptions

IMAGES = torch.randint(
    0, 256, (6, SIZE_PX, SIZE_PX, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
COUNTS = [10, 20, 30]
WIDTH = 7


class Featured(nn.Module):
    """A model with features before its classifier; it counts how it was called."""

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(1)
        self.first = nn.Parameter(torch.randn(3 * SIZE_PX**2, WIDTH, generator=random) / 4e3)
        self.last = nn.Parameter(torch.randn(WIDTH, 3, generator=random))
        self.asked: list[bool] = []

    def forward(
        self, images: Tensor, with_features: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        self.asked.append(with_features)
        features = images.flatten(1).float() @ self.first
        logits = features @ self.last
        return (logits, features) if with_features else logits


# ---- plain cross-entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_that_of_torch(smoothing: float) -> None:
    model = toy_model()
    output = CrossEntropy(smoothing)(model, IMAGES, LABELS)
    expected = F.cross_entropy(model(IMAGES), LABELS, label_smoothing=smoothing)
    assert output.loss.item() == expected.item()
    assert set(output.terms) == {"ce"}
    assert not output.terms["ce"].requires_grad
    assert output.logits.shape == (6, 3)


def test_cross_entropy_takes_mixed_targets() -> None:
    model = toy_model()
    torch.manual_seed(0)
    images, targets = Mix(3, mixup=1.0)(IMAGES, LABELS)
    expected = -(targets * model(images).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(CrossEntropy()(model, images, targets).loss, expected)


# ---- a sum of terms


def test_the_default_objective_is_plain_cross_entropy_to_the_last_bit() -> None:
    model = toy_model()
    objective = build_objective(fast(label_smoothing=0.1), counts=COUNTS, num_features=WIDTH)
    output, plain = objective(model, IMAGES, LABELS), CrossEntropy(0.1)(model, IMAGES, LABELS)
    assert output.loss.equal(plain.loss)
    gradients = [
        torch.autograd.grad(loss, model.backbone.get_classifier().weight)[0]
        for loss in (output.loss, plain.loss)
    ]
    assert gradients[0].equal(gradients[1])
    assert set(output.terms) == {"ce"}
    assert objective.state_dict() == {}


def test_the_loss_is_the_weighted_sum_of_the_terms_in_the_log() -> None:
    loss = LossOptions(kind="focal", class_weights="effective", centre_weight=0.25)
    objective = build_objective(fast(loss=loss), counts=COUNTS, num_features=WIDTH)
    model = Featured()
    output = objective(model, IMAGES, LABELS)
    assert set(output.terms) == {"focal", "centre"}
    assert not any(term.requires_grad for term in output.terms.values())
    expected = output.terms["focal"] + 0.25 * output.terms["centre"]
    torch.testing.assert_close(output.loss.detach(), expected)
    weights = torch.from_numpy(class_weights(COUNTS, "effective")).float()
    focal = focal_loss(model(IMAGES), LABELS, gamma=2.0, weights=weights)
    torch.testing.assert_close(output.terms["focal"], focal.detach())
    output.loss.backward()
    assert model.first.grad.abs().sum() > 0


def test_the_weight_of_a_term_scales_its_share_of_the_gradient() -> None:
    def gradient(weight: float) -> Tensor:
        model = Featured()
        terms = {"ce": Term(LabelLoss()), "centre": Term(CenterLoss(3, WIDTH), weight, "features")}
        return torch.autograd.grad(Supervised(terms)(model, IMAGES, LABELS).loss, model.first)[0]

    share = gradient(1.0) - gradient(0.0)
    torch.testing.assert_close(gradient(3.0) - gradient(0.0), 3 * share, rtol=1e-3, atol=1e-5)
    assert share.abs().sum() > 0


def test_features_are_asked_for_only_where_a_term_reads_them_and_once() -> None:
    model = Featured()
    build_objective(fast(), counts=COUNTS, num_features=WIDTH)(model, IMAGES, LABELS)
    centred = fast(loss=LossOptions(centre_weight=1e-3))
    build_objective(centred, counts=COUNTS, num_features=WIDTH)(model, IMAGES, LABELS)
    assert model.asked == [False, True]


def test_a_further_term_is_a_further_entry() -> None:
    class Confidence(nn.Module):
        def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
            del labels
            return logits.square().mean()

    terms = {"ce": Term(LabelLoss()), "confidence": Term(Confidence(), 0.5)}
    output = Supervised(terms)(Featured(), IMAGES, LABELS)
    assert set(output.terms) == {"ce", "confidence"}
    torch.testing.assert_close(
        output.loss.detach(), output.terms["ce"] + 0.5 * output.terms["confidence"]
    )


def test_mixed_targets_reach_every_term() -> None:
    loss = LossOptions(kind="focal", class_weights="inverse", centre_weight=0.1)
    torch.manual_seed(0)
    images, targets = Mix(3, cutmix=1.0)(IMAGES, LABELS)
    outputs = []
    for labels in (targets, LABELS):
        objective = build_objective(fast(loss=loss), counts=COUNTS, num_features=WIDTH)
        objective(Featured(), IMAGES, LABELS)  # moves the centres apart
        outputs.append(objective(Featured(), images, labels))
    for name in ("focal", "centre"):
        assert outputs[0].terms[name].isfinite()
        assert not outputs[0].terms[name].equal(outputs[1].terms[name]), name


def test_the_centres_are_part_of_the_state_and_resume_where_they_were() -> None:
    options = fast(loss=LossOptions(centre_weight=0.1))
    one, two = (build_objective(options, counts=COUNTS, num_features=WIDTH) for _ in range(2))
    model = Featured()
    one(model, IMAGES, LABELS)
    two.load_state_dict(one.state_dict())
    assert list(one.state_dict()) == ["losses.centre.centres"]
    assert one(model, IMAGES, LABELS).loss.equal(two(model, IMAGES, LABELS).loss)


def test_focal_loss_without_gamma_is_logged_as_what_it_is() -> None:
    loss = LossOptions(kind="focal", focal_gamma=0.0)
    objective = build_objective(fast(loss=loss), counts=COUNTS, num_features=WIDTH)
    assert set(objective(Featured(), IMAGES, LABELS).terms) == {"ce"}


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at least one"):
        Supervised({})
    for weight in (-1.0, float("nan")):
        with pytest.raises(ValueError, match=f"weight = {weight}: expected 0 or more"):
            Term(LabelLoss(), weight)
    weighted = fast(loss=replace(LossOptions(), class_weights="inverse"))
    with pytest.raises(DatasetError, match="Class number 2 has no image"):
        build_objective(weighted, counts=[4, 4, 0], num_features=WIDTH)
