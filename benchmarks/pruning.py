"""Structured pruning beside a smaller student of the same latency, both distilled equally long.

    uv run --with "torch-pruning>=1.6,<2" python -m benchmarks.pruning PHOTOS RUN \
        --out pruning --seeds 3 --table T.md

A student is distilled at --size; its channels are pruned by torch-pruning (arXiv:2301.12900) until
ONNX Runtime answers as fast as the same network at --rival-size does, and what is left is distilled
on by the same loop. The rival is distilled at --rival-size for as many epochs as both together. The
network as it was, at --size, stands beside them. Teacher and splits are those of RUN, a run on
PHOTOS. What is finished in --out is not done again. Test is looked at once, for the table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import numpy as np
import torch
import torch_pruning
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from compress.distil import Distillation
from compress.teachers import Teacher, open_teachers
from export.latency import measure_elsewhere
from export.onnx_graph import write_graph
from export.options import ExportOptions
from serve.contract.preprocess import PreprocessSpec
from stillroom.ablation.paired import paired_difference
from train.data.dataset import Dataset
from train.data.images import dataset_digest
from train.engine.loop import fit
from train.evaluation import predict_logits, validator
from train.fitting import phases_of, prepare_model, views_of
from train.loader.sampler import ViewKey
from train.loader.views import build_loader, pixels_of
from train.losses.objective import TrainingTask
from train.models.checkpoint import ModelCard
from train.models.classifier import ImageClassifier
from train.options import TrainOptions

OPSET = ExportOptions().opset
ROUND_TO = 8  # channels; other widths leave vector lanes idle
SCORED = 256  # images whose gradients the Taylor criterion sums
KEPT_AT_LEAST = 0.1  # of each layer's channels
CLOSE = 0.02  # of the pruning ratio, in the search for the latency


@dataclass(frozen=True)
class Setting:
    """What is compared.

    Args:
        student: of the full student; its epochs are those before pruning.
        rival_px: side of the rival, whose latency the pruned student has to have.
        further: epochs after pruning; the others train as many longer.
    """

    student: TrainOptions
    rival_px: int
    further: int

    def of_arm(self, arm: str) -> TrainOptions:
        """How an arm trains that is not pruned."""
        epochs = self.student.epochs + (0 if arm == "parent" else self.further)
        size_px = self.rival_px if arm == "smaller size" else self.student.train_size_px
        return replace(self.student, epochs=epochs, train_size_px=size_px, test_size_px=size_px)


CRITERIA = {
    "pruned by magnitude": torch_pruning.importance.GroupMagnitudeImportance,
    "pruned by Taylor": torch_pruning.importance.GroupTaylorImportance,
}
ARMS = ("as it was", "smaller size", *CRITERIA)


@dataclass(frozen=True)
class Answered:
    """A trained arm: its model, on the CPU, and what it answers.

    Args:
        model: in evaluation mode.
        card: of it.
        right: by split, (images,), whether the answer is right.
    """

    model: ImageClassifier
    card: ModelCard
    right: dict[str, NDArray[np.bool_]]


def train(
    dataset: Dataset,
    teachers: list[Teacher],
    model: ImageClassifier,
    options: TrainOptions,
    *,
    seed: int,
    folder: Path,
) -> ImageClassifier:
    """Distil into a model in place, as the student's stage does."""
    task = TrainingTask(
        Distillation(*(t.model for t in teachers), kd_weight=0.9, temperature=2.0),
    )
    views = views_of(dataset, options, seed)
    spec = PreprocessSpec(options.eval_size_px, options.crop_pct)
    validate = validator(
        pixels_of(dataset.root, dataset.of_split("val"), spec), dataset.targets("val")
    )
    folder.mkdir(parents=True, exist_ok=True)
    for phase in phases_of(dataset, model, options, task, seed):
        fit(phase, model, views, validate=validate, folder=folder)
    return model.cpu().eval()


def answers(dataset: Dataset, model: ImageClassifier, options: TrainOptions) -> Answered:
    """Ask a trained model about val and test."""
    spec = PreprocessSpec(options.eval_size_px, options.crop_pct)
    card = card_of(dataset, model, spec)
    right = {}
    for split in ("val", "test"):
        logits = predict_logits(model, pixels_of(dataset.root, dataset.of_split(split), spec))
        right[split] = logits.argmax(1) == dataset.targets(split)
    return Answered(model, card, right)


