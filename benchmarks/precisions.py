"""fp32, fp16 and int8 of several students side by side: answers, latency, size.

    python -m benchmarks.precisions PHOTOS STUDENT... --out precisions --table T.md

Each STUDENT is a folder with a checkpoint and its predictions.csv, trained on PHOTOS with the
default split. The files are made, judged and timed by the stages of the pipeline: PyTorch in fp32
is the reference, the gate and the search of layers to leave in float look at val (topped up from
train), int8 is calibrated on training images. All answers of the table are of test. Latency is
ONNX Runtime's on one CPU thread, in turns with fp32. What is finished in --out is not done again.
The table goes to standard output, and with --table into a file.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

from benchmarks.setting import audited, cpu_name
from export.mobile import DownloadSize, download_size
from export.options import ExportOptions
from export.precision.stage import BENEFIT, export_precision
from export.stage import export_artifact
from serve.contract.artifact import MODEL
from serve.contract.errors import GateError, UsageError
from train.data.dataset import Dataset
from train.evaluation import read_predictions
from train.models.checkpoint import load_checkpoint

PRECISIONS = ("fp32", "fp16", "int8")
OPTIONS = ExportOptions()
DONE = "row.json"


@dataclass(frozen=True)
class Row:
    """One precision of one student.

    Args:
        student: architecture and test size.
        precision: of the file.
        refused: why there is no file; "" where there is one.
        test: parity.json's verdict on test.
        benefit: of benefit.json.
        changed: paths of test images: lost, and gained.
        size: of the file.
        kept_float: number of layers that int8 leaves in float.
    """

    student: str
    precision: str
    refused: str
    test: dict[str, Any]
    benefit: dict[str, Any] | None
    changed: dict[str, list[str]]
    size: DownloadSize | None
    kept_float: int


def rows_of(dataset: Dataset, folder: Path, out: Path) -> list[Row]:
    """Make the files of a student, or refuse them.

    Args:
        dataset: of all images.
        folder: with the checkpoint and predictions.csv.
        out: for the files.

    Raises:
        UsageError: the checkpoint was tested on other images.
    """
    _check_split(dataset, folder)
    _, card = load_checkpoint(folder)
    name = f"{card.arch} @{card.preprocess.size_px}"
    rows = []
    for precision in PRECISIONS:
        made = out / precision
        if not (made / DONE).exists():
            made.mkdir(parents=True, exist_ok=True)
            outcome = _make(dataset, folder, precision, made)
            (made / DONE).write_text(json.dumps(outcome), encoding="utf-8")
        outcome = json.loads((made / DONE).read_text(encoding="utf-8"))
        rows.append(_row(name, precision, outcome, made))
    return rows


def _make(dataset: Dataset, source: Path, precision: str, out: Path) -> dict[str, Any]:
    try:
        if precision == "fp32":
            _, fields = export_artifact(dataset, source, OPTIONS, name="student", out=out)
        else:
            fp32 = out.parent / "fp32"
            _, fields = export_precision(
                dataset, source, fp32, precision, OPTIONS, name="student", out=out
            )
    except GateError as error:
        return {"refused": error.message}
    return {"refused": "", "kept_float": len(fields.get("kept_float", ()))}


def _row(name: str, precision: str, outcome: dict[str, Any], folder: Path) -> Row:
    if outcome["refused"]:
        return Row(name, precision, outcome["refused"], {}, None, {}, None, 0)
    timed = folder / BENEFIT
    return Row(
        name,
        precision,
        "",
        json.loads((folder / "parity.json").read_bytes())["test"],
        json.loads(timed.read_bytes())["benefit"] if timed.exists() else None,
        _changed(folder / "flips.csv"),
        download_size(folder / MODEL),
        outcome["kept_float"],
    )


def _changed(path: Path) -> dict[str, list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        flips = [row for row in csv.DictReader(file) if row["asked_for"] == "test"]
    return {
        kind: [row["path"] for row in flips if row["change"] == kind] for kind in ("lost", "gained")
    }


def table_of(rows: list[Row]) -> list[str]:
    """Markdown: a line for each student and precision, then the images that were lost or gained."""
    lines = [
        "| student | precision | agree (at least, 95 %) | SNR dB | widest flip, logits "
        "| lost / gained | McNemar p | top-1 change, points (95 %) | one image, ms (x fp32) "
        "| batch of 8, x fp32 | MB (gzip) | verdict |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    lines.append("")
    for row in rows:
        for kind, paths in row.changed.items():
            if paths:
                lines.append(f"- {row.student}, {row.precision}, {kind}: {', '.join(paths)}")
    return lines


def _cells(row: Row) -> list[str]:
    if row.size is None:
        return [row.student, row.precision, *["-"] * 9, row.refused.replace("|", "/")]
    test, timed = row.test, row.benefit
    change = test["candidate_top1"] - test["reference_top1"]
    low, high = test["top1_change_low"], test["top1_change_high"]
    one, many = (timed["latency"], timed["throughput"]) if timed else (None, None)
    words = [timed["verdict"]] if timed else []
    if row.kept_float:
        words.append(f"{row.kept_float} layers in float")
    return [
        row.student,
        row.precision,
        f"{test['agreement']:.2%} ({test['agreement_low']:.2%})",
        f"{test['snr_db']:.1f}",
        f"{test['flip_margin']:.3f}",
        f"{test['lost']} / {test['gained']}",
        f"{test['mcnemar_p']:.2g}",
        f"{100 * change:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})",
        f"{one['median_ms']:.2f} ({one['speedup']:.2f}, {one['speedup_q1']:.2f}-"
        f"{one['speedup_q3']:.2f})"
        if one
        else "-",
        f"{many['speedup']:.2f} ({many['speedup_q1']:.2f}-{many['speedup_q3']:.2f})"
        if many
        else "-",
        f"{row.size.bytes / 1e6:.2f} ({row.size.gzip_bytes / 1e6:.2f})",
        ", ".join(words) or "-",
    ]


def conditions(dataset: Dataset) -> str:
    """What a reader must know beside the figures."""
    names = ("torch", "timm", "onnx", "onnxruntime", "numpy")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    tested, val = len(dataset.of_split("test")), len(dataset.of_split("val"))
    return (
        f"n = {tested} test images; the gate and the search looked at {val} of val, topped up "
        f"from train to {OPTIONS.parity.min_images}; int8 calibrated on "
        f"{OPTIONS.calibration_images} training images. Reference: PyTorch fp32, eager. "
        "Timed on one CPU thread in turns with fp32; medians over the turns, with quartiles. "
        f"{os.cpu_count()} CPU cores ({cpu_name()}), Python {platform.python_version()}, "
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
    dataset = audited(args.photos, args.out, 1024)
    rows = []
    for number, folder in enumerate(args.students):
        print(f"== {folder}", flush=True)
        rows += rows_of(dataset, folder, args.out / str(number))
    lines = [conditions(dataset), "", *table_of(rows), ""]
    print("\n".join(lines), flush=True)
    if args.table:
        args.table.write_text("\n".join(lines), encoding="utf-8")


def _check_split(dataset: Dataset, folder: Path) -> None:
    trained = read_predictions(folder / "predictions.csv").of_split("test")
    if {p.sha256 for p in trained.photos} != {p.sha256 for p in dataset.of_split("test")}:
        raise UsageError(
            f"{folder} was not tested on the test split of these images.",
            "Give the images it was trained on; the split is that of the default options.",
        )


if __name__ == "__main__":
    main()
