"""What a sweep works on: a run's images and recipe, without the test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from serve.contract.digest import digest_of_json
from serve.contract.errors import DatasetError, RecipeError
from stillroom.command_text import command_text
from stillroom.run.execution import DEFAULT_RECIPE, Request, run_stages
from stillroom.run.folder import RunFolder
from stillroom.run.pipeline import PIPELINE
from stillroom.run.recipe import Recipe, load_recipe
from train.data.audit.dataset_audit import refuse_unreadable
from train.data.dataset import Dataset
from train.data.source import Origin, name_of, open_source, origin_of, root_of

__all__ = ["StudyData", "judged_without_test", "open_study_data"]

OF_THE_AUDIT = ("data.", "name=", "seed=")  # overrides that a new run is told


@dataclass(frozen=True)
class StudyData:
    """What is trained and judged.

    Args:
        run: where the results go.
        recipe: with the overrides of this call.
        dataset: the train and val images; no sweep ever holds the others.
        held_back: number of test images, which stay unopened.
    """

    run: RunFolder
    recipe: Recipe
    dataset: Dataset
    held_back: int

    @property
    def digest(self) -> str:
        """Of the images with their splits."""
        return digest_of_json([[p.path, p.label, p.sha256, p.split] for p in self.dataset.photos])


def open_study_data(target: Path, recipe: str | None, overrides: Sequence[str]) -> StudyData:
    """Open a run, or the run of a folder of images; audit it where that is not done.

    Args:
        target: a run folder, or images, whose run is then runs/<name>.
        recipe: a file or a shipped name; None takes the run's own, or the default.
        overrides: key=value each; they hold for the sweep and leave the run's recipe alone.

    Raises:
        RecipeError: the recipe reads the images otherwise than the run does.
        StillroomError: images or recipe cannot be used.
    """
    is_run = (target / "run.json").is_file()
    run = RunFolder(target if is_run else Path("runs") / name_of(origin_of(str(target))))
    record = run.record()
    photos = origin_of(record["photos"]) if is_run else origin_of(str(target)).resolve()
    own = load_recipe(run.recipe_path) if record else None
    source: str | Path = recipe or (run.recipe_path if own else DEFAULT_RECIPE)
    asked = load_recipe(source, overrides)
    if own is not None:
        _refuse_other_data(run, own, asked)
    if not _is_audited(run, photos, own or asked):
        kept = tuple(entry for entry in overrides if entry.startswith(OF_THE_AUDIT))
        new = Request(run.path, photos, recipe, kept, "audit")
        run_stages(PIPELINE, Request(run.path, photos, until="audit") if own else new)
    data = run.stage(PIPELINE["audit"].folder)
    refuse_unreadable(data, asked.data)
    dataset = Dataset.open(root_of(photos), data / "index.csv", asked.data.cache_mib)
    kept_dataset = judged_without_test(dataset)
    return StudyData(run, asked, kept_dataset, len(dataset.photos) - len(kept_dataset.photos))


def judged_without_test(dataset: Dataset) -> Dataset:
    """A dataset without its test images: what is not there cannot be tuned on.

    Raises:
        DatasetError: there are no validation images.
    """
    kept = [photo for photo in dataset.photos if photo.split in ("train", "val")]
    if not any(photo.split == "val" for photo in kept):
        raise DatasetError(
            "A sweep is judged on validation images, and there are none.",
            "Set data.val_fraction above 0, or add a val split.",
        )
    return replace(dataset, photos=kept)


def _is_audited(run: RunFolder, photos: Origin, recipe: Recipe) -> bool:
    audit = PIPELINE["audit"]
    key = PIPELINE.key(audit, recipe, run, open_source(photos, recipe.data).fingerprint())
    return run.problem(audit.folder, key) is None


def _refuse_other_data(run: RunFolder, own: Recipe, asked: Recipe) -> None:
    """Two ways to split the images of one run would make its stages stale."""
    options = PIPELINE["audit"].options
    if options(own) != options(asked):
        raise RecipeError(
            f"The data section differs from that of {run.path}: {asked.data} and {own.data}.",
            "Leave data.* out, or audit the images into another run: "
            + command_text(
                *("audit", run.photos_or("PHOTOS"), "--run", f"{run.path}-2"), "data.KEY=VALUE"
            ),
        )
