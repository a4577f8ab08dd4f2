from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compress.options import DistilOptions
from compress.stage import distil_student
from serve.contract.errors import Interrupted, UsageError
from tests.train.fits import SignalAt
from tests.train.toy import SIZE_PX, draw, fast, lively, toy_model, write_checkpoint
from train.data.unlabelled import Unlabelled, open_unlabelled
from train.engine.callbacks import OnEpoch
from train.models.checkpoint import load_checkpoint
from train.options import AugmentOptions
from train.stage import Dataset

FILES = ("checkpoint.safetensors", "metrics.jsonl", "predictions.csv", "distillation.json")


@pytest.fixture(scope="module")
def teachers(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folders = [tmp_path_factory.mktemp(f"teacher{seed}") for seed in (2, 3)]
    for seed, folder in enumerate(folders, 2):
        write_checkpoint(folder, dataset, lively(toy_model(seed)))
    return folders


@pytest.fixture(scope="module")
def unlabelled(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Unlabelled:
    folder = tmp_path_factory.mktemp("pool")
    for i in range(20):
        draw(i % 3, 700 + i).save(folder / f"{i}.jpg", quality=92)
    return open_unlabelled(folder, dataset)


def _records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_agreement_is_reported_at_every_evaluation(
    dataset: Dataset, teachers: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    distil = DistilOptions(more_teachers=(str(teachers[1]),))
    heard: list[dict[str, Any]] = []
    metrics = distil_student(
        dataset,
        teachers[0],
        fast(),
        distil,
        seed=0,
        out=tmp_path,
        callbacks=[OnEpoch(heard.append)],
    )
    assert [0 <= r["val_agreement"] <= 1 and r["val_kl"] > 0 for r in _records(tmp_path)] == [1, 1]
    assert heard == _records(tmp_path)
    assert "  as the teacher " in capsys.readouterr().err
    report = json.loads((tmp_path / "distillation.json").read_bytes())
    keys = ("val_agreement", "val_kl", "teacher_agreement", "teacher_kl")
    assert report["agreement"] == {key: metrics[key] for key in keys}
    assert [len(t["checkpoint_sha256"]) for t in report["teachers"]] == [64, 64]
    assert report["teacher_logits"] == "online"
    candidates = json.loads((tmp_path / "evaluation.json").read_bytes())["training"]["candidates"]
    assert all("val_agreement" in scores for scores in candidates["all"].values())


def test_a_student_that_is_its_teacher_agrees_in_everything(
    dataset: Dataset, teachers: list[Path]
) -> None:
    from compress.teachers import open_teachers, teacher_logits
    from train.evaluation import validator

    photos = dataset.of_split("val")
    (teacher,) = open_teachers(teachers[:1], dataset)
    answers = teacher_logits([teacher], dataset.root, photos)
    from train.loader.views import pixels_of

    pixels = pixels_of(dataset.root, photos, teacher.card.preprocess)
    scores = validator(pixels, dataset.targets("val"), answers)(teacher.model)
    assert scores["val_agreement"] == 1
    assert scores["val_kl"] == pytest.approx(0, abs=1e-9)


def test_unlabelled_photographs_change_the_student_and_are_named(
    dataset: Dataset, teachers: list[Path], unlabelled: Unlabelled, tmp_path: Path
) -> None:
    outs = [tmp_path / name for name in ("without", "with", "again")]
    for out, extra in zip(outs, (None, unlabelled, unlabelled), strict=True):
        out.mkdir()
        distil_student(
            dataset, teachers[0], fast(), DistilOptions(), seed=0, out=out, unlabelled=extra
        )
    without, with_, again = outs
    assert all((with_ / name).read_bytes() == (again / name).read_bytes() for name in FILES)
    steps = [[record["step"] for record in _records(out)] for out in (without, with_)]
    assert steps == [[3, 6], [4, 8]]  # 39 images in batches of 12, then 59
    report = json.loads((with_ / "distillation.json").read_bytes())
    assert report["unlabelled"] == unlabelled.describe()
    assert report["unlabelled"]["photos"] == 20
    with (with_ / "unlabelled.csv").open() as file:
        assert [row["sha256"] for row in csv.DictReader(file)] == sorted(
            (p.sha256 for p in unlabelled.photos),
            key=[p.sha256 for p in sorted(unlabelled.photos, key=lambda p: p.path)].index,
        )
    assert not (without / "unlabelled.csv").exists()


@pytest.mark.parametrize("mode", ["mixed", "cached", "larger"])
def test_a_stopped_student_goes_on_bit_for_bit(
    dataset: Dataset,
    teachers: list[Path],
    unlabelled: Unlabelled,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
) -> None:
    options, distil = fast(), DistilOptions(more_teachers=(str(teachers[1]),))
    if mode == "mixed":
        options = fast(augment=AugmentOptions(mixup=0.5, cutmix=1.0))
    elif mode == "cached":
        distil = replace(distil, teacher_logits="cached")
    else:
        distil = replace(distil, teacher_size_px=48)

    def run(name: str) -> Path:
        out = tmp_path / name
        out.mkdir(exist_ok=True)
        distil_student(
            dataset, teachers[0], options, distil, seed=1, out=out, unlabelled=unlabelled
        )
        return out

    whole = run("whole")
    with monkeypatch.context() as patch:
        import compress.stage

        def stopping(*arguments: Any, **named: Any) -> Any:
            objective = original(*arguments, **named)
            stop = SignalAt(6)

            class Both:
                def __call__(self, model: Any, images: Any, labels: Any) -> Any:
                    classes = labels[:, :3] if labels.ndim == 2 else labels.clamp(min=0)
                    before = model.training
                    stop(model.eval(), images[:2], classes[:2])
                    model.train(before)
                    return objective(model, images, labels)

            return Both()

        original = compress.stage._objective
        patch.setattr(compress.stage, "_objective", stopping)
        with pytest.raises(Interrupted):
            run("cut")
    cut = run("cut")
    assert all((whole / name).read_bytes() == (cut / name).read_bytes() for name in FILES)


def test_a_state_of_other_teachers_is_not_gone_on_with(
    dataset: Dataset, teachers: list[Path], tmp_path: Path
) -> None:
    from serve.contract.errors import CheckpointError

    distil_student(dataset, teachers[0], fast(), DistilOptions(), seed=1, out=tmp_path)
    with pytest.raises(CheckpointError, match="lesson"):
        distil_student(dataset, teachers[1], fast(), DistilOptions(), seed=1, out=tmp_path)


def test_cached_logits_are_said_to_be_inferior(
    dataset: Dataset, teachers: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    distil = DistilOptions(teacher_logits="cached")
    distil_student(dataset, teachers[0], fast(epochs=1), distil, seed=0, out=tmp_path)
    assert "inferior to online" in capsys.readouterr().err
    report = json.loads((tmp_path / "distillation.json").read_bytes())
    assert "inferior to online" in report["teacher_logits"]


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_cached_logits_of_mixtures_are_refused(
    dataset: Dataset, teachers: list[Path], tmp_path: Path, kind: str
) -> None:
    options = fast(augment=AugmentOptions(**{kind: 0.2}))
    distil = DistilOptions(teacher_logits="cached")
    with pytest.raises(UsageError, match=f"not mixtures: .*{kind} = 0.2") as caught:
        distil_student(dataset, teachers[0], options, distil, seed=0, out=tmp_path)
    assert "teacher_logits=online" in caught.value.next_step


def test_cached_teachers_have_no_view_size() -> None:
    with pytest.raises(ValueError, match="teacher_size_px = 48: cached teachers see no views"):
        DistilOptions(teacher_logits="cached", teacher_size_px=48)


def test_views_of_many_sizes_have_no_size_for_the_teacher(
    dataset: Dataset, teachers: list[Path], tmp_path: Path
) -> None:
    options = fast(augment=AugmentOptions(multi_scale=0.3))
    with pytest.raises(UsageError, match="teacher_size_px = 48 needs views of one size"):
        distil_student(
            dataset, teachers[0], options, DistilOptions(teacher_size_px=48), seed=0, out=tmp_path
        )


@pytest.mark.parametrize("teacher_px", [24, 48])
def test_teacher_and_student_get_their_own_sizes_in_the_stage(
    dataset: Dataset,
    teachers: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    teacher_px: int,
) -> None:
    from train.models.classifier import ImageClassifier

    sides: set[tuple[bool, int]] = set()
    forward = ImageClassifier.forward

    def watched(self: ImageClassifier, images: Any, *args: Any, **kwargs: Any) -> Any:
        learns = any(p.requires_grad for p in self.parameters())
        if self.training or not learns:
            sides.add((learns, images.shape[1]))
        return forward(self, images, *args, **kwargs)

    monkeypatch.setattr(ImageClassifier, "forward", watched)
    distil = DistilOptions(teacher_size_px=teacher_px)
    distil_student(dataset, teachers[0], fast(epochs=1), distil, seed=0, out=tmp_path)
    assert (True, SIZE_PX) in sides
    assert {side for learns, side in sides if learns} == {SIZE_PX}
    assert (False, teacher_px) in sides
    assert load_checkpoint(tmp_path)[1].train_size_px == SIZE_PX
