"""Whether a training can work at all, found out within a minute: each check is one line of words.

Every check is a function of a `SanityCase`, so that a test can plant the fault it must find.

Source of the idea: Karpathy 2019, "A Recipe for Training Neural Networks", section 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from train.data.dataset import Dataset
from train.evaluation import predict_logits
from train.extras.sanity.case import SanityCase, sanity_case_of
from train.options import TrainOptions

__all__ = ["CHECKS", "Check", "check", "run_sanity"]

MEAN_LIMIT, STD_LIMITS = 2.0, (0.1, 3.0)  # of normalised channels; 0 and 1 on ImageNet
LEVELS = 12.0  # of 255: colours nearer than this are alike
JUMP = 10.0  # times the first loss: a batch's loss never rises so far at a rate that is right
USUAL_LR = {"adamw": 1e-3, "sgd": 3e-2}


@dataclass(frozen=True)
class Check:
    """One question and its answer.

    Args:
        name: two or three words.
        ok: whether it is as it should be.
        words: what was found; where it is wrong, what that means and what to do.
    """

    name: str
    ok: bool
    words: str


Answer = tuple[bool, str]


def run_sanity(dataset: Dataset, options: TrainOptions, *, seed: int) -> list[Check]:
    """Check a training before it is run; changes nothing.

    Args:
        dataset: its train split is looked at.
        options: of the training.
        seed: of the run.

    Raises:
        StillroomError: the model cannot be built, or its weights cannot be loaded.
    """
    subject = sanity_case_of(dataset, options, seed)
    return [check(name, subject) for name in CHECKS]


def check(name: str, subject: SanityCase) -> Check:
    """Answer one of `CHECKS`."""
    ok, words = CHECKS[name](subject)
    return Check(name, ok, words)


def _shapes(subject: SanityCase) -> Answer:
    images, labels = subject.images, subject.labels
    size, classes = subject.options.train_size_px, len(subject.names)
    wanted = (len(labels), size, size, 3)
    if tuple(images.shape) != wanted or images.dtype != torch.uint8:
        return (
            False,
            f"Images are {_kind(images)}; expected {wanted} uint8: see train.augment.random_view.",
        )
    if labels.dtype != torch.int64 or int(labels.min()) < 0 or int(labels.max()) >= classes:
        low, high = int(labels.min()), int(labels.max())
        return False, f"Labels {low} to {high} {labels.dtype}: expected int64, 0 to {classes - 1}."
    logits = subject.logits
    if logits.shape != (len(labels), classes) or not np.isfinite(logits).all():
        bad = "" if np.isfinite(logits).all() else ", not all finite"
        return False, f"Logits are {logits.shape}{bad}; expected ({len(labels)}, {classes})."
    return True, f"Images {_kind(images)} -> logits {tuple(logits.shape)}."


def _label_order(subject: SanityCase) -> Answer:
    names = subject.names
    if list(names) != sorted(set(names)):
        return False, f"Class names are not sorted: {', '.join(names[:4])}. Build the audit again."
    targets = [names[int(target)] for target in subject.views.targets]
    wrong = [i for i, photo in enumerate(subject.photos) if photo.label != targets[i]]
    if wrong:
        photo, target = subject.photos[wrong[0]], targets[wrong[0]]
        return False, (
            f"{len(wrong)} of {len(targets)} images carry the number of another class: "
            f"{photo.path} is {photo.label}, trained as {target}."
        )
    return True, f"{len(names)} classes in sorted order, 0 = {names[0]}."


def _normalisation(subject: SanityCase) -> Answer:
    reached = subject.reached
    means, stds = reached.mean((0, 2, 3)).tolist(), reached.std((0, 2, 3)).tolist()
    found = f"channel means {_three(means)}, standard deviations {_three(stds)}"
    low, high = STD_LIMITS
    if max(map(abs, means)) > MEAN_LIMIT or min(stds) < low or max(stds) > high:
        return False, (
            f"The network sees {found}; expected about 0 and 1. The pixels are not normalised, "
            "or all images are nearly of one colour."
        )
    model = subject.model
    config: Any = model.backbone.pretrained_cfg
    if (model.mean, model.std) != (tuple(config["mean"]), tuple(config["std"])):
        return False, (
            f"Normalised by {model.mean} and {model.std}; the weights were trained with "
            f"{tuple(config['mean'])} and {tuple(config['std'])}."
        )
    return True, f"The network sees {found}."


def _colours(subject: SanityCase) -> Answer:
    seen, served = subject.seen_colours, subject.pixels.mean((1, 2))
    own = _distance(seen, served)
    swapped = _distance(seen[:, ::-1], served)
    if own > LEVELS and swapped < max(0.5 * own, min(0.8 * own, LEVELS)):
        return False, (
            f"Training views and the serving preprocess have red and blue swapped: mean colours "
            f"{own:.0f} levels apart, {swapped:.0f} after a swap. One of them reads BGR."
        )
    centred = served - served.mean(0) + seen.mean(0)  # what all views have in common is not a sign
    near, others = _distance(seen, centred), _distance(seen, np.roll(centred, 1, axis=0))
    if others > LEVELS and near > 0.9 * others:
        return False, (
            f"Training views are not of the images they are listed as: {near:.0f} levels from "
            f"their own colours, {others:.0f} from those of another."
        )
    shift = float(np.abs((seen - served).mean(0)).max())
    if shift > 3 * LEVELS:
        return False, (
            f"Training views are {shift:.0f} levels off in mean colour from what is served: "
            "weaken augment, or the scale of pixels differs."
        )
    return True, f"Training views and served pictures are {own:.0f} levels of 255 apart in colour."


def _first_loss(subject: SanityCase) -> Answer:
    expected, found = math.log(len(subject.names)), subject.first_loss(subject.fresh())
    words = f"{found:.2f} at step 0, ln {len(subject.names)} = {expected:.2f}"
    limit = 0.25 + 0.25 * expected
    if found > expected + limit or not math.isfinite(found):
        return False, (
            f"Loss {words}: before it learnt anything the classifier is sure of wrong predictions. "
            "Its start is too large: set init=xavier, or take pretrained weights."
        )
    if found < expected - limit:
        if subject.knows_classes:
            return True, f"Loss {words}: the weights know these classes already."
        return False, f"Loss {words}: the answer is in the input, or few classes in the batch."
    return True, f"Loss {words}."


def _same_seed(subject: SanityCase) -> Answer:
    first, again = subject.first_loss(subject.fresh()), subject.first_loss(subject.rebuilt())
    if not math.isclose(first, again, rel_tol=1e-4):
        return False, f"The same seed gives a first loss of {first:.5f}, then {again:.5f}."
    if not torch.equal(subject.images, subject.batch()[0]):
        return False, "The same seed gives other views of the same images."
    return True, f"The same seed gives the same views and the same first loss, {first:.4f}."


def _batch_norm(subject: SanityCase) -> Answer:
    model = subject.fresh()
    norms = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and (module.weight is None or module.weight.requires_grad)
    }
    if not norms:
        return True, "The model has no batch norm that trains."
    before = _statistics(norms)
    with torch.no_grad():
        model(subject.images.to(model.device))
    after = _statistics(norms)
    if still := [name for name in norms if torch.equal(before[name], after[name])]:
        return False, (
            f"In training {len(still)} of {len(norms)} batch norms do not move, first {still[0]}: "
            "frozen, in evaluation mode, or momentum 0."
        )
    predict_logits(model, subject.pixels)
    if moved := [n for n, s in _statistics(norms).items() if not torch.equal(after[n], s)]:
        return False, (
            f"In evaluation {len(moved)} batch norms move, first {moved[0]}: evaluation would "
            "change the model."
        )
    return True, f"{len(norms)} batch norms move in training and stand still in evaluation."


def _neighbours(subject: SanityCase) -> Answer:
    together = subject.logits
    pairs = [np.stack([image, image]) for image in subject.pixels]  # beside none but itself
    alone = np.stack([predict_logits(subject.model, pair)[0] for pair in pairs])
    difference = float(np.abs(together - alone).max())
    if difference > 1e-3 * max(1.0, float(np.abs(together).max())):
        return False, (
            f"In evaluation an answer depends on the rest of its batch (logits differ by "
            f"{difference:.2g}): a batch norm uses the batch, so serving would differ."
        )
    return True, "An image gets the same answer alone and in a batch."


def _differing(subject: SanityCase) -> Answer:
    spread, size = float(np.ptp(subject.logits, axis=0).max()), float(np.abs(subject.logits).max())
    if not spread > 1e-6 * size:
        return False, (
            "All images get the same logits: a layer lets nothing through, or the pixels are lost."
        )
    return True, f"Different images get different logits (range {spread:.2g})."


def _gradients(subject: SanityCase) -> Answer:
    silent = subject.memorised.silent
    learning = sum(parameter.requires_grad for parameter in subject.model.parameters())
    if silent:
        return False, (
            f"No gradient reaches {len(silent)} of {learning} parameters that should learn, "
            f"first {silent[0]}: a layer is unused or cut off."
        )
    return True, f"A gradient reaches all {learning} parameters that learn."


def _memorises(subject: SanityCase) -> Answer:
    options, result = subject.options, subject.memorised
    lr = f"lr={options.lr:g}"
    count = len(subject.labels)
    first, last, steps = result.losses[0], result.losses[-1], len(result.losses) - 1
    highest = max(result.losses) / max(first, math.log(len(subject.names)))
    if result.ok and highest > JUMP:
        return False, (
            f"The loss jumped to {max(result.losses):.3g} while one batch of {count} images was "
            f"overfitted at {lr}: lower lr."
        )
    if result.ok:
        words = f"Overfits one batch of {count} images in {steps} steps at {lr}"
        return True, f"{words}, loss {last:.3f}."
    words = f"Does not overfit one batch of {count} images: loss {first:.2f} -> {last:.2f} in "
    words += f"{steps} steps at {lr}. "
    usual = USUAL_LR[options.optimizer]
    why = "Labels"
    if not usual / 4 < options.lr < usual * 4:
        if subject.overfit_one_batch(usual).ok:
            way = "raise" if options.lr < usual else "lower"
            return False, f"{words}At lr={usual:g} they are: {way} lr."
        why = f"Nor at lr={usual:g}: labels"
    return False, (
        f"{words}{why} and images do not fit (equal images under several labels?), or too many "
        "layers are frozen."
    )


CHECKS: dict[str, Callable[[SanityCase], Answer]] = {
    "shapes": _shapes,
    "label order": _label_order,
    "normalisation": _normalisation,
    "colours": _colours,
    "first loss": _first_loss,
    "same seed": _same_seed,
    "batch norm": _batch_norm,
    "one by one": _neighbours,
    "answers": _differing,
    "gradients": _gradients,
    "one batch": _memorises,
}


def _kind(images: Tensor) -> str:
    return f"{tuple(images.shape)} {str(images.dtype).removeprefix('torch.')}"


def _three(values: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def _distance(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """Mean over images of the largest difference of a channel."""
    return float(np.abs(one - two).max(1).mean())


def _statistics(norms: dict[str, _BatchNorm]) -> dict[str, Tensor]:
    return {
        name: torch.cat([norm.running_mean, norm.running_var]).clone()
        for name, norm in norms.items()
        if norm.running_mean is not None and norm.running_var is not None
    }
