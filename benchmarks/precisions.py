"""fp32, fp16 and int8 of several students side by side: answers, latency, size.

    python -m benchmarks.precisions PHOTOS STUDENT... --out precisions --table T.md

Each STUDENT is a folder with a checkpoint and its predictions.csv, trained on PHOTOS. The reference
is PyTorch in fp32; the candidates answer through the runner that serves. int8 is calibrated on
training photographs; where it fails the protocol's limits on val, topped up from train, the search
leaves some layers in float.
All figures of the table are of test. Latency is ONNX Runtime's on one CPU thread, in turns with
fp32. The table goes to standard output, and with --table into a file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import numpy as np
from numpy.typing import NDArray

from export.answers import mixed_batch_logits
from export.benefit import Benefit, measure_benefit, measure_speedup
from export.fp16 import write_fp16
from export.graph import write_graph
from export.int8_search import FileVerdict, Search, search_int8
from export.mobile import DownloadSize, download_size
from export.options import ExportOptions
from export.parity import agreement_lower_bound
from serve.contract.artifact import MODEL, Artifact
from serve.contract.digest import sha256_of_file
from serve.contract.errors import UsageError
from serve.runner import open_runner
from stillroom.ablation.paired import paired_difference
from train.audit import audit_photos
from train.batches import pixels_of
from train.checkpoint import ModelCard, load_checkpoint
from train.dataset import Dataset
from train.evaluate import Predictions, predict_logits, read_predictions, wilson_interval
from train.options import DataOptions
from train.photos import Photo

CALIBRATION_IMAGES = 64
GATE_IMAGES = 300
MIN_SNR_DB, MIN_AGREEMENT, MAX_MARGIN = 15.0, 0.95, 2.0  # of int8; agreement: lower bound
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Answers:
    """A precision's answers beside the reference's.

    Args:
        agreement: share of equal answers, and its 95 % interval.
        snr_db: of the logits; 999 where they are equal.
        margin: widest lead of the reference, in logits, that was lost; 0 where nothing flipped.
        change: points of top-1, with its 95 % interval.
        mcnemar_p: exact, two-sided.
        lost: paths of images that only the reference answers rightly.
        gained: paths of images that only the candidate answers rightly.
    """

    agreement: tuple[float, float, float]
    snr_db: float
    margin: float
    change: tuple[float, float, float]
    mcnemar_p: float
    lost: tuple[str, ...]
    gained: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One precision of one student; a precision that no file of passes has neither."""

    student: str
    precision: str
    answers: Answers | None
    benefit: Benefit | None
    size: DownloadSize | None
    note: str


def compare_answers(reference: Predictions, candidate: NDArray[np.float32]) -> Answers:
    """Compare (N, K) logits with the reference's on the same images."""
    expected, found = reference.logits.astype(np.float64), candidate.astype(np.float64)
    noise = ((found - expected) ** 2).sum()
    before, after = reference.answers, candidate.argmax(1)
    rows = np.arange(len(before))
    leads = expected[rows, before] - expected[rows, after]
    right = np.stack([before, after]) == reference.targets
    gap = paired_difference(right[:1], right[1:])
    paths = [photo.path for photo in reference.photos]
    agree = int((before == after).sum())
    return Answers(
        agreement=(agree / len(before), *wilson_interval(agree, len(before))),
        snr_db=float(10 * np.log10((expected**2).sum() / noise)) if noise else 999.0,
        margin=float(leads.max()),
        change=(100 * gap.mean, 100 * gap.low, 100 * gap.high),
        mcnemar_p=gap.p,
        lost=tuple(paths[i] for i in np.flatnonzero(right[0] & ~right[1])),
        gained=tuple(paths[i] for i in np.flatnonzero(~right[0] & right[1])),
    )


