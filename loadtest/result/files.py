"""The files of a load test, whole or not at all, and whether they can be written."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from loadtest.errors import LoadTestError, UsageError
from loadtest.generator.outcome import Sample
from loadtest.plan.load_plan import LoadPlan

__all__ = [
    "SAMPLE_COLUMNS",
    "bytes_of_results",
    "check_out_folder",
    "csv_from_samples",
    "existing_folder",
    "next_folder",
    "try_to_write",
    "write_files",
    "write_outputs",
]

RESULTS = ("summary.json", "promise.json", "probes", "closed")
"""What a load or a search leaves in its folder."""
TRIED_BYTES = 4096
PAGE_BYTES, LINE_BYTES = 2**20, 200

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


def check_out_folder(out: Path, *, bytes_needed: int = 0) -> None:
    """Make sure, before the load, that its results can be written; leave nothing behind.

    Raises:
        UsageError: `out` is a file, holds a result already, nothing may be written there, or the
            disk is full.
    """
    existing = existing_folder(out)
    if not existing.is_dir():
        raise UsageError(f"--out {str(out)!r}: {str(existing)!r} is a file", "name a folder")
    if held := [name for name in RESULTS if (out / name).exists()]:
        raise UsageError(
            f"--out {str(out)!r} holds a result already ({held[0]})",
            f"name another --out, such as {next_folder(out)}",
        )
    try_to_write(existing, f"--out {str(out)!r}", bytes_needed)


def bytes_of_results(plan: LoadPlan) -> int:
    """What the files of a load may take: a line for each request, and the page.

    A closed loop sends as many as it gets answered; a thousand a second is supposed.
    """
    rate = 1000.0 if plan.rate is None else plan.highest_rate
    requests = plan.requests or len(plan.arrivals_s) or rate * (plan.duration_s + plan.warmup_s)
    return round(PAGE_BYTES + LINE_BYTES * requests)


def existing_folder(path: Path) -> Path:
    """The path itself, or the nearest of its parents that is there."""
    there = (place for place in (path, *path.absolute().parents) if os.path.lexists(place))
    return next(there)


def try_to_write(folder: Path, what: str, bytes_needed: int = 0) -> None:
    """Write a file without a name there; permissions alone do not tell.

    Raises:
        UsageError: it cannot be done, or so many bytes do not fit.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * TRIED_BYTES)
            file.flush()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        message = f"{what}: nothing can be written to {str(folder)!r} ({error.strerror})"
        raise UsageError(message, "name another place, or make room") from error
    if free < bytes_needed:
        raise UsageError(
            f"{what}: {free / 2**20:.0f} MiB are free and the results may take "
            f"{bytes_needed / 2**20:.0f}",
            "make room, or name another place",
        )


def next_folder(out: Path) -> Path:
    """The first of out-2, out-3, ... that is not there."""
    names = (out.with_name(f"{out.name}-{number}") for number in count(2))
    return next(one for one in names if not os.path.lexists(one))


def write_outputs(out: Path, summary: dict[str, Any], samples: Iterable[Sample]) -> None:
    """Write both files into the folder, which is created.

    The summary comes last, so that where it is, its samples are.

    Raises:
        LoadTestError: the disk is full, or the folder became unwritable.
    """
    text = json.dumps(summary, indent=2, sort_keys=True) + "\n"
    write_files(out, {"samples.csv": csv_from_samples(samples), "summary.json": text})


def write_files(out: Path, texts: Mapping[str, str]) -> None:
    """Write files in this order, each whole or not at all; the folder is created.

    A name that is not text, such as a label with half of a surrogate pair, is written escaped.

    Raises:
        LoadTestError: the disk is full, or the folder became unwritable.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            _replace(out / name, text)
    except OSError as error:
        message = f"the results cannot be written to {str(out)!r} ({error.strerror})"
        raise LoadTestError(message, "make room and repeat the load") from error


def csv_from_samples(samples: Iterable[Sample]) -> str:
    """One line per planned request; a field is empty where it has no figure.

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
    with partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)
