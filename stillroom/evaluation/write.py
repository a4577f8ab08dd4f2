"""An evaluation on disk: index.html, metrics.json, label_issues.csv and sampled images."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

from serve.contract.digest import canonical_json
from serve.contract.errors import UsageError
from stillroom.evaluation.by_prediction import Exported, export_by_prediction
from stillroom.evaluation.findings import EvaluationResult, gather, metrics_of
from stillroom.evaluation.page import render_page
from stillroom.evaluation.source import EvaluationSource

__all__ = ["write_evaluation"]

PAGE, METRICS, ISSUES, SAMPLE = "index.html", "metrics.json", "label_issues.csv", "by_prediction"


def write_evaluation(
    source: EvaluationSource, out: Path, *, split: str, per_class: int = 0
) -> tuple[EvaluationResult, Exported | None]:
    """Evaluate and write the results, in place of an earlier evaluation's.

    Args:
        source: what to evaluate.
        out: folder; new, empty or of an earlier evaluation.
        split: val or test.
        per_class: images of each predicted class to copy; 0 for none.

    Returns:
        What was found, and what was copied; None where nothing was asked for.

    Raises:
        UsageError: `out` holds something else, images were asked for and are not there, or
            there are no predictions on the split.
    """
    _check_out(out)
    if per_class and source.photos is None:
        raise UsageError(
            "Images cannot be copied: their folder is not known or gone.",
            "Name it: --photos FOLDER",
        )
    findings = gather(source, split)
    page = render_page(findings, source)
    work = out.with_name(f".{out.name}.work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    exported = None
    if per_class and source.photos is not None:
        exported = export_by_prediction(
            findings.predictions, source.photos, work / SAMPLE, per_class
        )
    (work / PAGE).write_text(page, encoding="utf-8")
    _write_issues(work / ISSUES, findings)
    (work / METRICS).write_bytes(canonical_json(metrics_of(findings, source)))
    _publish(work, out)
    return findings, exported


def _check_out(out: Path) -> None:
    """Refuse a folder in which something could be written over that is not an evaluation's."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        known = json.loads((out / METRICS).read_bytes())["kind"] == "evaluation"
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise UsageError(
            f"{out} exists and holds no earlier evaluation.", "Choose a new folder with --out."
        )


def _publish(work: Path, out: Path) -> None:
    """Replace the results one by one; other files in the folder stay."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / SAMPLE, ignore_errors=True)
    for name in (SAMPLE, PAGE, ISSUES, METRICS):
        if (work / name).exists():
            (work / name).replace(out / name)
    shutil.rmtree(work)


def _write_issues(path: Path, findings: EvaluationResult) -> None:
    columns = ["path", "split", "label", "suggestion", "self_confidence", "probability", "margin"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for issue in findings.issues:
            photo = issue.photo
            shares = (issue.self_confidence, issue.probability, issue.margin)
            row = [photo.path, photo.split, photo.label, issue.suggestion]
            writer.writerow([*row, *(f"{share:.6f}" for share in shares)])
