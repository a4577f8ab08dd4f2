"""A finished run by hand: every file the report reads, as small as it can be, without training."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from export.options import ParityLimits
from serve.contract.digest import canonical_json, sha256_of_file
from serve.contract.manifest import write_manifest
from stillroom.report.page import write_report
from stillroom.run.folder import RunFolder
from stillroom.run.recipe import Recipe, recipe_text
from stillroom.run.stage_graph import Context
from tests.conftest import write_tiny_artifact
from train.data.images import LabelledImage, dataset_digest, write_index
from train.evaluation import Predictions, evaluate, write_predictions

SPEC = {
    "size_px": 24,
    "crop_pct": 1.0,
    "interpolation": "bicubic",
    "background": [255, 255, 255],
    "resize": "pillow",
}
RUNTIME = {"wall_s": 1.5, "peak_rss_mib": 100, "machine": "x86_64", "system": "Linux"}

SPLITS = ("train", "val", "test", "test")


def write_photos(root: Path, labels: tuple[str, ...], per_class: int) -> list[LabelledImage]:
    """Plain pictures; the folders are numbered, because a label may be no file name."""
    photos = []
    for k, label in enumerate(labels):
        (root / str(k)).mkdir(parents=True)
        for i in range(per_class):
            path = f"{k}/{i}.png"
            Image.new("RGB", (24, 16), (k * 37 % 256, i * 5, 120)).save(root / path)
            digest = sha256_of_file(root / path)
            photos.append(LabelledImage(path, label, SPLITS[i % len(SPLITS)], digest, 24, 16))
    return photos


def logits_of(photos: list[LabelledImage], labels: tuple[str, ...], wrong: int, seed: int) -> Any:
    """Logits with so many wrong answers on the test split."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 0.3, (len(photos), len(labels))).astype(np.float32)
    tests = [i for i, photo in enumerate(photos) if photo.split == "test"]
    for i, photo in enumerate(photos):
        truth = labels.index(photo.label)
        logits[i, (truth + 1) % len(labels) if i in tests[:wrong] else truth] += 5
    return logits