def card_of(dataset: Dataset, model: ImageClassifier, spec: PreprocessSpec) -> ModelCard:
    """What an export needs to know."""
    return ModelCard.of(
        model,
        labels=dataset.labels,
        preprocess=spec,
        train_size_px=spec.size_px,
        dataset_digest=dataset_digest(dataset.photos),
    )


def latencies(models: list[tuple[ImageClassifier, ModelCard]]) -> list[dict[str, float]]:
    """Of all, in turn, as the pipeline measures it: one image, one CPU thread, ONNX Runtime."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = [Path(scratch) / f"{number}.onnx" for number in range(len(models))]
        for (model, card), path in zip(models, paths, strict=True):
            write_graph(model, card, path, opset=OPSET)
        return measure_elsewhere(paths)


def prune_to_latency(
    dataset: Dataset, parent: ImageClassifier, setting: Setting, criterion: str, seed: int
) -> tuple[ImageClassifier, float]:
    """Prune a copy of a student until it is as fast as the same network at the rival's size.

    Returns:
        The pruned model, and the share of channels that were asked to go.
    """
    px = setting.student.train_size_px
    spec, rival_spec = PreprocessSpec(px), PreprocessSpec(setting.rival_px)
    rival = parent, card_of(dataset, parent, rival_spec)
    low, high, best = 0.0, 0.9, None
    while high - low > CLOSE:
        ratio = (low + high) / 2
        model = pruned(dataset, parent, setting.student, ratio, criterion, seed)
        mine, its = latencies([(model, card_of(dataset, model, spec)), rival])
        faster = mine["median_ms"] <= its["median_ms"]
        print(
            f"  {ratio:.3f}: {mine['median_ms']:.2f} ms against {its['median_ms']:.2f}", flush=True
        )
        if faster:
            high, best = ratio, (model, ratio)
        else:
            low = ratio
    if best is None:
        raise SystemExit("Even a tenth of the channels is slower than the rival.")
    return best


def pruned(
    dataset: Dataset,
    parent: ImageClassifier,
    options: TrainOptions,
    ratio: float,
    criterion: str,
    seed: int,
) -> ImageClassifier:
    """A copy of a model without the channels that count least, over all layers together."""
    model = build_like(parent, dataset, options)
    model.load_state_dict(parent.state_dict())
    importance = CRITERIA[criterion]()
    example = torch.zeros(1, 3, options.train_size_px, options.train_size_px)
    model.requires_grad_(True).eval()
    pruner = torch_pruning.pruner.BasePruner(
        model.backbone,
        example,
        importance=importance,
        global_pruning=True,
        pruning_ratio=ratio,
        max_pruning_ratio=1 - KEPT_AT_LEAST,
        round_to=ROUND_TO,
        ignored_layers=[m for m in model.modules() if isinstance(m, nn.Linear)],
    )
    if criterion == "pruned by Taylor":
        for images, labels in scored_batches(dataset, options, seed):
            F.cross_entropy(model(images), labels).backward()
    pruner.step()
    model.zero_grad(set_to_none=True)
    return model


def build_like(parent: ImageClassifier, dataset: Dataset, options: TrainOptions) -> ImageClassifier:
    """The same architecture, on the CPU, with whatever weights."""
    return prepare_model(dataset, replace(options, weights="none"), 0).cpu()


def scored_batches(
    dataset: Dataset, options: TrainOptions, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Training views for the Taylor criterion; the same for every ratio."""
    views = views_of(dataset, options, seed)
    chosen = np.random.default_rng(seed).permutation(len(views))[:SCORED]
    keys = [ViewKey(0, int(position), 0, options.train_size_px) for position in chosen]
    size = options.batch_size
    batches = [keys[start : start + size] for start in range(0, len(keys), size)]
    for batch in build_loader(views, batches, workers=0):
        yield batch.images, batch.labels


def arm_of(
    dataset: Dataset, teachers: list[Teacher], setting: Setting, arm: str, out: Path, seed: int
) -> Answered:
    """Train one arm with one seed, or read what was trained."""
    folder = out / str(seed) / arm.replace(" ", "-")
    saved = folder / "model.pt"  # a pruned model has no timm name to be built from
    student = setting.of_arm(arm)
    options = setting.student if arm in CRITERIA else student
    if not saved.exists():
        if arm in CRITERIA:
            parent = arm_of(dataset, teachers, setting, "parent", out, seed).model
            model, ratio = prune_to_latency(dataset, parent, setting, arm, seed)
            after = replace(setting.student, epochs=setting.further)
        else:
            model, ratio, after = prepare_model(dataset, student, seed), 0.0, student
        model = train(dataset, teachers, model, after, seed=seed, folder=folder)
        (folder / "ratio.json").write_text(json.dumps(ratio))
        torch.save(model, saved)
    model = torch.load(saved, weights_only=False)
    return answers(dataset, model, options)


