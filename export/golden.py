"""Golden images: a few files, unchanged, with their pixels' digest and their reference logits."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve.contract.digest import canonical_json, sha256_of_bytes
from serve.contract.errors import GateError
from train.data.image_bytes import read_bytes
from train.data.own_images import is_refused_by_service
from train.engine.seed import derive_seed
from train.evaluation import Predictions

__all__ = ["write_golden", "write_reference"]


def write_golden(
    folder: Path,
    root: Path,
    reference: Predictions,
    pixels: NDArray[np.uint8],
    *,
    count: int,
    min_margin: float,
) -> None:
    """Copy `count` images, spread over the classes, into `folder` and write golden.json.

    Args:
        folder: created here.
        root: the dataset's folder.
        reference: N images with the logits that a server has to repeat: the reference's or, of a
            file of reduced precision, those of the file itself.
        pixels: (N, size_px, size_px, 3) uint8 of the same images.
        count: how many, at most.
        min_margin: images whose answer leads by less, in logits, are left out: their top-1 may
            differ on another backend without anything being wrong.

    Raises:
        GateError: no image leads by so much.
    """
    chosen = _spread(reference, count, min_margin, root)
    if not chosen:
        raise GateError(
            f"No image is answered with a lead of {min_margin:.2g} logits: the model has "
            "learnt nothing that a server could be checked by.",
            "Train longer, or give images of the model's own classes.",
        )
    folder.mkdir()
    entries = []
    for i in chosen:
        photo = reference.photos[i]
        name = f"{photo.sha256[:12]}{Path(photo.path).suffix.lower()}"
        (folder / name).write_bytes(read_bytes(root / photo.path))
        entries.append(
            {
                "file": name,
                "label": photo.label,
                "pixels_sha256": sha256_of_bytes(pixels[i].tobytes()),
                "logits": [float(value) for value in reference.logits[i]],
            }
        )
    (folder / "golden.json").write_bytes(canonical_json(entries))


def write_reference(path: Path, *references: Predictions) -> None:
    """Write reference.csv: sha256 of an image's bytes, then its reference logits."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["sha256", *(f"logit:{label}" for label in references[0].labels)])
        rows = {
            photo.sha256: [np.format_float_scientific(value, trim="-") for value in row]
            for reference in references
            for photo, row in zip(reference.photos, reference.logits, strict=True)
        }
        writer.writerows([sha256, *rows[sha256]] for sha256 in sorted(rows))


def _spread(reference: Predictions, count: int, min_margin: float, root: Path) -> list[int]:
    """Positions: one of each class in turn, each class in the order of a hash.

    What the service refuses for its size comes last: it could not be sent to it.
    """
    ordered = np.sort(reference.logits, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > min_margin
    seen: set[str] = set()
    ranks: dict[str, int] = {}
    ranked = []
    for i in sorted(
        np.flatnonzero(clear), key=lambda i: derive_seed("golden", reference.photos[i].sha256)
    ):
        photo = reference.photos[i]
        if photo.sha256 in seen:
            continue
        seen.add(photo.sha256)
        ranks[photo.label] = ranks.get(photo.label, 0) + 1
        ranked.append((ranks[photo.label], photo.label, int(i)))
    chosen: list[tuple[int, str, int]] = []
    refused: list[tuple[int, str, int]] = []
    for one in sorted(ranked):
        if len(chosen) == count:
            break
        is_refused = is_refused_by_service(read_bytes(root / reference.photos[one[2]].path))
        (refused if is_refused else chosen).append(one)
    return [i for _, _, i in (chosen or refused[:count])]