def write_stage(
    folder: Path, photos: list[LabelledImage], labels: tuple[str, ...], wrong: int
) -> None:
    """What a training leaves."""
    folder.mkdir(parents=True)
    answered = [photo for photo in photos if photo.split != "train"]
    logits = logits_of(answered, labels, wrong, seed=wrong)
    predictions = Predictions(answered, labels, logits)
    write_predictions(folder / "predictions.csv", predictions)
    scores = {split: evaluate(predictions.of_split(split)) for split in ("val", "test")}
    write_json(folder / "evaluation.json", scores)
    parameters = 11_200_000 if folder.name == "teacher" else 370_000
    card = {
        "arch": "toy",
        "labels": list(labels),
        "preprocess": SPEC,
        "train_size_px": 24,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "parameters": parameters,
        "flops": 10 * parameters,
        "dataset_digest": dataset_digest(photos),
    }
    write_json(folder / "checkpoint.json", card)
    (folder / "checkpoint.safetensors").write_bytes(b"\0" * (parameters // 100))
    rows = [
        {"phase": phase, "epoch": e, "loss": 2 / e, "train_top1": 0.5}
        | {"val_loss": 1 / e, "val_top1": 0.8}
        for phase, epochs in (("head", 1), ("all", 3))
        for e in range(1, epochs + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def load_summary(mode: str, **changes: Any) -> dict[str, Any]:
    """summary.json of a load of 200 requests, as `loadtest.result.summary` writes it."""
    figures = {"n": 200, "p50_ms": 5.0, "p90_ms": 8.0, "p95_ms": 9.0, "p99_ms": 12.0}
    figures |= {"max_ms": 15.0, "mean_ms": 5.5}
    slo = {"percentile": 99.0, "target_ms": 100.0, "observed_ms": 12.0, "met": True}
    kinds = ("wrong_answer", "http_error", "timeout", "connection_error", "missed")
    summary = {
        "mode": mode,
        "users": 8 if mode == "closed" else None,
        "target_rps": None if mode == "closed" else 100.0,
        "planned": 200,
        "planned_rps": 100.0,
        "achieved_rps": 100.0,
        "good_rps": 100.0,
        "duration_s": 2.0,
        "stopped_by": None,
        "counts": {"ok": 200, **dict.fromkeys(kinds, 0)},
        "intended": figures,
        "service": figures,
        "dispatch_lateness": {"p50_ms": 0.1, "p99_ms": 0.5, "max_ms": 0.6},
        "stage_means_ms": {"decode_ms": 1.0, "queue_ms": 2.0, "infer_ms": 1.0, "total_ms": 5.0},
        "answers": {"checked": 200, "wrong": 0, "examples": []},
        "models": [{"name": "toy", "version": "1", "digest": "d" * 64, "backend": "cpu"}],
        "generator_cpu_share": 0.2,
        "environment": {
            "cpu_count": 2,
            "cpu_model": "toy CPU",
            "load_average_before": [0.1, 0.2, 0.3],
            "load_average_after": [0.4, 0.5, 0.6],
            "locust": "2",
            "python": "3",
            "system": "Linux",
        },
        "warnings": [],
    }
    return summary | ({"slo": slo} if mode == "open" else {}) | changes


FLIPS = "asked_for,path,sha256,label,reference,candidate,margin,change\n"


def parity_json(**changes: Any) -> dict[str, Any]:
    """parity.json of a faithful export."""
    return {
        "status": "passed",
        "reasons": [],
        "images": 359,
        "flips": 0,
        "agreement": 1.0,
        "agreement_low": 0.99,
        "batch_max_diff": 0.0,
        "max_abs_diff": 3e-6,
        "sd": 2.0,
        "snr_db": 130.0,
        "flip_margin": 0.0,
        "reference_top1": 0.98,
        "candidate_top1": 0.98,
        "lost": 0,
        "gained": 0,
        "top1_change_low": -0.001,
        "top1_change_high": 0.001,
        "mcnemar_p": 1.0,
        "images_of": {"val": 359},
        "test": None,
        "runner": {"backend": "cpu", "library": "toy 1", "reason": "the only one"},
    } | changes


def http_json(**changes: Any) -> dict[str, Any]:
    """http_parity.json of a faithful service."""
    found = {"images": 359, "agree": 359, "flips": [], "max_probability_diff": 1e-7}
    return {"backend": "cpu", "digests": ["d" * 64], **found} | changes


def write_json(path: Path, value: Any) -> None:
    path.write_bytes(canonical_json(value))


def write_data(folder: Path, photos: list[LabelledImage], labels: tuple[str, ...]) -> None:
    folder.mkdir(parents=True)
    write_index(folder / "index.csv", photos)
    splits = {
        split: {k: sum(p.label == k and p.split == split for p in photos) for k in labels}
        for split in ("train", "val", "test")
    }
    sizes = {"quantiles": [0, 50, 100], "shorter_side": [16] * 3, "longer_side": [24] * 3}
    audit = {
        "dataset_digest": dataset_digest(photos),
        "labels": list(labels),
        "photos": len(photos),
        "splits": splits,
        "imbalance": 1.0,
        "sizes_px": sizes,
        "unreadable": [],
        "findings": [],
    }
    write_json(folder / "audit.json", audit)


def write_artifact(
    folder: Path, labels: tuple[str, ...], parity: dict[str, Any], flips: str
) -> None:
    write_tiny_artifact(folder, labels=labels)
    write_json(folder / "parity.json", parity)
    (folder / "flips.csv").write_text(FLIPS + flips)
    fields = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").unlink()
    for name in ("files", "digest", "schema_version"):
        del fields[name]
    options = {"source": "fixres", "parity": asdict(ParityLimits())}
    own = {"seed": 0, "options": options, "versions": {"python": "3.11", "torch": "2"}}
    write_manifest(
        folder, fields | own | {"version": "abc123", "metrics": {"model_bytes": 1_500_000}}
    )


def write_fixres(run: Path, scores: dict[str, Any]) -> None:
    """What FixRes leaves beside a training's files."""
    digest = {f"frozen_digest_{when}": "f" * 64 for when in ("before", "after")}
    proof = {"frozen_tensors": 240, "free": ["fc.bias", "fc.weight"], "changed": ["fc.bias"]}
    made = {"last_norms": ["bn2"], "norm": "affine", "note": "", "kept": "fixres"}
    value = {**made, "proof": proof | digest, "resized_only": scores}
    write_json(run / "fixres" / "fixres.json", value)
    shutil.copy(run / "student" / "predictions.csv", run / "fixres" / "resized.csv")


def write_load(folder: Path, summary: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    write_json(folder / "summary.json", summary)
    names = ["planned_s", "intended_ms", "service_ms", "outcome"]
    with (folder / "samples.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for i in range(200):
            writer.writerow([i / 100, 5 + i / 20, 4 + i / 20, "http_error" if i == 7 else "ok"])


def write_run(root: Path, labels: tuple[str, ...], **parts: Any) -> Context:
    """A whole run; `parity`, `flips`, `http`, `open` and `per_class` replace their part."""
    run, photos_root = root / "toy-run", root / "photos"
    photos = write_photos(photos_root, labels, parts.get("per_class", 4))
    write_data(run / "data", photos, labels)
    for wrong, name in enumerate(("teacher", "baseline", "student", "fixres")):
        write_stage(run / name, photos, labels, wrong)
    scores = json.loads((run / "student" / "evaluation.json").read_bytes())
    write_fixres(run, scores)
    parity, flips = parts.get("parity", parity_json()), parts.get("flips", "")
    write_artifact(run / "artifact", labels, parity, flips)
    latency = {"median_ms": 0.5, "q1_ms": 0.4, "q3_ms": 0.6, "n": 120}
    (run / "latency").mkdir()
    write_json(
        run / "latency" / "latency.json",
        {"teacher": {**latency, "median_ms": 5.0}, "student": latency, "fixres": latency},
    )
    (run / "http").mkdir()
    write_json(run / "http" / "http_parity.json", parts.get("http", http_json()))
    write_load(run / "loadtest" / "open", parts.get("open", load_summary("open")))
    write_load(run / "loadtest" / "closed", load_summary("closed"))
    folders = ("data", "teacher", "student", "fixres", "baseline", "artifact", "latency", "http")
    chain = [
        {"stage": name, "folder": name, "digest": "a" * 64, "parents": {"data": "a" * 64}}
        for name in (*folders, "loadtest", "report")
    ]
    record = {"photos": "photos", "inputs": "0" * 64, "chain": chain, "written_at": "whenever"}
    write_json(run / "run.json", record)
    for name in folders:
        write_json(run / name / "runtime.json", RUNTIME)
    (run / "recipe.toml").write_text(recipe_text(Recipe()))
    out = root / "out"
    out.mkdir()
    return Context(photos_root, RunFolder(run), Recipe(), "toy", out)


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A run of three classes with 40 images each. Read only."""
    root = tmp_path_factory.mktemp("toy")
    return write_run(root, ("rose", "weed", "tulip"), per_class=40)


@pytest.fixture(scope="session")
def toy_page(toy_run: Context) -> str:
    """Its report."""
    write_report(toy_run)
    return (toy_run.out / "index.html").read_text(encoding="utf-8")


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Context]:
    """A function that writes a run: `make_run(labels, parity=, http=, open=, per_class=)`."""
    return lambda labels=("rose", "weed", "tulip"), **parts: write_run(tmp_path, labels, **parts)


@pytest.fixture
def make_load() -> Callable[..., dict[str, Any]]:
    """A function that gives a load summary: `make_load("open", good_rps=90.0)`."""
    return load_summary


@pytest.fixture
def make_parity() -> Callable[..., dict[str, Any]]:
    """A function that gives parity.json: `make_parity(status="failed")`."""
    return parity_json


@pytest.fixture
def make_http() -> Callable[..., dict[str, Any]]:
    """A function that gives http_parity.json: `make_http(agree=358)`."""
    return http_json
