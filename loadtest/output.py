"""The two files of a load test: `samples.csv` and `summary.json`, whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from loadtest.errors import LoadTestError, UsageError
from loadtest.outcome import Sample

__all__ = ["SAMPLE_COLUMNS", "check_out_folder", "csv_from_samples", "write_outputs"]

SAMPLE_COLUMNS = (
    "planned_s",
    "sent_s",
    "done_s",
    "intended_ms",
    "service_ms",
    "outcome",
    "status",
    "bytes",
    "path",
    "request_id",
    "decode_ms",
    "queue_ms",
    "infer_ms",
    "total_ms",
)


def check_out_folder(out: Path) -> None:
    """Make sure, before the load, that its results can be written; create nothing.

    Raises:
        UsageError: `out` is a file, or no folder may be created there.
    """
    existing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not existing.is_dir():
        raise UsageError(f"--out {str(out)!r}: {str(existing)!r} is a file", "name a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"--out {str(out)!r}: {str(existing)!r} is not writable", "name another")


def write_outputs(out: Path, summary: dict[str, Any], samples: Iterable[Sample]) -> None:
    """Write both files into the folder, which is created; older ones are replaced.

    The summary comes last, so that where it is, its samples are.

    Raises:
        LoadTestError: the disk is full, or the folder became unwritable.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        _replace(out / "samples.csv", csv_from_samples(samples))
        _replace(out / "summary.json", json.dumps(summary, indent=2, sort_keys=True) + "\n")
    except OSError as error:
        message = f"the results cannot be written to {str(out)!r} ({error.strerror})"
        raise LoadTestError(message, "make room and repeat the load") from error


def csv_from_samples(samples: Iterable[Sample]) -> str:
    """One line per planned request; a field is empty where there is no such figure.

    Seconds count from the start of the measured window, `bytes` is the size of the image sent,
    `status` is 0 without a response.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(SAMPLE_COLUMNS)
    writer.writerows(_row(sample) for sample in samples)
    return text.getvalue()


def _row(sample: Sample) -> list[str | int]:
    return [
        _fixed(sample.planned_s, 6),
        _fixed(sample.sent_s, 6),
        _fixed(sample.done_s, 6),
        _fixed(sample.intended_ms, 3),
        _fixed(sample.service_ms, 3),
        sample.outcome.value,
        sample.status,
        sample.size_bytes,
        sample.path,
        sample.request_id,
        *(_fixed(duration_ms, 3) for duration_ms in sample.stages),
    ]


def _fixed(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _replace(file: Path, text: str) -> None:
    partial = file.with_name(f".{file.name}.partial")
    with partial.open("w", encoding="utf-8", newline="") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)
