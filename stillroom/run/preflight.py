"""What a later stage would refuse, found before the first one is trained.

`check_needs` looks at the recipe and this machine alone, before the images are read;
`check_stage` at what the audit found, before the first training. Both are of one stage, and cheap
beside it.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from export.options import REDUCED
from loadtest.errors import LoadTestError
from loadtest.plan.load_plan import LoadPlan
from loadtest.plan.slo import slo_from_text
from serve.contract.errors import CheckpointError, DatasetError, RecipeError, RunError, UsageError
from serve.runners.open import BACKENDS
from serve.settings import Settings

if TYPE_CHECKING:
    from stillroom.run.recipe import Recipe
    from stillroom.run.stage_graph import Context
    from train.data.dataset import Dataset
    from train.models.classifier import ImageClassifier
    from train.options import TrainOptions

__all__ = ["check_needs", "check_stage"]

TRAINED = ("teacher", "student", "baseline")
MODULES = {
    **dict.fromkeys((*TRAINED, "fixres", "ablation"), ("torch", "timm", "safetensors", "sklearn")),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    **dict.fromkeys(REDUCED, ("onnx", "onnxruntime")),
    "latency": ("onnx", "onnxscript", "onnxruntime"),
    "http": ("bentoml", "httpx", "onnxruntime"),
    "loadtest": ("locust", "jinja2", "bentoml", "onnxruntime"),
    "report": ("matplotlib", "jinja2", "scipy"),
}
NOT_FILES = ("none", "hub", "package")
BYTES_A_WEIGHT = 28  # of a training's saved state: weights, averages, the optimiser's moments
BYTES_KEPT = 4


def check_needs(stage: str, recipe: Recipe) -> None:
    """Check the recipe, and what is installed, for one stage.

    Raises:
        StillroomError: something is not installed, or a value of the recipe cannot work.
    """
    missing = [name for name in MODULES.get(stage, ()) if not importlib.util.find_spec(name)]
    if missing:
        raise UsageError(
            f"The stage {stage} needs {', '.join(missing)}, which "
            f"{'is' if len(missing) == 1 else 'are'} not installed.",
            'From a checkout: pip install ".[cpu,train,loadtest]"; or stop before it with --until.',
        )
    if stage in TRAINED:
        _check_weights(recipe, stage)
    if stage == "student":
        _check_teachers(recipe)
    if stage == "http":
        _check_service(recipe)
    if stage == "loadtest":
        _check_load(recipe)


def check_stage(stage: str, context: Context) -> None:
    """Check one stage against the audited images.

    Raises:
        StillroomError: what the stage itself would say, with the key of the recipe.
    """
    from train.data.audit.dataset_audit import refuse_unreadable

    if stage in TRAINED:
        refuse_unreadable(context.run.stage("data"), context.recipe.data)
        _check_training(stage, context)
    elif stage in REDUCED:
        _check_reduced(stage, context)
    elif stage in CHECKS:
        CHECKS[stage](context)


def _section(stage: str) -> str:
    return "teacher" if stage == "teacher" else "student"


def _check_weights(recipe: Recipe, stage: str) -> None:
    key = _section(stage)
    source = getattr(recipe, key).weights
    if source not in NOT_FILES and not Path(source).is_file():
        raise CheckpointError(
            f"{key}.weights = {source!r}: no such file.",
            "Use none, hub, package or a .safetensors.",
        )


def _check_teachers(recipe: Recipe) -> None:
    from compress.options import CHECKPOINT

    for folder in map(Path, recipe.distil.more_teachers):
        if lacking := [name for name in CHECKPOINT if not (folder / name).is_file()]:
            raise CheckpointError(
                f"distil.more_teachers: {folder} has no {lacking[0]}.",
                "Name the teacher's folder of a finished run, such as runs/other/teacher.",
            )
    if recipe.distil.unlabelled and not Path(recipe.distil.unlabelled).is_dir():
        raise DatasetError(
            f"distil.unlabelled = {recipe.distil.unlabelled!r}: no such folder.",
            "Name a folder of images.",
        )


def _check_service(recipe: Recipe) -> None:
    serve = recipe.serve
    if serve.backend not in ("auto", *BACKENDS):
        raise RecipeError(
            f"serve.backend = {serve.backend!r}: expected auto or one of {', '.join(BACKENDS)}."
        )
    Settings(
        artifact=Path(),
        threads=serve.threads,
        decode_threads=serve.decode_threads,
        max_batch=serve.max_batch,
    )


def _check_load(recipe: Recipe) -> None:
    options = recipe.loadtest
    try:
        slo_from_text(options.slo)
        LoadPlan(url="http://127.0.0.1", users=options.users, duration_s=options.duration_s)
    except LoadTestError as error:
        said = str(error)
        for name in ("slo", "users", "duration_s"):
            said = said.replace(f"--{name.replace('_', '-')} ", f"loadtest.{name} ")
        raise RecipeError(f"The load test would refuse it: {said}.") from error


def _dataset(context: Context) -> Dataset:
    from train.data.dataset import Dataset

    return Dataset.open(context.photos, context.run.stage("data") / "index.csv", 0)


def _check_training(stage: str, context: Context) -> None:
    from compress.stage import check_options

    key, dataset = _section(stage), _dataset(context)
    options = getattr(context.recipe, key)
    if not (stage == "student" and context.recipe.distil.unlabelled):  # those would count, too
        _check_batch(dataset, options.batch_size, options.balance_limit, f"{key}.batch_size")
    if stage == "student":
        check_options(options, context.recipe.distil)
    if stage != "baseline":  # the student's model again
        _check_disk(context, _model(dataset, options, key), key)


def _check_fixres(context: Context) -> None:
    dataset, options = _dataset(context), context.recipe.fixres
    _check_batch(dataset, options.batch_size, 0.0, "fixres.batch_size")
    _model(dataset, context.recipe.student, "student", test_size_px=options.test_size_px)


def _check_export(context: Context) -> None:
    if context.recipe.export.strict:
        _check_images(context, "With export.strict, fp32")


def _check_reduced(precision: str, context: Context) -> None:
    from export.parity.image_choice import calibration_images, gate_images

    options, dataset = context.recipe.export, _dataset(context)
    _check_images(context, precision)
    gate = gate_images(dataset, options.parity.min_images)
    if precision != "fp16" and not calibration_images(dataset, 1, gate):
        raise DatasetError(
            f"{precision} is calibrated on training images that its gate does not look at, "
            f"and all {len(gate)} of train and val are in the gate.",
            f"Give more images, or take {precision} out of export.precisions.",
        )


def _check_served(context: Context) -> None:
    if not _dataset(context).of_split("test"):
        raise DatasetError(
            "No test image: nothing could be sent to the service.",
            "Set data.test_fraction, or put images into the test folder.",
        )


CHECKS: dict[str, Callable[[Context], None]] = {
    "fixres": _check_fixres,
    "export": _check_export,
    "http": _check_served,
    "loadtest": _check_served,
}


def _check_images(context: Context, why: str) -> None:
    """A gate that publishes nothing unproven needs so many images of val and train."""
    from export.parity.image_choice import gate_images

    least = context.recipe.export.parity.min_images
    if (found := len(gate_images(_dataset(context), least))) < least:
        raise DatasetError(
            f"{why} is published only where {least} images prove it, and val and train have "
            f"{found}.",
            "Give more images, leave it out, or lower export.parity.min_images.",
        )


def _check_batch(dataset: Dataset, size: int, balance_limit: float, key: str) -> None:
    from train.loader.sampler import BatchSampler

    targets = dataset.targets("train")
    if not BatchSampler(targets, size, 1, 0, balance_limit=balance_limit).per_epoch:
        raise DatasetError(
            f"{key} = {size}: {len(targets)} training images are fewer than one batch.",
            f"Lower it: {key}={max(1, len(targets) // 2)}",
        )


def _model(
    dataset: Dataset, options: TrainOptions, key: str, *, test_size_px: int = 0
) -> ImageClassifier:
    """The model as a training would begin with it, tried at the size that it is judged at."""
    from train.models.classifier import build_model, check_size
    from train.models.weights.pretrained import load_pretrained

    try:
        model = build_model(
            options.arch,
            len(dataset.labels),
            size_px=options.train_size_px,
            drop_rate=options.drop_rate,
            drop_path_rate=options.drop_path_rate,
            head=options.head,
            bilinear_dim=options.bilinear_dim,
        )
        if not test_size_px:
            load_pretrained(model, options.weights)
        check_size(model, test_size_px or options.eval_size_px)
    except (UsageError, CheckpointError) as error:
        error.message = f"{key}: {error.message}"
        raise
    return model


def _check_disk(context: Context, model: ImageClassifier, key: str) -> None:
    from train.models.classifier import count_parameters

    needed = (BYTES_A_WEIGHT + BYTES_KEPT) * count_parameters(model)
    free = shutil.disk_usage(context.run.path).free
    if free < needed:
        raise RunError(
            f"{key}: the training may save {needed / 2**20:.0f} MiB below {context.run.path}, "
            f"and {free / 2**20:.0f} are free.",
            "Make room, or choose another folder with --run.",
        )