def judge_student(dataset: Dataset, folder: Path, out: Path) -> list[Row]:
    """Make the three files of a student, ask them, time them.

    Args:
        dataset: of all photographs.
        folder: with the checkpoint and predictions.csv.
        out: for the files.

    Raises:
        UsageError: the checkpoint was made of other photographs or another split.
    """
    model, card = load_checkpoint(folder)
    _check_split(dataset, folder)
    name = f"{card.arch} @{card.preprocess.size_px}"
    files = {precision: out / precision / MODEL for precision in PRECISIONS}
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    write_graph(model, card, files["fp32"], opset=ExportOptions().opset)
    write_fp16(files["fp32"], files["fp16"])
    training = dataset.of_split("train")
    spread = training[:: max(1, len(training) // CALIBRATION_IMAGES)][:CALIBRATION_IMAGES]
    references = {}
    for purpose, photos in (
        ("gate", gate_photos(dataset, spread)),
        ("test", dataset.of_split("test")),
    ):
        pixels = pixels_of(dataset.root, photos, card.preprocess)
        logits = predict_logits(model, pixels)
        references[purpose] = (Predictions(photos, card.labels, logits), pixels)

    def passes(path: Path) -> FileVerdict:
        reference, pixels = references["gate"]
        answers = compare_answers(reference, logits_of(path, card, pixels))
        agree = round(answers.agreement[0] * len(pixels))
        passed = (
            answers.snr_db >= MIN_SNR_DB
            and agreement_lower_bound(agree, len(pixels)) >= MIN_AGREEMENT
            and answers.margin <= MAX_MARGIN
        )
        return FileVerdict(passed, {"snr_db": answers.snr_db, "agreement": answers.agreement[0]})

    search = search_int8(
        files["fp32"],
        files["int8"],
        pixels_of(dataset.root, spread, card.preprocess),
        judge_file=passes,
        speedup_of=lambda path: measure_speedup(files["fp32"], path),
    )
    (out / "search.json").write_text(json.dumps(search.to_dict(), indent=1), encoding="utf-8")
    made = [p for p in PRECISIONS if p != "int8" or search.chosen is not None]
    timed = measure_benefit(files["fp32"], [files[p] for p in made])
    benefits = dict(zip(made, timed, strict=True))
    reference, pixels = references["test"]
    return [
        Row(
            name,
            precision,
            compare_answers(reference, logits_of(files[precision], card, pixels)),
            benefits[precision],
            download_size(files[precision]),
            _note(search) if precision == "int8" else "",
        )
        if precision in made
        else Row(name, precision, None, None, None, _note(search))
        for precision in PRECISIONS
    ]


def gate_photos(dataset: Dataset, calibration: list[Photo]) -> list[Photo]:
    """The val split, topped up from train where it has fewer than 300; never of calibration."""
    val, used = dataset.of_split("val"), {photo.sha256 for photo in calibration}
    rest = [photo for photo in dataset.of_split("train") if photo.sha256 not in used]
    wanted = max(0, GATE_IMAGES - len(val))
    return val + rest[:: max(1, len(rest) // max(wanted, 1))][:wanted]


def logits_of(path: Path, card: ModelCard, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The answers of a file, in mixed batches, through the runner that serves."""
    artifact = Artifact(
        root=path.parent,
        name="candidate",
        version="",
        digest="",
        labels=card.labels,
        preprocess=card.preprocess,
        precision="fp32",
        golden_atol=0.0,
        manifest={"files": {MODEL: sha256_of_file(path)}},
    )
    with open_runner(artifact, backend="onnxruntime-cpu", max_batch_size=16) as runner:
        return mixed_batch_logits(runner, pixels)


def table_of(rows: list[Row]) -> list[str]:
    """Markdown: a line for each student and precision, then the images that were lost or gained."""
    lines = [
        "| student | precision | agreement (95 %) | SNR dB | widest flip, logits | lost / gained "
        "| McNemar p | top-1 change, points (95 %) | ms (fp32 / this, quartiles) | images/s, "
        "batch 8 (ratio) | MB (gzip) | verdict |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    lines.append("")
    for row in rows:
        for kind in ("lost", "gained"):
            if row.answers is not None and (paths := getattr(row.answers, kind)):
                lines.append(f"- {row.student}, {row.precision}, {kind}: {', '.join(paths)}")
    return lines


def _cells(row: Row) -> list[str]:
    answers, benefit, size = row.answers, row.benefit, row.size
    if answers is None or benefit is None or size is None:
        return [row.student, row.precision, *["-"] * 9, row.note]
    share, low, high = answers.agreement
    change, least, most = answers.change
    single, many = benefit.latency, benefit.throughput
    verdict = "-" if row.precision == "fp32" else benefit.verdict
    return [
        row.student,
        row.precision,
        f"{share:.2%} ({low:.2%} to {high:.2%})",
        f"{answers.snr_db:.1f}",
        f"{answers.margin:.3f}",
        f"{len(answers.lost)} / {len(answers.gained)}",
        f"{answers.mcnemar_p:.2g}",
        f"{change:+.2f} ({least:+.2f} to {most:+.2f})",
        f"{single.median_ms:.2f} "
        f"({single.speedup:.2f}x, {single.speedup_q1:.2f}-{single.speedup_q3:.2f})",
        f"{many.images_per_s:.0f} ({many.speedup:.2f}x)",
        f"{size.bytes / 1e6:.2f} ({size.gzip_bytes / 1e6:.2f})",
        ", ".join(part for part in (verdict, row.note) if part),
    ]


def _note(search: Search) -> str:
    if search.chosen is None:
        tried = (f"{a.figures['snr_db']:.1f} dB at {a.speedup:.2f}x" for a in search.attempts)
        why = "slower here and unfaithful" if search.status == "slower" else "unfaithful"
        return f"no file, {why}: {', '.join(tried)}"
    left = len(search.chosen.keep_float)
    return f"{left} nodes in float after {len(search.attempts)} attempts" if left else ""


def _check_split(dataset: Dataset, folder: Path) -> None:
    trained = read_predictions(folder / "predictions.csv").of_split("test")
    if {p.sha256 for p in trained.photos} != {p.sha256 for p in dataset.of_split("test")}:
        raise UsageError(
            f"{folder} was not tested on the test split of these photographs.",
            "Give the photographs it was trained on; the split is that of the default options.",
        )


def conditions(dataset: Dataset) -> str:
    """What a reader must know beside the figures."""
    names = ("torch", "timm", "onnx", "onnxruntime", "numpy")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    tested, val = len(dataset.of_split("test")), len(dataset.of_split("val"))
    return (
        f"n = {tested} test photographs (gate and search on {val} of val, topped up from train to "
        f"{GATE_IMAGES}), int8 "
        f"calibrated on {CALIBRATION_IMAGES} training photographs. Reference: PyTorch fp32, "
        f"eager. Latency: one image, one CPU thread, 40 turns of 3; ratios are medians over the "
        f"turns. {os.cpu_count()} CPU cores ({_cpu()}), Python {platform.python_version()}, "
        f"{versions}."
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("students", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("precisions"))
    parser.add_argument("--table", type=Path, help="Markdown file to write")
    args = parser.parse_args()
    data = args.out / "data"
    if not (data / "index.csv").exists():
        data.mkdir(parents=True, exist_ok=True)
        audit_photos(args.photos, DataOptions(), seed=0, out=data)
    dataset = Dataset.open(args.photos, data / "index.csv", 1024)
    rows = []
    for number, folder in enumerate(args.students):
        print(f"== {folder}", flush=True)
        rows += judge_student(dataset, folder, args.out / str(number))
    lines = [conditions(dataset), "", *table_of(rows), ""]
    print("\n".join(lines), flush=True)
    if args.table:
        args.table.write_text("\n".join(lines), encoding="utf-8")


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
