"""Training a model from options: what is built, which phases follow, which weights are kept."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name

import torch
from torch import Tensor, nn

from serve.contract.digest import digest_of_json
from serve.contract.preprocess import PreprocessSpec
from train.augment.random_view import may_recolour_later, random_view, uncoloured_view
from train.data.dataset import Dataset
from train.data.image_bytes import warn_of_slow_reading
from train.data.images import LabelledImage, dataset_digest
from train.engine.callbacks import Callback
from train.engine.loop import Fitted, Phase, Scores, fit
from train.engine.plan import phase_options
from train.engine.seed import derive_seed
from train.engine.world import current_world, shard_of_rank
from train.evaluation import validator
from train.loader.sampler import draws_per_class, open_shards_of, sizes_px
from train.loader.soft_targets import ViewsWithTargets
from train.loader.views import ImageStore, TrainingViews, View, Views, pixels_of
from train.losses.objective import TrainingTask, build_objective
from train.models.checkpoint import ModelCard
from train.models.classifier import ImageClassifier, build_model, check_size
from train.models.freeze import HeadOnly, TrainAll
from train.models.weight_init import initialise
from train.options import TrainOptions, deciding

__all__ = [
    "Trained",
    "build_views",
    "fit_model",
    "lineage_of",
    "phases_of",
    "pick_device",
    "prepare_model",
    "task_views",
    "views_of",
]

PRETRAINED = "train.models.weights.pretrained:load_pretrained"  # loaded where it is asked for
HEAD = "head"  # the phase in which the classifier learns alone


@dataclass(frozen=True)
class Trained:
    """A trained model, judged on val alone.

    Args:
        model: on the device it was trained on.
        card: of the model.
        scores: val_loss and val_top1.
        kept: which weights it has, per phase: raw, ema or swa.
        candidates: scores of all that were compared, per phase.
        phases: names, in order.
    """

    model: ImageClassifier
    card: ModelCard
    scores: Scores
    kept: dict[str, str]
    candidates: dict[str, dict[str, Scores]]
    phases: list[str]


def fit_model(
    dataset: Dataset,
    options: TrainOptions,
    task: TrainingTask | None = None,
    *,
    seed: int,
    out: Path,
    callbacks: Sequence[Callback] = (),
) -> Trained:
    """Train a model without a look at the test split.

    Args:
        dataset: its train split is fitted, its val split chooses among the final weights.
        options: of the training.
        task: of the phases that train all layers; None takes the objective of the options.
        seed: of everything random.
        out: where the unfinished training is saved, and found again.
        callbacks: what plugs in, called in this order.
    """
    model = prepare_model(dataset, options, seed)
    spec = PreprocessSpec(options.eval_size_px, options.crop_pct)
    views = views_of(dataset, options, seed)
    taught = task_views(dataset, options, task, seed) if task else views
    validate = validator(
        pixels_of(dataset.root, shard_of_rank(dataset.of_split("val")), spec),
        dataset.targets("val"),
        task.val_logits if task else None,
    )
    best: tuple[Fitted, dict[str, Tensor]] | None = None
    kept: dict[str, str] = {}
    candidates: dict[str, dict[str, Scores]] = {}
    phases = phases_of(dataset, model, options, task, seed)
    lineage = lineage_of(dataset, options, seed) | dict(task.lineage if task else {})
    for phase in phases:
        shown = views if phase.name == HEAD else taught
        fitted = fit(
            phase, model, shown, validate=validate, folder=out, callbacks=callbacks, lineage=lineage
        )
        kept[phase.name], candidates[phase.name] = fitted.kept, fitted.candidates
        if phase.name == HEAD and phase is not phases[-1]:
            continue  # the next phase starts from it, better or worse
        if best is None or fitted.scores["val_loss"] < best[0].scores["val_loss"]:
            best = fitted, copy.deepcopy(model.state_dict())
        else:  # this round made it worse: the next one, and the result, start from the best
            model.load_state_dict(best[1])
    card = ModelCard.of(
        model,
        labels=dataset.labels,
        preprocess=spec,
        train_size_px=options.train_size_px,
        dataset_digest=dataset_digest(dataset.photos),
    )
    assert best is not None  # the options have at least one epoch, so there is a phase
    names = [phase.name for phase in phases]
    return Trained(model, card, best[0].scores, kept, candidates, names)


def lineage_of(dataset: Dataset, options: TrainOptions, seed: int) -> dict[str, str]:
    """Digests of what decides a training: its recipe and its images."""
    return {
        "recipe_digest": digest_of_json({"seed": seed, **deciding(options)}),
        "dataset_digest": dataset_digest(dataset.photos),
    }


def prepare_model(dataset: Dataset, options: TrainOptions, seed: int) -> ImageClassifier:
    """A model before its first step: built, initialised, pretrained weights loaded, on its device.

    Raises:
        UsageError: the architecture cannot be built, or not for these sizes.
        CheckpointError: the weights are missing or do not fit.
    """
    torch.manual_seed(derive_seed(seed, "weights"))
    model = build_model(
        options.arch,
        len(dataset.labels),
        size_px=options.eval_size_px,
        drop_rate=options.drop_rate,
        drop_path_rate=options.drop_path_rate,
        head=options.head,
        bilinear_dim=options.bilinear_dim,
    )
    check_size(model, options.train_size_px)
    initialise(model, options.init)
    if options.weights != "none":
        resolve_name(PRETRAINED)(model, options.weights)
    device = pick_device()
    # On CPUs the pixels' own layout, (N, H, W, 3), already makes the features channels-last.
    layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
    return model.to(device).to(memory_format=layout)


def phases_of(
    dataset: Dataset,
    model: ImageClassifier,
    options: TrainOptions,
    task: TrainingTask | None,
    seed: int,
) -> list[Phase]:
    """The classifier alone where asked for, then all layers, then again from the best weights."""
    counts = draws_per_class(dataset.targets("train"), options.balance_limit)
    labels_only = build_objective(options, counts=counts, num_features=model.num_features)
    if isinstance(labels_only, nn.Module):
        labels_only.to(model.device)
    plan = phase_options(options, seed)
    phases = []
    if options.head_epochs:
        head = replace(
            plan, epochs=options.head_epochs, lr=options.head_lr, swa_epochs=0, mix_off_epochs=0
        )
        phases.append(Phase(HEAD, labels_only, HeadOnly(), head))
    if not options.epochs:
        return phases
    objective = task.objective if task else labels_only
    if task and task.view_px:
        plan = replace(plan, sizes_px=(task.view_px,))
    policy = TrainAll(options.freeze_stages)
    phases.append(Phase("all", objective, policy, plan))
    for number in range(1, options.restarts + 1):
        again = replace(plan, seed=derive_seed(seed, "restart", number))
        phases.append(Phase(f"again-{number}", objective, policy, again))
    return phases


def views_of(
    dataset: Dataset, options: TrainOptions, seed: int, unlabelled: Sequence[LabelledImage] = ()
) -> TrainingViews:
    """Random views of the training images, at the training size."""
    augment = options.augment
    later = pick_device().type == "cuda" and may_recolour_later(augment)
    draw = uncoloured_view if later else random_view
    view: View = lambda pixels, size_px, rng: draw(pixels, size_px, augment, rng)  # noqa: E731
    # Twice the view's side leaves the smallest usual crop with no fewer pixels than the view.
    largest = max(sizes_px(options.train_size_px, augment.multi_scale))
    warn_of_slow_reading(dataset.root, open_shards_of(options.batch_size))
    return build_views(dataset, view, keep_px=2 * largest, seed=seed, unlabelled=unlabelled)


def task_views(dataset: Dataset, options: TrainOptions, task: TrainingTask, seed: int) -> Views:
    """As `views_of`, with what a task adds; an image's view is the same at another side."""
    larger = replace(options, train_size_px=max(options.train_size_px, task.view_px))
    views = views_of(dataset, larger, seed, task.unlabelled)
    if task.soft_targets is None:
        return views
    return ViewsWithTargets(views, task.soft_targets, len(dataset.labels))


def build_views(
    dataset: Dataset,
    view: View,
    *,
    keep_px: int,
    seed: int,
    unlabelled: Sequence[LabelledImage] = (),
) -> TrainingViews:
    """Views of the training images by any function of (image, side, generator).

    Args:
        dataset: whose train split is viewed.
        view: draws a view.
        keep_px: as `ImageStore`.
        seed: of all views.
        unlabelled: images with absolute paths, which come after the others.
    """
    photos = [*dataset.of_split("train"), *unlabelled]
    store = ImageStore(dataset.root, photos, keep_px=keep_px, cache_mib=dataset.cache_mib)
    return TrainingViews(store, photos, dataset.labels, view, seed)


def pick_device() -> torch.device:
    """The first GPU where there is one, for a rank among others its own, else the CPU."""
    if current_world().world_size > 1 and torch.cuda.is_available():
        return torch.device("cuda", current_world().local_rank)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