def table_of(found: dict[str, list[Answered]], times: dict[str, dict[str, float]]) -> list[str]:
    """Markdown: one row an arm; the pruned ones minus the smaller size, paired."""
    lines = [
        "| student | px | MACs, M | CPU ms (quartiles) | val top-1, mean (SD) | test top-1, mean "
        "(SD) | minus smaller size on val, points (95 %) | on test (95 %) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    right = {
        (arm, split): np.stack([one.right[split] for one in each])
        for arm, each in found.items()
        for split in ("val", "test")
    }
    for arm, each in found.items():
        card, ms = each[0].card, times[arm]
        gaps = ["-", "-"]
        if arm in CRITERIA:
            pairs = (
                paired_difference(right["smaller size", s], right[arm, s]) for s in ("val", "test")
            )
            gaps = [
                f"{100 * g.mean:+.1f} ({100 * g.low:+.1f} to {100 * g.high:+.1f})" for g in pairs
            ]
        cells = [
            arm,
            str(card.preprocess.size_px),
            " ".join(f"{one.card.flops / 1e6:.0f}" for one in each),
            f"{ms['median_ms']:.2f} ({ms['q1_ms']:.2f}-{ms['q3_ms']:.2f})",
            *(_mean(right[arm, split]) for split in ("val", "test")),
            *gaps,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def conditions(dataset: Dataset, setting: Setting, teachers: list[Teacher], seeds: int) -> str:
    """What a reader must know beside the figures."""
    names = ("torch", "timm", "torch-pruning", "onnxruntime")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    counts = {split: len(dataset.of_split(split)) for split in ("train", "val", "test")}
    student = setting.student
    return (
        f"{student.arch} from ImageNet weights under {teachers[0].card.arch} (kd_weight 0.9, "
        f"temperature 2): {student.epochs} epochs, pruned, {setting.further} more; the others "
        f"{student.epochs + setting.further}. n = {seeds} seeds x {counts['val']} val and "
        f"{counts['test']} test images, trained on {counts['train']}; intervals: two-way "
        "bootstrap over seeds and images. Latency: models of the first seed in turn, one "
        f"image, one CPU thread, ONNX Runtime. {os.cpu_count()} CPU cores, Python "
        f"{platform.python_version()}, {versions}."
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("run", type=Path, help="a run on these images, with a teacher")
    parser.add_argument("--out", type=Path, default=Path("pruning"))
    parser.add_argument("--student", default="tf_efficientnet_lite0")
    parser.add_argument("--size", type=int, default=96, help="px, of the student")
    parser.add_argument("--rival-size", type=int, default=72, help="px")
    parser.add_argument("--epochs", type=int, default=4, help="before pruning")
    parser.add_argument("--further", type=int, default=4, help="epochs after it")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", type=Path, help="Markdown file to write")
    args = parser.parse_args()
    dataset = Dataset.open(args.photos, args.run / "data" / "index.csv", 2048)
    teachers = open_teachers([args.run / "teacher"], dataset)
    student = TrainOptions(
        arch=args.student, weights="package", train_size_px=args.size, epochs=args.epochs,
        batch_size=32, lr=8e-4, weight_decay=0.02, ema_decay=0.99, precision="fp32",
    )  # fmt: skip
    setting = Setting(student, args.rival_size, args.further)
    found: dict[str, list[Answered]] = {arm: [] for arm in ARMS}
    for seed in range(args.seeds):
        for arm in ARMS:
            print(f"== seed {seed}, {arm}", flush=True)
            found[arm].append(arm_of(dataset, teachers, setting, arm, args.out, seed))
    times: list[Any] = latencies([(found[arm][0].model, found[arm][0].card) for arm in ARMS])
    lines = [
        conditions(dataset, setting, teachers, args.seeds),
        "",
        *table_of(found, dict(zip(ARMS, times, strict=True))),
    ]
    print("\n".join(lines))
    if args.table:
        args.table.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _mean(right: NDArray[np.bool_]) -> str:
    each = right.mean(1)
    spread = f"{100 * each.std(ddof=1):.1f}" if len(each) > 1 else "-"
    return f"{100 * each.mean():.1f} % ({spread})"


if __name__ == "__main__":
    main()
